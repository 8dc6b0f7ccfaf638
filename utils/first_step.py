"""A first step that several runs share: found by all that determines it, never by name alone.

CHECKPOINT/first_steps/KEY.json names the checkpoint of a finished first step; KEY is a digest of what it was made of.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from utils.files import atomic_write

FOLDER = "first_steps"


def key_of(parts: dict[str, Any]) -> str:
    """A digest of settings and data: the same for the same `parts`, plain values by name."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def remember(checkpoints: Path, key: str, path: Path) -> None:
    """Note that the checkpoint at `path` is a finished first step with this key."""
    with atomic_write(checkpoints / FOLDER / f"{key}.json", "w") as file:
        json.dump({"checkpoint": str(path.absolute())}, file)


def find(checkpoints: Path, key: str) -> Path | None:
    """Where the checkpoint with this key lies; None if there is none any more. It is for the caller to look into it."""
    try:
        path = Path(json.loads((checkpoints / FOLDER / f"{key}.json").read_text())["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if path.is_file() else None


def lend(source: Path, target: Path) -> None:
    """Give the file `source` the name `target`, too; a copy where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A checkpoint is replaced and never written into, so that two names for one file do no harm.
        os.link(source, target)
    except OSError:
        with atomic_write(target) as file, open(source, "rb") as original:
            shutil.copyfileobj(original, file)
