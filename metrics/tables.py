"""Tables, at most 100 columns wide in the terminal. Figures in percent, `-` for none."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metrics.grid import Grid
from metrics.results import Row, Summary, summary
from metrics.scores import Scores, present_mean

WIDTH = 100
MAX_NAME = 14
"""Characters of a class name that are shown, so that four columns fit."""
MAX_RUN_NAME = 58
MAX_LIST = 66
MAX_COMPARED_NAME = 32


def percent(value: float, digits: int = 2) -> str:
    """A fraction as percent without the sign, `-` for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def shorten_middle(text: str, width: int) -> str:
    """`text` in at most `width` characters, of which its two ends are kept: they tell files apart."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def step_table(scores: Scores, class_names: Sequence[str], num_old: int, title: str) -> str:
    """IoU per class after a step, then the groups old / new / all, then the accuracies.

    `class_names` in label order; the first `num_old` are of earlier steps, the others are marked `+`
    (in step 0, where all are new, none is).
    """
    count = scores.num_classes
    marks = ["+" if 0 < num_old <= position else " " for position in range(count)]
    names = [shorten(name, MAX_NAME) for name in class_names[:count]]
    width = max(map(len, names))
    cells = [
        f"{mark} {name:<{width}} {percent(value, 1):>5}"
        for mark, name, value in zip(marks, names, scores.iou, strict=True)
    ]
    old, new = scores.mean_over(range(num_old)), scores.mean_over(range(num_old, count))
    groups = f"mIoU {percent(scores.mean_iou)}"
    if 0 < num_old < count:
        groups += f"   old classes {percent(old)}   + new classes {percent(new)}"
    accuracies = (
        f"accuracy {percent(scores.overall_accuracy)}   mean over classes {percent(scores.mean_accuracy)}   "
        f"frequency-weighted IoU {percent(scores.frequency_weighted_accuracy)}"
    )
    body = _columns(cells)
    rule = "─" * min(WIDTH, max(map(len, [title, groups, accuracies, *body])))
    return "\n".join([title, rule, *body, rule, groups, accuracies])


def images_table(arriving: Sequence[Sequence[str]], counts: Sequence[Sequence[int]], title: str) -> str:
    """A row per step: training, validation and test images (`counts`), and the names of what arrives."""
    lists = ["new", *(shorten(f"{len(names)}: {', '.join(names)}", MAX_LIST) for names in arriving)]
    width = max(map(len, lists))
    header, *lists = (text.ljust(width) for text in lists)
    cells = [
        (str(step), *map("{:,}".format, of_step), names)
        for step, (of_step, names) in enumerate(zip(counts, lists, strict=True))
    ]
    return f"{title}\n{Grid(('step', 'train', 'val', 'test', header), cells, left=0)}"


class ClassCount(NamedTuple):
    """How much of a class a data set holds."""

    step: int  # that brings it
    name: str
    pixels: int  # in the training masks
    train_images: int
    val_images: int


def classes_table(classes: Sequence[ClassCount]) -> str:
    """Pixels of each class, as percent of all that have one, and the images that show it, in columns."""
    total = max(1, sum(count.pixels for count in classes))
    names = [shorten(count.name, MAX_NAME) for count in classes]
    width = max(map(len, names))
    cells = [
        f"{count.step:>2}  {name:<{width}} {100 * count.pixels / total:6.2f}%"
        f"{count.train_images:>7,} {count.val_images:>6,}"
        for name, count in zip(names, classes, strict=True)
    ]
    title = f"step, class, percent of {total:,} labelled training pixels, training and validation images that show it"
    return "\n".join([title, *_columns(cells)])


def run_table(rows: Sequence[Row], num_first: int) -> Grid:
    """A row per step: mIoU of the first step's classes, of the later ones, of all, and the average so far."""
    num_classes = rows[0].num_classes
    later = _span(num_first, num_classes) if num_first < num_classes else "-"
    header = ("step", "classes", f"first {_span(0, num_first)}", f"later {later}", "all", "average")
    cells = [
        (
            str(row.step),
            str(len(row.iou)),
            percent(row.first_mean(num_first)),
            percent(row.later_mean(num_first)),
            percent(row.mean_iou),
            percent(present_mean([earlier.mean_iou for earlier in rows[: index + 1]])),
        )
        for index, row in enumerate(rows)
    ]
    return Grid(header, cells, left=0)


def summary_table(summaries: Mapping[str, Summary]) -> Grid:
    """A row per results file: last step, final and average mIoU, first step's classes, later ones."""
    header = ("", "last step", "final", "average", "first", "later")
    cells = [
        (
            shorten_middle(name, MAX_RUN_NAME),
            str(figures.last_step),
            *map(percent, (figures.final, figures.average, figures.first, figures.later)),
        )
        for name, figures in summaries.items()
    ]
    return Grid(header, cells, left=1)


def comparison_table(rows_by_run: Mapping[str, Sequence[Row]], num_first: int) -> Grid:
    """Several runs of one task after their last step, with the difference from the first run in points."""
    summaries = {name: summary(rows, num_first) for name, rows in rows_by_run.items()}
    reference = next(iter(summaries.values()))
    header = ["", "step"]
    for title in ("first", "later", "all", "average"):
        header += [title, "diff"] if len(summaries) > 1 else [title]
    cells = []
    for name, figures in summaries.items():
        row = [shorten_middle(name, MAX_COMPARED_NAME), str(figures.last_step)]
        for group in ("first", "later", "final", "average"):
            value, base = getattr(figures, group), getattr(reference, group)
            row.append(percent(value))
            if len(summaries) > 1:
                row.append("" if figures is reference else _difference(value - base))
        cells.append(row)
    return Grid(header, cells, left=1)


class Spread(NamedTuple):
    """A figure over several seeds; NaN where there is none."""

    mean: float
    deviation: float  # of the sample; NaN for one seed

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Mean and standard deviation of what is not NaN."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan)
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else math.nan)

    def text(self, scale: float = 100.0, digits: int = 2) -> str:
        """mean ± deviation, `-` for none."""
        if math.isnan(self.mean):
            return "-"
        spread = "" if math.isnan(self.deviation) else f" ± {scale * self.deviation:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"


def seeds_table(figures: Mapping[str, Mapping[str, Spread]], num_seeds: Mapping[str, int]) -> Grid:
    """A row per run with mean ± standard deviation of each figure over its seeds; minutes are no percentage."""
    titles = list(next(iter(figures.values())))
    cells = [
        [shorten_middle(name, MAX_COMPARED_NAME), str(num_seeds[name])]
        + [row[title].text(1.0, 1) if title == "minutes" else row[title].text() for title in titles]
        for name, row in figures.items()
    ]
    return Grid(["", "seeds", *titles], cells, left=1)


def _difference(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def _span(start: int, end: int) -> str:
    """Class positions start..end-1."""
    return f"{start}-{end - 1}" if end - start > 1 else f"{start}"


def _columns(cells: Sequence[str]) -> list[str]:
    """Equally wide cells as lines of several columns, to be read down each column."""
    gap = 3
    num_columns = max(1, min((WIDTH + gap) // (len(cells[0]) + gap), math.ceil(len(cells) / 4)))
    num_lines = math.ceil(len(cells) / num_columns)
    return [(" " * gap).join(cells[line::num_lines]).rstrip() for line in range(num_lines)]
