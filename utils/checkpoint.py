"""Checkpoints on disk: whole or absent, and never an untrusted pickle (SPEC 9)."""

import hashlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from utils.errors import UserError
from utils.files import atomic_path, atomic_write

ARCHIVE = b"PK\x03\x04"
DEEPEST, MOST = 30, 1_000_000
"""Containers in each other, and in all, in a file to trust."""
SAFETENSORS = ".safetensors"
LONGEST_REASON = 200
"""Characters of a library's message that are shown."""


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write `checkpoint`, tensors and plain values, so that a reader never sees half of it."""
    with atomic_write(path) as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:
            # torch still tries to end the archive when the disk is full, and complains about that.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_checkpoint(path: Path, what: str) -> dict[str, Any]:
    """Read a checkpoint of a step to the CPU; `what` names it in messages, as "the checkpoint of step 0".

    Raises UserError if the file is missing, damaged, holds anything but tensors and plain values, no `model_state`, or
    weights that no network can have.
    """
    if not path.is_file():
        raise UserError(f"{what} is missing: {path}; train that step first, or name its file (--step_ckpt, --ckpt)")
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model_state"), dict):
        raise UserError(f"{path} is no checkpoint of a step: it has no weights under model_state")
    if not isinstance(checkpoint.setdefault("trainer_state", {}), dict | None):
        raise UserError(f"{path} is no checkpoint of a step: what lies under trainer_state has no names")
    _require_sane(checkpoint["model_state"], path)
    return checkpoint


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file of ImageNet weights: a state dict, or a dict that holds one as `state_dict`.

    Or safetensors, where those of half precision become float32.
    Raises UserError as `load_checkpoint` does.
    """
    if path.suffix == SAFETENSORS:
        return load_safetensors(path)[0]
    weights = _load(path)
    if isinstance(weights, dict):
        weights = weights.get("state_dict", weights.get("model_state", weights))
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} holds no weights by name; a state dict is expected")
    _require_sane(weights, path)
    return weights


def fingerprint_of(value: Any) -> str:
    """A digest of nested dicts, lists, tensors and plain values: of what they hold, not of how a file spells it."""
    digest = hashlib.sha256()
    for part in _spelled(value):
        digest.update(part)
    return digest.hexdigest()


def _spelled(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{{{key}:".encode()
            yield from _spelled(value[key])
        yield b"}"
    elif isinstance(value, list | tuple):
        for part in value:
            yield b"["
            yield from _spelled(part)
        yield b"]"
    elif isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    else:
        yield f"{value!r},".encode()


def save_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write safetensors in half precision, with facts `about` them."""
    half = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in weights.items()}
    with atomic_path(path) as temporary:
        save_file(half, temporary, dict(about))


def load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a file, those of half precision as float32, and the facts about them.

    Raises UserError if the file is missing or damaged, or holds weights that no network can have.
    """
    try:
        weights = load_file(path)
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or f"{error}".splitlines()[0][:LONGEST_REASON]
        raise UserError(f"{path} cannot be read as safetensors ({reason})") from None
    weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    _require_sane(weights, path)
    return weights, about


def _numpy_numbers() -> list[Any]:
    """What torch must know to read a number of numpy, as scores often are in files of other code."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes]


def _load(path: Path) -> Any:
    try:
        is_archive = _require_whole(path)
        with torch.serialization.safe_globals(_numpy_numbers()):
            # Mapped, what nobody looks at takes no memory, as the state of an optimiser. Only an archive can be.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
        _require_shallow(content, path)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is damaged, or holds more than tensors and plain values and could run code: it is not read"
        ) from None
    except Exception as error:  # a file that was cut off makes torch raise nearly anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST_REASON]
        raise UserError(f"{path} cannot be read as a checkpoint ({reason})") from None
    _require_dense(content, path)
    return content


def _require_whole(path: Path) -> bool:
    """UserError for an archive with a wrong checksum, which torch does not look at: a changed bit would be a changed
    weight. False for a file of torch before 1.6, which is no archive and has none."""
    with open(path, "rb") as file:
        if file.read(len(ARCHIVE)) != ARCHIVE:
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
                damaged = not packed and archive.testzip() is not None
        except Exception:  # a damaged directory makes zipfile raise nearly anything
            packed, damaged = False, True
    if packed:
        # A few bytes would unpack to more than the memory holds.
        raise UserError(f"{path} is no checkpoint to trust: it is packed, and torch packs none")
    if damaged:
        raise UserError(
            f"{path} is damaged: a checksum in it is wrong, or its end is missing; copy it again, or train that step "
            "anew"
        )
    return True


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested dicts and lists, each with where it lies."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _tensors(part, f"{name}.{number}")


def _require_shallow(content: Any, path: Path) -> None:
    """UserError for too many containers, or for some that lie deep in each other, or in themselves: what goes through
    them later calls itself."""
    left, count = [(content, 0)], 0
    while left:
        (value, depth), count = left.pop(), count + 1
        if depth > DEEPEST or count > MOST:
            fault = f"{DEEPEST} and more lie in each other" if depth > DEEPEST else f"more than {MOST:,}"
            raise UserError(f"{path} is no checkpoint to trust: of its containers {fault}")
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        left += [(part, depth + 1) for part in parts if isinstance(part, Mapping | list | tuple)]


def _require_dense(content: Any, path: Path) -> None:
    """UserError for a tensor that claims more values than the file holds for it, or that is no plain array."""
    for name, tensor in _tensors(content):
        plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(f"{path} is no checkpoint to trust: {name} claims the shape {tuple(tensor.shape)}")


def _require_sane(weights: Mapping[str, Any], path: Path) -> None:
    """UserError for weights that are no finite numbers."""
    for name, weight in weights.items():
        if not isinstance(weight, Tensor):
            raise UserError(f"{path} is no checkpoint of a step: {name} is a {type(weight).__name__}, no tensor")
        if weight.is_floating_point() and not (finite := weight.isfinite()).all():
            count = weight.numel() - int(finite.sum())
            raise UserError(f"{path} is of no use: {count} values of {name} are NaN or infinite; train that step anew")
