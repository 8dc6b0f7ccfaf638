"""The VOC layout on disk (SPEC 2): JPEG images, palette PNG masks with a rim around objects, two lists."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tools.shapes.draw import Picture
from utils.constants import IGNORE_INDEX

LISTS = {"train": "list/train_aug.txt", "val": "list/val.txt"}


def write_picture(root: Path, name: str, picture: Picture) -> None:
    """Write JPEGImages/NAME.jpg and SegmentationClassAug/NAME.png into existing folders."""
    # Full colour resolution: textures are a few pixels wide.
    Image.fromarray(picture.image).save(root / "JPEGImages" / f"{name}.jpg", quality=92, subsampling=0)
    mask = Image.fromarray(np.where(picture.rim, np.uint8(IGNORE_INDEX), picture.labels))
    mask.putpalette(voc_palette())
    mask.save(root / "SegmentationClassAug" / f"{name}.png")


def write_list(root: Path, split: str, names: list[str]) -> None:
    """Write the list file of a split, one line `/JPEGImages/x.jpg /SegmentationClassAug/x.png` a picture."""
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in names]
    (root / LISTS[split]).write_text("".join(lines))


def make_folders(root: Path) -> None:
    """Create the empty folders of the layout."""
    for folder in ("JPEGImages", "SegmentationClassAug", "list"):
        (root / folder).mkdir(parents=True)


@cache
def voc_palette() -> bytes:
    """The 256 colours of the VOC devkit: octal digit i of the id gives bit 7 - i of red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette.tobytes()
