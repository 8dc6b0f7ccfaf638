"""What was published, to stand beside a run: see published.json."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from metrics.results import Row

DATA = Path(__file__).with_name("published.json")


@cache
def _data() -> dict[str, Any]:
    return json.loads(DATA.read_text())


def published_runs(dataset: str, task: str, scenario: str) -> dict[str, list[Row]]:
    """The runs of RCIL's authors of that setting, by name and date."""
    found = {}
    scenario = scenario or _only_scenario(dataset, task)
    for run in _data()["runs"]:
        if (run["dataset"], run["task"], run["scenario"]) == (dataset, task, scenario):
            found[f"{run['name']}, authors, {run['date']}"] = rows_of(run)
    return found


def published_finals(dataset: str, task: str, scenario: str) -> dict[str, float]:
    """mIoU after the last step by method, fractions of 1."""
    table = _data()["final"].get(f"{dataset} {task} {scenario or _only_scenario(dataset, task)}", {})
    return {method: percent / 100 for method, percent in table.items()}


def _only_scenario(dataset: str, task: str) -> str:
    """The scenario of that task, where all published figures are of one."""
    start = f"{dataset} {task} "
    found = [setting.removeprefix(start) for setting in _data()["final"] if setting.startswith(start)]
    return found[0] if len(found) == 1 else ""


def rows_of(run: dict[str, Any]) -> list[Row]:
    """The results table of a published run."""
    return [
        Row(row["step"], tuple(math.nan if x is None else x for x in row["iou"]), run["num_classes"], row["miou"])
        for row in run["rows"]
    ]


def all_runs() -> dict[str, list[Row]]:
    """Every published run by the name of its file."""
    return {run["file"]: rows_of(run) for run in _data()["runs"]}
