"""The files of a run in the results folder: its table, for people and tools, and its journal, for other programs.

`DATE_DATASET_TASK_NAME.csv` (SPEC 8) has no header, but maybe lines that start with # and say what was scored. A row a
step: `step,IoU_0,...,IoU_{n-1},mIoU`, the n classes of the task in its label order. Where whole images are classified,
which such a line says, the figures are accuracies, the last of them that of all images. `x` stands for a class that no
step has brought yet, `X` for one that was seen but does not occur in the ground truth. Figures are fractions of 1,
written so that reading gives the same float.

`DATE_DATASET_TASK_NAME.jsonl` has a line of JSON for all that was measured, with `event` and `time` (seconds since
1970). Events: `run` (what ran: data set, task, class names, options), `losses` (step, iteration, lr and each loss),
`validation` (step, epoch and scores) and `test` (step, scores and the IoU of each class). Null stands for no figure.
"""

import csv
import glob
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config import RunConfig
from metrics.scores import MIOU, TOP_1, Measure, present_mean
from utils.errors import UserError, one_line
from utils.files import atomic_write, read_text

NOT_SEEN, ABSENT = "x", "X"
TOP_1_NOTE = "# top-1: the accuracy of each class, then of all images\n"
COUNTED = ("step", "iteration", "epoch")
"""What is a whole number in any event that has it."""
LONGEST_STEP = 6
"""Digits of the number of a step."""


class Row(NamedTuple):
    """The scores after one step, as `measure` has them."""

    step: int
    per_class: tuple[float, ...]  # of those seen so far, in label order; NaN for one absent from the ground truth
    num_classes: int  # of the whole task, seen or not
    overall: float  # NaN where no class occurs in the ground truth
    measure: Measure = MIOU

    def __str__(self) -> str:
        return f"{self.measure.overall} {100 * self.overall:.2f}"


def results_of(config: RunConfig, dataset: str, task: str) -> Path:
    """The results table of a run: of `--date`, else the newest one of this name where it resumes, else of today."""
    name = f"_{dataset}_{task}_{config.name}.csv"
    started = sorted(config.results_dir.glob(f"????-??-??{glob.escape(name)}"))
    if started and config.date is None and (config.resume or config.test):
        return started[-1]
    return config.results_dir / f"{config.date or date.today().isoformat()}{name}"


def write_row(path: Path, row: Row, note: str = "") -> None:
    """Put `row` into the file at `path`, in place of the row of the same step if there is one; `note` heads the file.

    UserError if the file is malformed or belongs to a task with another number of classes.
    """
    rows = sorted([other for other in rows_to_extend(path, row.num_classes) if other.step != row.step] + [row])
    with atomic_write(path, "w") as file:
        file.write(TOP_1_NOTE if row.measure == TOP_1 else "")
        file.write(f"# {note}\n" if note else "")
        csv.writer(file, lineterminator="\n").writerows(map(_fields, rows))


def rows_to_extend(path: Path, num_classes: int) -> list[Row]:
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
    text = read_text(path, "name a results file, DATE_DATASET_TASK_NAME.csv")
    try:
        numbered = list(enumerate(csv.reader(io.StringIO(text, newline="")), start=1))
    except csv.Error as error:
        raise UserError(f"{path} is not a results file: {error}") from error
    lines = [(number, fields) for number, fields in numbered if fields and not fields[0].startswith("#")]
    if not lines:
        raise UserError(f"{path} is empty: a results file has a row a step, step,IoU_0,...,mIoU")
    notes = [fields[0] for _, fields in numbered if fields and fields[0].startswith("#")]
    measure = TOP_1 if any(note.startswith("# top-1") for note in notes) else MIOU
    rows: dict[int, Row] = {}
    for number, fields in lines:
        try:
            row = _row(fields)._replace(measure=measure)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; a row is step,IoU_0,...,mIoU") from error
        if len(fields) != len(lines[0][1]):
            raise UserError(f"{path}, line {number}: {len(fields)} fields, the first row has {len(lines[0][1])}")
        if rows.setdefault(row.step, row) is not row:
            raise UserError(f"{path}: two rows of the same step; keep one of them")
    return [rows[step] for step in sorted(rows)]


def read_results(path: Path, num_first: int | None = None) -> tuple[list[Row], int]:
    """The rows of a results file, and the number of classes of step 0: those that its row knows, or `num_first`.

    UserError as `read_rows`, or where that row is missing, or `num_first` is more than there are.
    """
    rows = read_rows(path)
    if num_first is None and rows[0].step != 0:
        raise UserError(f"{path} has no row of step 0, which tells the first step's classes; say --first N")
    if num_first is not None and not 0 < num_first <= rows[0].num_classes:
        raise UserError(f"--first {num_first}: from 1 to {rows[0].num_classes}, the classes of {path}")
    return rows, num_first or len(rows[0].per_class)


