"""A published row, run or resumed, and the verdict: reproduced, below or above.

    python tools/reproduce.py RCIL voc 15-1 overlapped --dry-run
    python tools/reproduce.py RCIL voc 15-1 overlapped --results results/2026-01-31_voc_15-1_RCIL-overlap.csv
    python tools/reproduce.py --table

Without --results the row is trained with scripts/train.sh, or resumed, and its newest table judged. Exit code 1 where
it is below. Tables of another data set, task, scenario, method or of other settings are refused.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from argparser import parse
from config import DataConfig, ModelConfig, OptimConfig, option_fields, options_of
from dataset.voc import SPEC as VOC
from metrics.tables import Grid
from tasks import get_task
from tools.report import main as report
from tools.reporting.runs import Run, finals, published, read_run
from utils.errors import UserError, exit_code
from utils.files import atomic_write
from utils.options import ToolParser, a_path

ROOT = Path(__file__).resolve().parents[1]
PAGE, REPRODUCED = ROOT / "docs" / "REPRODUCING.md", ROOT / "docs" / "results" / "reproduced"
STUDENT_T = 4.303
"""97.5 % of Student's distribution for two degrees of freedom, one for each pair of repeats that was published."""
REPEATED = ("overlapped", "disjoint")
"""Scenarios in which VOC 15-1 was run twice."""
BOUND = 415.4
"""Images a second of RCIL on an H100 at most: counted, not measured (docs/PERFORMANCE.md)."""
NOT_COMPARED = ("pretrained", "pooling", "label_protocol")
"""Options of the network whose value says nothing of what was trained; or that are looked at by themselves."""


class Row(NamedTuple):
    """A published row."""

    method: str
    dataset: str
    task: str
    scenario: str
    final: float  # mIoU after the last step, in percent, as it is printed
    steps: tuple[float, ...]  # after each step, the mean of the runs of RCIL's authors; empty where there is none

    @property
    def words(self) -> list[str]:
        """As scripts/train.sh takes it."""
        setting = {"overlapped": ["overlap"], "disjoint": ["disjoint"]}.get(self.scenario, [])
        return [self.method, self.dataset, self.task, *setting]

    def __str__(self) -> str:
        return f"{self.method} {self.dataset} {self.task} {self.scenario}"


def rows() -> list[Row]:
    """All that was published, setting by setting, RCIL's paper first."""
    found = []
    for setting, by_method in [*finals().items(), *finals("elsewhere").items()]:
        dataset, task, scenario = setting.split(" ", 2)
        runs, _ = published(dataset, task, scenario)
        curves = np.array([[100 * row.overall for row in of_run] for of_run in runs.values()])
        for method, final in by_method.items():
            steps = tuple(curves.mean(axis=0).tolist()) if runs and method == "RCIL" else ()
            found.append(Row(method, dataset, task, scenario, final, steps))
    return found


def find(method: str, dataset: str, task: str, scenario: str | None) -> Row:
    """The row of that name. UserError where none was published."""
    of_task = [row for row in rows() if (row.dataset, row.task) == (dataset, task)]
    fits = [row for row in of_task if row.method == method and scenario in (None, row.scenario)]
    if len(fits) != 1:
        of_method = [row for row in rows() if row.method == method]
        near = [str(row) for row in of_method if row in of_task] or list(map(str, of_method))
        near = near or sorted({row.method for row in rows()})
        asked = " ".join(filter(None, (method, dataset, task, scenario)))
        raise UserError(f"{asked}: no one published row; choose from {'; '.join(near)}")
    return fits[0]


def tolerance(num_runs: int) -> float:
    """Points by which the mean of so many runs may differ from a published one.

    RCIL's authors published two settings twice. Half the mean square of their differences, over all steps, is the
    variance of a run. A published run and the mean of n differ with that variance times 1 + 1/n.
    """
    squares = []
    for scenario in REPEATED:
        one, other = published("voc", "15-1", scenario)[0].values()
        squares += [(100 * (a.overall - b.overall)) ** 2 for a, b in zip(one, other, strict=True)]
    return STUDENT_T * math.sqrt(np.mean(squares) / 2 * (1 + 1 / num_runs))


