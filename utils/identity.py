"""What a checkpoint is of, so that a wrong one is not taken for the right one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from config import RunConfig, at_step
from tasks import Task
from utils.errors import UserError

Identity = dict[str, Any]
"""Option -> value, for all that makes a step's network what it is."""

Settings = dict[str, Any]
"""Option -> value, for all that its training depends on beside that."""


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
    if not isinstance(found, dict):
        raise UserError(f"{path} is of another code base, or was changed: its identity is {found!r}")
    for option, value in found.items():
        if expected.get(option) != value:
            mend = "data_root" if option == "classes" else option
            raise UserError(
                f"{path} is of another run: it has {option} {value}, this run {expected.get(option)}; "
                f"give the file of this run, or another --name, or mend --{mend}"
            )


def settings_of(config: RunConfig, step: int, *, world_size: int, method: Mapping[str, Any]) -> Settings:
    """The settings that the training of `step` depends on, in plain values; `method`: what it depends on of the method.

    The batch is that of all processes.
    """
    data, model, optim = config.data, config.model, config.optim
    return {
        "crop_size": data.crop_size,
        "data_masking": data.data_masking,
        "batch_size": data.batch_size * world_size,
        "no_pretrained": model.no_pretrained,
        "drop_path": model.drop_path,
        "freeze": model.freeze,
        "fix_bn": model.fix_bn,
        **_plain(asdict(optim) | {"lr": at_step(optim.lr, step), "epochs": at_step(optim.epochs, step)}),
        **_plain(method),
        "opt_level": config.opt_level,
        "random_seed": config.random_seed,
    }


def check_settings(found: Settings, expected: Settings, path: Path, *, step: int, finished: bool) -> None:
    """Raise UserError naming all options that `step` was trained with otherwise than it would be now."""
    if not isinstance(found, dict):
        raise UserError(f"{path} is of another code base, or was changed: its settings are {found!r}")
    changed = [name for name in expected if name in found and found[name] != expected[name]]
    if changed:
        said = ", ".join(
            f"{name if ' ' in name else f'--{name}'} {_shown(found[name])} then and {_shown(expected[name])} now"
            for name in changed
        )
        raise UserError(
            f"{path} is a {'finished' if finished else 'half-done'} step {step} with other options: {said}; give those "
            "of then, or another --name, or train the step anew with --no-resume"
        )


def code_digest() -> str:
    """Of the program itself: all its Python files but tests, tools and benchmarks."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for folder in (".", "dataset", "methods", "metrics", "modules", "utils"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _plain(values: Mapping[str, Any]) -> Settings:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
