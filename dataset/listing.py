"""What the layouts on disk have in common."""

from itertools import pairwise
from pathlib import Path

from dataset.base import Sample
from utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def require_folder(path: Path, mend: str) -> None:
    """UserError, with `mend` as advice, unless `path` is a folder."""
    if not path.is_dir():
        raise UserError(f"no folder {path}; {mend}")


def pair_by_name(images: Path, masks: Path) -> list[Sample]:
    """A sample for each image, with the PNG of the same name as its mask, by name. UserError where there is none."""
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise UserError(f"no image in {images}; put some there ({', '.join(IMAGE_SUFFIXES)})")
    for one, other in pairwise(paths):
        if one.stem == other.stem:
            raise UserError(f"{one} and {other.name} would share the mask {one.stem}.png; rename one of them")
    return [Sample(path, masks / f"{path.stem}.png") for path in paths]
