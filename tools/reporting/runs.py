"""A run as a report shows it: from its results table, and from its journal and pictures where they lie beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dataset import DATASETS
from dataset.voc import voc_palette
from metrics.history import History, read_history
from metrics.journal import read_journal
from metrics.results import Row, count_first, forgetting, read_rows, summary
from tasks import Task, get_task
from tools.compare_seeds import harmonic_mean
from trained import built_in
from utils.errors import UserError


@dataclass(frozen=True)
class Run:
    """One results table, and what is known of it."""

    name: str
    path: Path  # of its table
    dataset: str  # "" where nothing says it, as the task and the scenario
    task: str
    scenario: str
    rows: list[Row]
    num_first: int  # classes of step 0, background included
    class_names: list[str]  # in order of arrival
    arrival: list[int]  # the step that brought each class
    palette: Any  # colours of the classes, as draw_strip takes them
    config: dict[str, Any]  # option -> value; empty without a journal
    samples: list[History]

    @property
    def figures(self) -> dict[str, float]:
        """What papers report, as fractions of 1; NaN for what there is not."""
        found = summary(self.rows, self.num_first)
        return {
            "all": found.final,
            "old": found.first,
            "new": found.later,
            "harmonic mean": harmonic_mean(found.first, found.later),
            "average over steps": found.average,
            "forgetting": forgetting(self.rows),
        }

    def forgetting_of(self, position: int) -> float:
        """How far a class fell from its best in the steps before the last; NaN where it was not known then."""
        known = [row for row in self.rows if position < len(row.iou)]
        return forgetting([Row(row.step, (row.iou[position],), 1, row.mean_iou) for row in known])


def read_run(path: Path, num_first: int | None = None) -> Run:
    """The run of the table at `path`. UserError where table or journal are none."""
    rows = read_rows(path)
    num_first = num_first or count_first(rows, path)
    journal = path.with_suffix(".jsonl")
    events = read_journal(journal) if journal.is_file() else []
    about = next((event for event in reversed(events) if event["event"] == "run"), {})
    dataset, task_name, name = _named(path.stem)
    task = _task(about.get("dataset", dataset), about.get("task", task_name))
    count = rows[0].num_classes
    try:
        names = [str(name) for name in about.get("class_names") or _class_names(task, count)]
        per_step = about.get("classes_per_step") or _classes_per_step(task, rows, num_first)
        arrival = [step for step, classes in enumerate(per_step) for _ in range(classes)]
        if not len(names) == len(arrival) == count:
            raise ValueError(f"{len(names)} classes, the table {count}")
        return Run(
            name=str(about.get("name", name)),
            path=path,
            dataset=str(about.get("dataset", dataset)),
            task=str(about.get("task", task.name if task else task_name)),
            scenario=str(about.get("scenario", _scenario_in(name))),
            rows=rows,
            num_first=num_first,
            class_names=names,
            arrival=arrival,
            palette=about.get("palette") or voc_palette(256),
            config=dict(about.get("config", {})),
            samples=read_history(path.parent / about["samples"]) if "samples" in about else [],
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{journal} is of another run than {path}: {error}; move it away") from None


def require_one_task(runs: Sequence[Run]) -> None:
    """UserError unless the runs can be compared."""
    kinds = [(run.dataset, run.task, run.rows[0].num_classes, run.num_first) for run in runs]
    for run, kind in zip(runs, kinds, strict=True):
        if kind != kinds[0]:
            told = [f"{of} {task}, {count} classes, {first} in step 0" for of, task, count, first in (kind, kinds[0])]
            raise UserError(f"{run.path} is of {told[0]}; {runs[0].path} of {told[1]}: report runs of one task")
    files = [run.path.resolve() for run in runs]
    for run, file in zip(runs, files, strict=True):
        if files.count(file) > 1:
            raise UserError(f"{run.path} is named twice: name each run once")


def _named(stem: str) -> tuple[str, str, str]:
    """Data set, task and name of a run in the name of its table, DATE_DATASET_TASK_NAME; a data set may hold a _."""
    _, _, rest = stem.partition("_")
    known = max((name for name in DATASETS if rest.startswith(f"{name}_")), key=len, default=rest.partition("_")[0])
    task, _, name = rest.removeprefix(f"{known}_").partition("_")
    return (known, task, name) if name else ("", "", stem)


def _task(dataset: str, name: str) -> Task | None:
    """The task, where both are known."""
    spec = built_in(dataset)
    try:
        return get_task(spec.facts, name) if spec else None
    except UserError:
        return None


def _class_names(task: Task | None, count: int) -> list[str]:
    spec = built_in(task.dataset) if task else None
    order = task.order(task.num_steps - 1) if task else ()
    if spec is None or len(order) != count:
        return [f"class {position}" for position in range(count)]
    return [spec.class_names[label] for label in order]


def _classes_per_step(task: Task | None, rows: Sequence[Row], num_first: int) -> list[int]:
    """From the task, else from how many classes each row knows."""
    count = rows[0].num_classes
    if task and sum(heads := task.classes_per_head(task.num_steps - 1)) == count:
        return list(heads)
    known = [num_first, *(len(row.iou) for row in rows if row.step > 0)]
    per_step = [num_first, *(later - before for before, later in pairwise(known))]
    return per_step if sum(per_step) == count else [*per_step, count - sum(per_step)]


def _scenario_in(name: str) -> str:
    """The scenario that the name of a run tells, in the manner of the authors' files."""
    return "overlapped" if "overlap" in name else "disjoint" if "disjoint" in name else ""
