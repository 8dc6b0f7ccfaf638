"""What the layouts on disk have in common."""

import os
import re
from itertools import pairwise
from pathlib import Path

from dataset.base import Sample
from utils.errors import UserError
from utils.files import read_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".avif")
OTHER_SUFFIXES = (".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw", ".exr", ".dcm", ".eps")
"""Of pictures that are not read."""

LONGEST_LINE = 1000
"""Characters; longer than any two paths that belong in a list."""
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
"""What neither names nor paths hold, and what a terminal would take for a command; a tab is none of them."""


def require_folder(path: Path, advice: str) -> None:
    """UserError, with `advice` at its end, unless `path` is a folder."""
    if not path.is_dir():
        raise UserError(f"no folder {path}; {advice}")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in `folder`, by name. Hidden files are none, as the ._NAME that macOS writes, and neither is what no
    program takes for a picture. UserError as `is_picture`."""
    files = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir() and entry.name[0] != ".")
    return [folder / name for name in files if is_picture(folder / name)]


def is_picture(path: Path) -> bool:
    """By its suffix. UserError for a picture of a kind that is not read: it is named, and not passed over."""
    if (suffix := path.suffix.lower()) in OTHER_SUFFIXES:
        raise UserError(f"{path} would be passed over: {suffix} is not read; save it as PNG or JPEG, or move it")
    return suffix in IMAGE_SUFFIXES


def require_flat(folder: Path) -> None:
    """UserError for a picture in a folder below, where nobody would look for it."""
    for inner in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."):
        for below in (folder / inner).rglob("*"):
            if below.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES):
                raise UserError(f"{below} would be passed over: pictures are looked for in {folder} alone; move it")


def pair_by_name(images: Path, masks: Path) -> list[Sample]:
    """A sample for each image, with the mask of the same name, by name. UserError where one of them lacks."""
    require_flat(images)
    pictures, of_stem = pictures_in(images), {}
    if not pictures:
        raise UserError(f"no image in {images}; put some there ({', '.join(IMAGE_SUFFIXES)})")
    for one, other in pairwise(sorted(pictures, key=lambda path: path.stem)):
        if one.stem == other.stem:
            raise UserError(f"{one} and {other.name} would share the mask {one.stem}.png; rename one of them")
    for mask in pictures_in(masks):
        if other := of_stem.get(mask.stem):
            raise UserError(f"{other} and {mask.name} are masks of the same image; take one of them out")
        of_stem[mask.stem] = mask
    strange = of_stem.keys() - {picture.stem for picture in pictures}
    for picture in pictures:
        if picture.stem not in of_stem:
            alike = [of_stem[stem].name for stem in sorted(strange) if stem.lower().startswith(picture.stem.lower())]
            found = f", but {alike[0]}: rename it" if alike else "; put it there, or take the image out"
            raise UserError(f"image {picture} has no mask: there is no {masks / picture.stem}.png{found}")
    if strange:
        mask = of_stem[min(strange)]
        raise UserError(
            f"{len(strange)} mask(s) without image, first {mask}: there is no {images / mask.stem}.jpg; put it there, "
            "or take the mask out"
        )
    return [Sample(path, of_stem[path.stem]) for path in pictures]


def read_lines(path: Path, advice: str) -> list[str]:
    """The lines of a text file in UTF-8. UserError, with `advice` at its end, where `path` is none."""
    lines = read_text(path, advice).splitlines()
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise UserError(f"{path}, line {number}: {len(line)} characters, {LONGEST_LINE} are allowed; {advice}")
        if control := CONTROLS.search(line):
            raise UserError(f"{path}, line {number}: the control character {control[0]!r}; {advice}")
    return lines
