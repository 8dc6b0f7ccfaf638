"""The runs of a report: one's own, from results table, journal and pictures, and what was published beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dataset import DATASETS
from dataset.voc import voc_palette
from metrics.pictures import History, read_history
from metrics.results import Row, figures, read_journal, read_results
from tasks import Step, get_task
from trained import built_in
from utils.errors import UserError, spelled_out

PUBLISHED = Path(__file__).with_name("published")
"""Results tables of RCIL's authors, and the figures of their paper (arXiv 2203.05402)."""
TITLES = {"harmonic": "harmonic mean", "average": "average over steps"}
"""What figures are called in a report, where it is not their name."""


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
    palette: np.ndarray  # (up to 256,3) uint8, colours in label order
    config: dict[str, Any]  # option -> value; empty without a journal
    samples: list[History]
    of_published_pictures: bool  # as far as its journal says
    processes: int  # that trained it; each has its own batch

    @property
    def kind(self) -> dict[str, Any]:
        """What must be the same in runs that are compared, by name; None where nothing says it."""
        named = not self.class_names[0].startswith("class ")
        return {
            "data set": self.dataset or None,
            "task": self.task or None,
            "number of classes": self.rows[0].num_classes,
            "number of classes in step 0": self.num_first,
            "scenario": self.scenario or None,
            "order of the classes": self.class_names if named else None,
            "label protocol": self.config.get("label_protocol"),
            "set of pictures": self.of_published_pictures if self.config else None,
            "measure": self.rows[0].measure.overall,
        }

    @property
    def figures(self) -> dict[str, float]:
        """What papers report, by title, as fractions of 1; NaN for what there is not."""
        found = figures(self.rows, self.num_first)
        return {TITLES.get(name, name): found[name] for name in ("all", "old", "new", *TITLES, "forgetting")}


def read_run(path: Path, num_first: int | None = None) -> Run:
    """The run of the table at `path`. UserError where table or journal are none."""
    rows, num_first = read_results(path, num_first)
    count, journal = rows[0].num_classes, path.with_suffix(".jsonl")
    events = read_journal(journal) if journal.is_file() else []
    about = _named(path.stem) | next((event for event in reversed(events) if event["event"] == "run"), {})
    if last := _last_step(about["dataset"], about["task"], count):
        class_names = built_in(about["dataset"]).class_names
        names, per_step = [class_names[label] for label in last.order], last.classes_per_head
    else:
        known = [0, num_first, *(len(row.per_class) for row in rows if row.step > 0), count]
        names, per_step = [f"class {label}" for label in range(count)], [b - a for a, b in pairwise(known)]
    try:
        names = [spelled_out(str(name)) for name in about.get("class_names") or names]
        per_step = about.get("classes_per_step") or per_step
        if not len(names) == sum(per_step) == count or min(per_step) < 0:
            raise ValueError(f"{len(names)} classes, {sum(per_step)} that arrive, and the table has {count}")
        palette = np.array(about.get("palette") or voc_palette(256), np.uint8)
        if palette.ndim != 2 or palette.shape[1] != 3 or len(palette) > 256:
            raise ValueError("its palette is none")
        return Run(
            name=spelled_out(str(about["name"])),
            path=path,
            dataset=str(about["dataset"]),
            task=last.task.name if last else str(about["task"]),
            scenario=str(about["scenario"]),
            rows=rows,
            num_first=num_first,
            class_names=names,
            arrival=[step for step, classes in enumerate(per_step) for _ in range(classes)],
            palette=palette,
            config=dict(about.get("config", {})),
            samples=read_history(path.parent / about["samples"]) if "samples" in about else [],
            of_published_pictures=about.get("published_pictures") is True,
            processes=int(about.get("processes", 1)),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{journal} is of another run than {path}: {error}; move it away") from None


def require_one_task(runs: Sequence[Run]) -> None:
    """UserError unless the runs can be compared."""
    files = [run.path.resolve() for run in runs]
    for run, file in zip(runs, files, strict=True):
        require_same_kind(run, runs[0])
        if files.count(file) > 1:
            raise UserError(f"{run.path} is named twice: name each run once")


def require_same_kind(run: Run, first: Run) -> None:
    """UserError unless the figures of both runs mean the same, as far as tables and journals say."""
    for name, mine, others in zip(first.kind, run.kind.values(), first.kind.values(), strict=True):
        if mine != others and None not in (mine, others):
            both = f"{name} {mine}, and {first.path} of {others}"
            said = both if isinstance(mine, str) or type(mine) is int else f"another {name} than {first.path}"
            raise UserError(f"{run.path} is of {said}: compare runs of one task, scenario, order and label protocol")


def _named(stem: str) -> dict[str, str]:
    """What the name of a table says, DATE_DATASET_TASK_NAME, and the authors' names of runs of the scenario; a data set
    may hold a _."""
    _, _, rest = stem.partition("_")
    known = max((name for name in DATASETS if rest.startswith(f"{name}_")), key=len, default=rest.partition("_")[0])
    task, _, name = rest.removeprefix(f"{known}_").partition("_")
    if not name:
        known, task, name = "", "", stem
    scenario = "overlapped" if "overlap" in name else "disjoint" if "disjoint" in name else ""
    return {"dataset": known, "task": task, "name": name, "scenario": scenario}


def _last_step(dataset: str, task: str, num_classes: int) -> Step | None:
    """The last step of the task, where both are known and the task has so many classes."""
    spec = built_in(dataset)
    try:
        last = get_task(spec.facts, task).steps[-1] if spec else None
    except UserError:
        return None
    return last if last and len(last.order) == num_classes else None


def finals(of: str = "final") -> dict[str, dict[str, float]]:
    """mIoU after the last step as it was published, in percent, by setting and method: in RCIL's paper, or
    "elsewhere", of networks that are not RCIL's."""
    return json.loads((PUBLISHED / "finals.json").read_text())[of]


@cache
def authors_runs() -> list[Run]:
    """The runs that RCIL's authors published, from the oldest on."""
    return [read_run(path) for path in sorted(PUBLISHED.glob("*.csv"))]


def published(dataset: str, task: str, scenario: str) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """What was published of a setting: the runs of RCIL's authors, by name and date, and mIoU after the last step by
    method, fractions of 1. No scenario: that of the task, if all figures are of one."""
    of_settings = finals()

    def setting_of(dataset: str, task: str, scenario: str) -> str:
        found = [setting for setting in of_settings if setting.startswith(f"{dataset} {task} {scenario}")]
        return found[0] if not scenario and len(found) == 1 else f"{dataset} {task} {scenario}"

    wanted = setting_of(dataset, task, scenario)
    found = [run for run in authors_runs() if setting_of(run.dataset, run.task, run.scenario) == wanted]
    names = [f"RCIL, authors, {run.path.name.partition('_')[0]}" for run in found]
    rows = {name: run.rows for name, run in zip(names, found, strict=True)}
    return rows, {method: percent / 100 for method, percent in of_settings.get(wanted, {}).items()}
