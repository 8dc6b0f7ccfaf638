"""The results file of a run, `DATE_DATASET_TASK_NAME.csv` (SPEC 8).

No header, but maybe lines that start with # and say under which labels was scored. A row a step:
`step,IoU_0,...,IoU_{n-1},mIoU`, the n classes of the task in its label order. `x` stands for a class that no step has
brought yet, `X` for one that was seen but does not occur in the ground truth. Figures are fractions of 1, written so
that reading gives the same float.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.scores import Scores, present_mean
from utils.errors import UserError
from utils.files import atomic_write

NOT_SEEN = "x"
ABSENT = "X"
LONGEST_STEP = 6
"""Digits of the number of a step."""


@dataclass(frozen=True)
class Row:
    """The scores after one step."""

    step: int
    iou: tuple[float, ...]
    """IoU of the classes seen so far, in label order; NaN for one that is absent from the ground truth."""
    num_classes: int
    """Classes of the whole task, seen or not."""
    mean_iou: float
    """NaN where no class occurs in the ground truth."""

    @classmethod
    def from_scores(cls, step: int, scores: Scores, num_classes: int) -> "Row":
        """The row of `step` in a task of `num_classes` classes, of which `scores` covers the first ones."""
        assert scores.num_classes <= num_classes, (scores.num_classes, num_classes)
        return cls(step, tuple(map(float, scores.iou)), num_classes, scores.mean_iou)

    def first_mean(self, num_first: int) -> float:
        """Mean IoU over the first step's classes, background included; NaN if none occurs."""
        return present_mean(self.iou[:num_first])

    def later_mean(self, num_first: int) -> float:
        """Mean IoU over the classes that came after the first step; NaN if none occurs."""
        return present_mean(self.iou[num_first:])


@dataclass(frozen=True)
class Summary:
    """A results file in five figures; IoU as fractions of 1, NaN where nothing was there to average."""

    last_step: int
    final: float
    """mIoU after the last step."""
    average: float
    """Mean over the steps of the mIoU after each."""
    first: float
    """After the last step, mean over the first step's classes, background included."""
    later: float
    """After the last step, mean over all other classes."""


def results_path(results_dir: Path, date: str, dataset: str, task: str, name: str) -> Path:
    """Where a run keeps its results."""
    return Path(results_dir) / f"{date}_{dataset}_{task}_{name}.csv"


def write_row(path: Path, row: Row, note: str = "") -> None:
    """Put `row` into the file at `path`, in place of the row of the same step if there is one; `note` heads the file.

    UserError if the file is malformed or belongs to a task with another number of classes.
    """
    path = Path(path)
    rows = rows_to_go_on_with(path, row.num_classes)
    rows = sorted([other for other in rows if other.step != row.step] + [row], key=lambda other: other.step)
    with atomic_write(path, "w") as file:
        file.write(f"# {note}\n" if note else "")
        csv.writer(file, lineterminator="\n").writerows(map(_fields, rows))


def rows_to_go_on_with(path: Path, num_classes: int) -> list[Row]:
    """The rows that a run of a task with so many classes finds at `path`, none if there is no such file yet.

    UserError if the file is malformed or of a task with another number of classes.
    """
    rows = read_rows(path) if path.exists() else []
    if rows and rows[0].num_classes != num_classes:
        raise UserError(
            f"{path} holds {rows[0].num_classes} classes and this run has {num_classes}: move it away, "
            "or give another --name or --date"
        )
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file, by step. UserError if there is no such file or it is not one of results."""
    try:
        with open(path, newline="", encoding="ascii") as file:
            numbered = enumerate(csv.reader(file), start=1)
            lines = [(number, fields) for number, fields in numbered if fields and not fields[0].startswith("#")]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a results file, DATE_DATASET_TASK_NAME.csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a results file: it is not plain text of comma-separated values") from error
    if not lines:
        raise UserError(f"{path} is empty: a results file has a row a step, step,IoU_0,...,mIoU")
    rows = []
    for number, fields in lines:
        try:
            rows.append(_row(fields))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; a row is step,IoU_0,...,mIoU") from error
        if rows[-1].num_classes != rows[0].num_classes:
            raise UserError(f"{path}, line {number}: {len(fields)} fields, the first row has {len(lines[0][1])}")
    if len({row.step for row in rows}) != len(rows):
        raise UserError(f"{path}: two rows of the same step; keep one of them")
    return sorted(rows, key=lambda row: row.step)


def count_first(rows: Sequence[Row], path: Path) -> int:
    """How many classes step 0 has: those that the row of step 0 knows. UserError if that row is missing."""
    if rows[0].step != 0:
        raise UserError(f"{path} has no row of step 0, which tells the first step's classes; say --first N")
    return len(rows[0].iou)


def summary(rows: Sequence[Row], num_first: int) -> Summary:
    """The figures that papers report; `num_first` classes, background included, are of step 0."""
    last = rows[-1]
    return Summary(
        last_step=last.step,
        final=last.mean_iou,
        average=present_mean([row.mean_iou for row in rows]),
        first=last.first_mean(num_first),
        later=last.later_mean(num_first),
    )


def forgetting(rows: Sequence[Row]) -> float:
    """How far the classes known before the last step fell from their best: mean of max_t IoU_c(t) - IoU_c(T).

    Negative where they went on learning; NaN where no class was known before, or none occurs.
    """
    last = np.array(rows[-1].iou)
    known = len(rows[-2].iou) if len(rows) > 1 else 0
    earlier = np.full((len(rows), known), np.nan)
    for number, row in enumerate(rows[:-1]):
        earlier[number, : len(row.iou)] = row.iou
    best = np.fmax.reduce(earlier, axis=0)
    return present_mean(best - last[:known])


def _fields(row: Row) -> list[str]:
    figures = [ABSENT if math.isnan(value) else repr(float(value)) for value in (*row.iou, row.mean_iou)]
    unseen = [NOT_SEEN] * (row.num_classes - len(row.iou))
    return [str(row.step), *figures[:-1], *unseen, figures[-1]]


def _row(fields: list[str]) -> Row:
    """ValueError, with what is wrong, if the fields are not a row."""
    fields = [field.strip() for field in fields]
    if len(fields) < 3:
        raise ValueError(f"{len(fields)} fields")
    if not fields[0].isdecimal() or len(fields[0]) > LONGEST_STEP:
        raise ValueError(f"{_shown(fields[0])} is no step")
    *classes, mean = fields[1:]
    seen = next((position for position, field in enumerate(classes) if field == NOT_SEEN), len(classes))
    if any(field != NOT_SEEN for field in classes[seen:]):
        raise ValueError(f"a figure after {NOT_SEEN!r}, though classes come in order")
    if not seen:
        raise ValueError("no class was seen")
    return Row(int(fields[0]), tuple(map(_figure, classes[:seen])), len(classes), _figure(mean))


def _figure(field: str) -> float:
    if field == ABSENT:
        return math.nan
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{_shown(field)} is neither a fraction from 0 to 1 nor {ABSENT!r} or {NOT_SEEN!r}")
    return value


def _shown(field: str) -> str:
    """In quotes, and not the whole of a field that fills a page."""
    return repr(field) if len(field) <= 40 else f"{field[:40]!r}..."
