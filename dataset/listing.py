"""What the layouts on disk have in common."""

import re
from itertools import pairwise
from pathlib import Path

from dataset.base import Sample
from utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

LONGEST_LINE = 1000
"""Characters; longer than any two paths that belong in a list."""
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
"""What neither names nor paths hold, and what a terminal would take for a command; a tab is none of them."""


def require_folder(path: Path, advice: str) -> None:
    """UserError, with `advice` at its end, unless `path` is a folder."""
    if not path.is_dir():
        raise UserError(f"no folder {path}; {advice}")


def pair_by_name(images: Path, masks: Path) -> list[Sample]:
    """A sample for each image, with the PNG of the same name as its mask, by name. UserError where there is none."""
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise UserError(f"no image in {images}; put some there ({', '.join(IMAGE_SUFFIXES)})")
    for one, other in pairwise(paths):
        if one.stem == other.stem:
            raise UserError(f"{one} and {other.name} would share the mask {one.stem}.png; rename one of them")
    return [Sample(path, masks / f"{path.stem}.png") for path in paths]


def read_lines(path: Path, advice: str) -> list[str]:
    """The lines of a text file in UTF-8. UserError, with `advice` at its end, where `path` is none."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path} cannot be read (no regular file); {advice}")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UserError(f"{path} cannot be read ({reason}); {advice}") from error
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise UserError(f"{path}, line {number}: {len(line)} characters, {LONGEST_LINE} are allowed; {advice}")
        if control := CONTROLS.search(line):
            raise UserError(f"{path}, line {number}: the control character {control[0]!r}; {advice}")
    return lines