def require_of(run: Run, row: Row) -> None:
    """UserError where the table is not of this row, or not of all its steps."""
    about = {"dataset": run.dataset, "task": run.task, "scenario": run.scenario or row.scenario}
    about["method"] = run.config.get("method", row.method)
    for name, value in about.items():
        if value != getattr(row, name):
            raise UserError(f"{run.path} is of {name} {value}, not {getattr(row, name)}: judge it beside its own row")
    if run.config:
        if not run.of_published_pictures:
            raise UserError(f"{run.path} is of other pictures than the published ones, or of a part of them")
        if run.config.get("label_protocol") != DataConfig.label_protocol:
            raise UserError(f"{run.path} learnt labels as MiB's code makes them, and its figures are no others' equal")
        if other := deviations(run, row):
            raise UserError(f"{run.path} has other settings than were published: {', '.join(other)}")
    last = get_task(parse(options(row)).spec.facts, row.task).num_steps - 1
    if [step.step for step in run.rows] != [*range(last + 1)]:
        raise UserError(f"{run.path} has not all steps from 0 to {last}: finish it first")


def options(row: Row) -> list[str]:
    """Those of run.py that mean the row."""
    scenario = ["--overlap"] if row.scenario == "overlapped" else []
    return ["--method", row.method, "--dataset", row.dataset, "--task", row.task, *scenario]


def deviations(run: Run, row: Row) -> list[str]:
    """Settings of a run that are not those of the row: what, its value, and the published one. The batch is that of
    all processes."""
    config = dict(run.config)
    if "batch_size" in config:
        config["batch_size"] = config["batch_size"] * config.get("accumulate", 1) * run.processes
    parsed = parse(options(row)).config
    usual = options_of(parsed)
    parts = (OptimConfig, ModelConfig, type(parsed.method))
    compared = {
        "crop_size",
        "batch_size",
        "data_masking",
        *(spec.name for part in parts for spec in option_fields(part)),
    } - {*NOT_COMPARED}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in usual.items()}
    found = [name for name in sorted(compared & config.keys()) if config[name] != plain[name]]
    return [f"--{name} {config[name]} (published: {plain[name]})" for name in found]


def judge(runs: Sequence[Run], row: Row) -> tuple[Grid, str]:
    """A line a step that was published, the final one last, and the verdict on that."""
    allowed = tolerance(len(runs))
    here = np.mean([[100 * step.overall for step in run.rows] for run in runs], axis=0)
    steps = [(str(step), value, target) for step, (value, target) in enumerate(zip(here, row.steps, strict=False))]
    cells, verdict = [], ""
    for name, value, target in [*steps, ("final", here[-1], row.final)]:
        difference = value - target
        verdict = "reproduced" if abs(difference) <= allowed else "below" if difference < 0 else "above"
        cells.append([name, f"{value:.2f}", f"{target:.2f}", f"{difference:+.2f}", verdict])
    return Grid(["step", "here", "published", "difference", "verdict"], cells, left=1), verdict


def plan(row: Row) -> str:
    """What will be run, how much that is, and what is published."""
    parsed = parse(options(row))
    lines = [f"runs       sh scripts/train.sh {' '.join(row.words)}"]
    sizes = [
        size for size in VOC.step_sizes if (row.dataset, size.task, size.scenario) == ("voc", row.task, row.scenario)
    ]
    if sizes:
        epochs, crop = parsed.config.optim.epochs, parsed.config.data.crop_size
        images = sum(count * epochs[min(step, len(epochs) - 1)] for step, count in enumerate(sizes[0].train))
        lines.append(f"takes      {images:,} images of {crop} x {crop}, on as many GPUs as there are, or GPUS=N")
        if row.method == "RCIL":
            hours = images / BOUND / 3600
            lines.append(f"           more than {hours:.1f} h on one H100: that is the bound, counted and not measured")
    else:
        lines.append("takes      so many images as the data has, which are not counted here; nothing was measured")
    lines.append(
        f"published  {row.final} after the last step" + (f"; by step {_shown(row.steps)}" if row.steps else "")
    )
    lines.append(
        f"tolerance  {tolerance(1):.2f} points for one run, {tolerance(3):.2f} for the mean of three: the spread"
    )
    lines.append("           of the two settings that RCIL's authors published twice, see docs/REPRODUCING.md")
    return "\n".join(lines)


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def newest(row: Row, folder: Path) -> Path:
    """The table that scripts/train.sh wrote. UserError where there is none."""
    name = os.environ.get("NAME") or "-".join([row.method, *row.words[3:]])
    found = sorted(folder.glob(f"????-??-??_{row.dataset}_{row.task}_{name}.csv"))
    if not found:
        raise UserError(f"{folder} has no table of {row}: name it with --results")
    return found[-1]


