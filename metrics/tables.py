"""Tables, at most 100 columns wide in the terminal. Figures in percent, `-` for none."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from metrics.results import Row, figures
from metrics.scores import TOP_1, Scores, present_mean
from utils.errors import spelled_out

WIDTH = 100
MAX_NAME = 14
"""Characters of a class name that are shown, so that four columns fit."""
MAX_LIST = 66

LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = str.maketrans(LATEX | {sign: f"\\{sign}" for sign in "&%$#_{}"})


class Grid(NamedTuple):
    """Rows under a header; the first `left` columns are flush left, the others, of figures, right."""

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    left: int

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.cells, strict=True)]
        formats = [f"{{:{'<' if column < self.left else '>'}{width}}}" for column, width in enumerate(widths)]
        header, *rows = ("  ".join(formats).format(*row).rstrip() for row in (self.header, *self.cells))
        return "\n".join([header, "─" * (sum(widths) + 2 * (len(widths) - 1)), *rows])

    def markdown(self) -> str:
        """For a document."""
        rule = "|" + "---|" * self.left + "--:|" * (len(self.header) - self.left)
        escaped = ([spelled_out(field).replace("|", r"\|") for field in row] for row in (self.header, *self.cells))
        header, *rows = (f"| {' | '.join(row)} |" for row in escaped)
        return "\n".join([header, rule, *rows]) + "\n"

    def latex(self) -> str:
        """For a paper; wants the package booktabs."""
        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        lines = ([field.translate(LATEX) for field in row] for row in (self.header, *self.cells))
        header, *rows = (" & ".join(line) + r" \\" for line in lines)
        start, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
        return "\n".join([start, r"\toprule", header, r"\midrule", *rows, r"\bottomrule", end])


def percent(value: float, digits: int = 2) -> str:
    """A fraction as percent without the sign, `-` for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def spread(values: Sequence[float], scale: float = 100.0, digits: int = 2) -> str:
    """mean ± standard deviation of the sample, over what is not NaN; the mean alone of one value, `-` of none."""
    known = [scale * value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{deviation}"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def shorten_middle(text: str, width: int) -> str:
    """`text` in at most `width` characters, of which its two ends are kept: they tell files apart."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def step_table(scores: Scores, class_names: Sequence[str], num_old: int, title: str) -> str:
    """The figure of each class after a step, then the groups old / new / all, then the accuracies.

    `class_names` in label order; the first `num_old` are of earlier steps, the others are marked `+`
    (in step 0, where all are new, none is).
    """
    count = len(scores.matrix)
    names = [shorten(name, MAX_NAME) for name in class_names[:count]]
    width = max(map(len, names))
    cells = [
        f"{'+' if 0 < num_old <= position else ' '} {name:<{width}} {percent(scores.per_class[position], 1):>5}"
        for position, name in enumerate(names)
    ]
    old, new = present_mean(scores.per_class[:num_old]), present_mean(scores.per_class[num_old:])
    groups = f"{scores.measure.overall} {percent(scores.overall)}"
    if 0 < num_old < count:
        groups += f"   old classes {percent(old)}   + new classes {percent(new)}"
    accuracies = f"mean over classes {percent(scores.mean_accuracy)}"
    if scores.measure != TOP_1:
        accuracies = f"accuracy {percent(scores.overall_accuracy)}   {accuracies}   "
        accuracies += f"frequency-weighted IoU {percent(scores.fw_iou)}"
    body = in_columns(cells)
    rule = "─" * min(WIDTH, max(map(len, [title, groups, accuracies, *body])))
    return "\n".join([title, rule, *body, rule, groups, accuracies])


def classes_grid(scores: Scores, class_names: Sequence[str]) -> Grid:
    """A row per class: IoU and accuracy and pixels of the ground truth; of whole images accuracy and their number."""
    columns = {"IoU": map(percent, scores.iou), "accuracy": map(percent, scores.accuracy)}
    columns["pixels"] = (f"{count:,}" for count in scores.matrix.sum(1))
    if scores.measure == TOP_1:
        del columns["IoU"]
        columns["images"] = columns.pop("pixels")
    return Grid(["class", *columns], list(zip(class_names, *columns.values(), strict=True)), left=1)


def images_table(arriving: Sequence[Sequence[str]], counts: Sequence[Sequence[int]], title: str) -> str:
    """A row per step: the names of what arrives, and training, validation and test images (`counts`)."""
    lists = (shorten(f"{len(names)}: {', '.join(names)}", MAX_LIST) for names in arriving)
    cells = [
        (str(step), names, *map("{:,}".format, of_step))
        for step, (of_step, names) in enumerate(zip(counts, lists, strict=True))
    ]
    return f"{title}\n{Grid(('step', 'new', 'train', 'val', 'test'), cells, left=2)}"


def run_table(rows: Sequence[Row], num_first: int) -> Grid:
    """A row per step: the means of the classes that were known before it, of those that it brought, of all, of those of
    the first step and of later ones; the average of all so far; and how far what was known fell from its best."""
    num_classes = rows[0].num_classes
    later = _span(num_first, num_classes) if num_first < num_classes else "-"
    groups = f"first {_span(0, num_first)}", f"later {later}"
    header = ("step", "classes", "old", "new", "all", *groups, "average", "forgetting")
    num_old = {0: 0} | {row.step + 1: len(row.per_class) for row in rows}
    cells = []
    for count, row in enumerate(rows, start=1):
        known = num_old.get(row.step)  # None where the step before has no row
        parts = row.per_class[:known], row.per_class[known:]
        old, new = (math.nan if known is None else present_mean(part) for part in parts)
        found = figures(rows[:count], num_first)
        means = old, new, *(found[name] for name in ("all", "old", "new", "average", "forgetting"))
        cells.append((str(row.step), str(len(row.per_class)), *map(percent, means)))
    return Grid(header, cells, left=0)


def in_columns(cells: Sequence[str]) -> list[str]:
    """Equally wide cells as lines of several columns, to be read down each column."""
    gap = 3
    num_columns = max(1, min((WIDTH + gap) // (len(cells[0]) + gap), math.ceil(len(cells) / 4)))
    num_lines = math.ceil(len(cells) / num_columns)
    return [(" " * gap).join(cells[line::num_lines]).rstrip() for line in range(num_lines)]


def _span(start: int, end: int) -> str:
    """Class positions start..end-1."""
    return f"{start}-{end - 1}" if end - start > 1 else f"{start}"
