"""What a data set is to tools/download.py. A new one is a file with a Recipe and a line in RECIPES."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.downloads.archives import unpack
from tools.downloads.published import Archive
from utils.errors import UserError

Counts = dict[str, int]
"""Images of each split."""


class Recipe(NamedTuple):
    """How a data set is made of its archives."""

    archives: tuple[Archive, ...]
    unpack: Callable[..., Counts]  # (an empty folder, the path of each archive)
    contents: tuple[str, ...]  # names that `unpack` makes in that folder
    published: Counts  # what the published archives give
    unpacked_bytes: float  # on the disk, roughly
    check_as: str  # the name that tools/check_data.py has for the data set
    by_hand: str = ""  # what to do where an archive has no sources


def unpack_pairs(root: Path, archives: Sequence[Path], pairs: str, beside: str = "(?!)") -> Counts:
    """Unpack the members whose name matches `pairs` or `beside`.

    The groups of `pairs` are `kind` (images or labels), `id` and `split`. UserError: an id comes in one kind only.
    """
    kinds: dict[str, dict[str, str]] = {}  # kind -> id -> split
    for archive in archives:
        for name in unpack(archive, root, re.compile(f"{pairs}|{beside}").fullmatch):
            if match := re.fullmatch(pairs, name):
                kinds.setdefault(match["kind"], {})[match["id"]] = match["split"]
    told = " and ".join(str(archive) for archive in archives)
    if len(kinds) != 2:
        raise UserError(f"{told}: no images, or no labels, where the published archive has them")
    images, labels = kinds.values()
    if lone := images.keys() ^ labels.keys():
        raise UserError(f"{told}: {min(lone)} has an image or labels, but not both")
    splits = sorted(images.values())
    return {split: splits.count(split) for split in dict.fromkeys(splits)}