def reproduce(asked: argparse.Namespace) -> int:
    """Plan, run where no table is given, judge and report; 1 where it is below."""
    if asked.table:
        with atomic_write(PAGE, "w") as file:
            file.write(page())
        print(PAGE.relative_to(ROOT))
        return 0
    if not asked.row or len(asked.row) not in (3, 4):
        raise UserError("name a row: METHOD DATASET TASK [SCENARIO], as RCIL voc 15-1 overlapped; or give --table")
    row = find(*asked.row[:3], asked.row[3] if len(asked.row) > 3 else None)
    print(f"{row}\n{plan(row)}\n", flush=True)
    if asked.dry_run:
        return 0
    code = 0 if asked.results else subprocess.run(["sh", str(ROOT / "scripts" / "train.sh"), *row.words]).returncode
    if code:
        return code
    paths = asked.results or [newest(row, ROOT / "results")]
    runs = [read_run(path) for path in paths]
    for run in runs:
        require_of(run, row)
        if not run.config:
            print(f"no journal beside {run.path}: its method, pictures and settings are taken for the published ones")
    grid, verdict = judge(runs, row)
    print(f"{grid}\n\n{row}: {verdict}, within {tolerance(len(runs)):.2f} points\n")
    report([*map(str, paths), "--out", str(asked.out)])
    return int(verdict == "below")


def page() -> str:
    """docs/REPRODUCING.md: every published row of RCIL's page, and what came of it here."""
    lines = []
    for row in rows():
        if row.method == "RCIL":
            name = "_".join([row.dataset, row.task, "-".join([row.method, *row.words[3:]])])
            runs = [read_run(path) for path in sorted(REPRODUCED.glob(f"*_{name}*.csv"))]
            for run in runs:
                require_of(run, row)
            here, said = ("-", "not run: no GPU yet")
            if runs:
                here, said = f"{np.mean([100 * run.rows[-1].overall for run in runs]):.2f}", judge(runs, row)[1]
            lines.append([f"`{' '.join(row.words)}`", f"{row.final}", here, str(len(runs)), said])
    table = Grid(["row", "published", "here", "runs", "verdict"], lines, left=1).markdown()
    spread = []
    for scenario in REPEATED:
        one, other = published("voc", "15-1", scenario)[0].values()
        differences = [100 * (a.overall - b.overall) for a, b in zip(one, other, strict=True)]
        spread.append(f"- {scenario}: {_shown(differences)}")
    return TEXT.format(table=table, one=tolerance(1), three=tolerance(3), spread="\n".join(spread))


TEXT = """# Reproducing what was published

Written by `python tools/reproduce.py --table`.

```sh
python tools/reproduce.py RCIL voc 15-1 overlapped --dry-run
```

says what it would run, how much that is and what is published. Without `--dry-run` it trains the row, or resumes it,
and ends with a verdict, step by step where RCIL's authors published the steps, and a report. `--results FILE ...`
judges tables that are there, several of them, of several seeds, by their mean. A table of another data set, task,
scenario, method, label protocol, of other settings or other pictures is refused.

**Reproduced** is what differs from the published figure by no more than {one:.2f} points for one run, or {three:.2f}
for the mean of three. This is derived from the only repeats that were published, two runs each of VOC 15-1. Their mIoU
differs by so much, step by step:

{spread}

Half the mean square is the variance of one run. A published run and the mean of n runs differ with that variance times
1 + 1/n. Student's t for two pairs, 4.303, makes the limit hold in 95 % of all cases.

{table}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Run or resume a published row, and say whether it is reproduced.")
    add = parser.add_argument
    add("row", nargs="*", metavar="WORD", help="METHOD DATASET TASK [SCENARIO], as RCIL voc 15-1 overlapped")
    add("--dry-run", action="store_true", help="say what will be run, and what is published")
    add("--results", nargs="+", type=a_path, metavar="FILE", help="judge these tables, of one seed each")
    add("--out", type=a_path, default=Path("report"), metavar="DIR", help="folder of the report [report]")
    add("--table", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    return exit_code(reproduce, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
