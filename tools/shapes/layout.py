"""What a layout of the data set on disk is, and the files that several layouts share."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.shapes.draw import Picture
from utils.constants import IGNORE_INDEX


def _nothing_more(root: Path, counts: dict[str, int]) -> None:
    """The `finish` of a layout that is images and masks only."""


class Layout(NamedTuple):
    """How pictures become files. A new layout is a file with one of these and a line in LAYOUTS."""

    num_classes: int  # to draw, background aside: 1..160, see catalog.shape_class
    write_picture: Callable[[Path, str, int, Picture], None]  # (root, "train" | "val", index in the split, picture)
    finish: Callable[[Path, dict[str, int]], None] = _nothing_more  # (root, pictures of each split), once all are there


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image (S, S, 3) uint8."""
    # Full colour resolution: textures are a few pixels wide.
    _write(path, Image.fromarray(image), quality=92, subsampling=0)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write an image (S, S, 3) uint8, or labels (S, S) uint8 in grey."""
    _write(path, Image.fromarray(pixels))


def write_palette_mask(path: Path, picture: Picture) -> None:
    """Write the labels in the colours of VOC, with a rim of IGNORE_INDEX around objects."""
    mask = Image.fromarray(np.where(picture.rim, np.uint8(IGNORE_INDEX), picture.labels))
    mask.putpalette(voc_palette())
    _write(path, mask)


def _write(path: Path, image: Image.Image, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@cache
def voc_palette() -> bytes:
    """The 256 colours of the VOC devkit: octal digit i of the id gives bit 7 - i of red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette.tobytes()
