"""What a checkpoint is of, so that a wrong one is not taken for the right one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config import RunConfig
from tasks import Task
from utils.errors import UserError

Identity = dict[str, Any]
"""Option -> value, for all that makes a step's network what it is."""


def identity_of(config: RunConfig, task: Task, step: int, *, scenario: str, class_names: Sequence[str]) -> Identity:
    """The identity of the network of `step` in a run; `class_names` of its outputs."""
    return {
        "dataset": task.dataset,
        "task": [list(arrived) for arrived in task.steps[: step + 1]],
        "step": step,
        "classes": list(class_names),
        "scenario": scenario,
        "label_protocol": config.data.label_protocol,
        "branches": config.method.branches,
        "backbone": config.model.backbone,
        "output_stride": config.model.output_stride,
        "width": config.model.width,
        "head_channels": config.model.head_channels,
        "norm_act": config.model.norm_act,
        "stem_activation": config.model.activates_stem(config.method.branches),
    }


def check_identity(checkpoint: dict[str, Any], expected: Identity, path: Path) -> None:
    """Raise UserError naming the first difference. A file of another code base, without identity, passes."""
    found = (checkpoint.get("trainer_state") or {}).get("identity", {})
    for option, value in found.items():
        if expected.get(option) != value:
            mend = "data_root" if option == "classes" else option
            raise UserError(
                f"{path} is of another run: it has {option} {value}, this run {expected.get(option)}; "
                f"give the file of this run, or another --name, or mend --{mend}"
            )
