"""Checkpoints on disk: whole or absent, and never an untrusted pickle (SPEC 9)."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import atomic_write


def step_path(folder: Path, task: str, dataset: str, name: str, step: int) -> Path:
    """CHECKPOINT/TASK-DATASET_NAME_STEP.pth."""
    return folder / f"{task}-{dataset}_{name}_{step}.pth"


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write `checkpoint`, tensors and plain values, so that a reader never sees half of it."""
    with atomic_write(path) as file:
        torch.save(checkpoint, file)


def load_checkpoint(path: Path, what: str) -> dict[str, Any]:
    """Read a checkpoint of a step to the CPU; `what` names it in messages, as "the checkpoint of step 0".

    Raises UserError if the file is missing, damaged, holds anything but tensors and plain values, or no `model_state`.
    """
    if not path.is_file():
        raise UserError(f"{what} is missing: {path}; train that step first, or name its file (--step_ckpt, --ckpt)")
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model_state"), dict):
        raise UserError(f"{path} is no checkpoint of a step: it has no weights under model_state")
    return checkpoint


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file of ImageNet weights: a state dict, or a dict that holds one as `state_dict`."""
    weights = _load(path)
    if isinstance(weights, dict):
        weights = weights.get("state_dict", weights)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} holds no weights by name; a state dict is expected")
    return weights


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is damaged, or holds more than tensors and plain values and could run code: it is not read"
        ) from None
    except Exception as error:  # a file that was cut off makes torch raise nearly anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path} cannot be read as a checkpoint ({reason})") from None