def figures(rows: Sequence[Row], num_first: int) -> dict[str, float]:
    """The figures that papers report, as fractions of 1; NaN where there is nothing to average.

    `all`, `old` and `new`: mIoU after the last step, of all classes, of the `num_first` of step 0, background included,
    and of the later ones. Of whole images: top-1 of all, and the mean accuracy of these classes. `harmonic`: harmonic
    mean of old and new, which knowing only one of them does not raise. `average`: mean of `all` over the steps.
    `forgetting`: mean of `forgetting` over the classes.
    """
    old, new = present_mean(rows[-1].per_class[:num_first]), present_mean(rows[-1].per_class[num_first:])
    return {
        "all": rows[-1].overall,
        "average": present_mean([row.overall for row in rows]),
        "old": old,
        "new": new,
        "harmonic": 2 * old * new / (old + new) if old + new != 0 else 0.0,
        "forgetting": present_mean(forgetting(rows)),
    }


def class_matrix(rows: Sequence[Row]) -> np.ndarray:
    """(T,C) the figure of each class of the task after each step; NaN where it was not seen yet, or does not occur."""
    return np.array([row.per_class + (math.nan,) * (row.num_classes - len(row.per_class)) for row in rows])


def forgetting(rows: Sequence[Row]) -> np.ndarray:
    """(C,) how far each class fell from its best before the last step: max_t IoU_c(t) - IoU_c(T), or of accuracies.

    Negative where it went on learning; NaN where it was not known before, or does not occur.
    """
    *before, last = class_matrix(rows)
    return np.fmax.reduce(before, axis=0, initial=math.nan) - last


def _fields(row: Row) -> list[str]:
    values = (*row.per_class, row.overall)
    *classes, overall = (ABSENT if math.isnan(value) else repr(float(value)) for value in values)
    return [str(row.step), *classes, *[NOT_SEEN] * (row.num_classes - len(classes)), overall]


def _row(fields: list[str]) -> Row:
    """ValueError, with what is wrong, if the fields are not a row."""
    if len(fields) < 3:
        raise ValueError(f"{len(fields)} fields")
    step, *classes, mean = (field.strip() for field in fields)
    if not step.isdecimal() or len(step) > LONGEST_STEP:
        raise ValueError(f"{_shown(step)} is no step")
    seen = classes.index(NOT_SEEN) if NOT_SEEN in classes else len(classes)
    if {*classes[seen:]} > {NOT_SEEN}:
        raise ValueError(f"a figure after {NOT_SEEN!r}, though classes come in order")
    if not seen:
        raise ValueError("no class was seen")
    return Row(int(step), tuple(map(_figure, classes[:seen])), len(classes), _figure(mean))


def _figure(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not (0 <= value <= 1 or field == ABSENT):
        raise ValueError(f"{_shown(field)} is neither a fraction from 0 to 1 nor {ABSENT!r} or {NOT_SEEN!r}")
    return value


def _shown(field: str) -> str:
    """In quotes, and not the whole of a field that fills a page."""
    return repr(field) if len(field) <= 40 else f"{field[:40]!r}..."


class Journal:
    """Writes to `path`; `about` is what its `run` event says, before any other; `begin` is called before that."""

    def __init__(self, path: Path, about: Mapping[str, Any], begin: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.about = about
        self.begin = begin
        self._introduced = False

    def write(self, event: str, **facts: Any) -> None:
        """Add a line. OSError where that cannot be done."""
        if not self._introduced:
            # Not before it is needed: a run that is refused leaves no file.
            self._introduced = True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.begin()
            self.drop(lambda _: False)
            self.write("run", **self.about)
        line = json.dumps({"event": event, "time": round(time.time(), 3)} | plain(facts), allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Remove the lines of events that are `unwanted`, because they will come again; and one that was cut off."""
        if not self.path.exists():
            return
        events = read_journal(self.path)
        kept = [event for event in events if not unwanted(event)]
        if len(kept) < len(events) or not self.path.read_bytes().endswith(b"\n"):
            with atomic_write(self.path, "w") as file:
                file.writelines(json.dumps(event) + "\n" for event in kept)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The events of the file, but for a last line that was cut off. UserError where it is no journal."""
    cure, events = "move the file away, and the run writes a new one", []
    *whole, _ = read_text(path, cure).split("\n")
    for number, line in enumerate(whole, start=1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {one_line(error)}; {cure}") from None
        kind = event.get("event") if isinstance(event, dict) else None
        if not isinstance(kind, str) or not all(isinstance(event.get(name, 0), int) for name in COUNTED):
            raise UserError(f"{path}, line {number}: no event of a run; {cure}")
        events.append(event)
    return events


def plain(value: Any) -> Any:
    """What JSON knows: what is not finite becomes null, and what is neither figure nor text its spelling."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
