"""The ADE20K layout (SPEC 2): 150 classes, grey PNG masks in which 0 is all else; nothing there is ignored."""

from pathlib import Path

import numpy as np

from tools.shapes.draw import Picture
from tools.shapes.layout import Layout, write_jpeg, write_png

TOP = "ADEChallengeData2016"
FOLDERS = {"train": "training", "val": "validation"}
OTHER = 0


def write_picture(root: Path, split: str, index: int, picture: Picture) -> None:
    """Write images/FOLDER/ADE_SPLIT_NUMBER.jpg and annotations/FOLDER/ADE_SPLIT_NUMBER.png; numbers begin at 1."""
    name = f"{FOLDERS[split]}/ADE_{split}_{index + 1:08d}"
    write_jpeg(root / TOP / "images" / f"{name}.jpg", picture.image)
    write_png(root / TOP / "annotations" / f"{name}.png", np.where(picture.rim, np.uint8(OTHER), picture.labels))


LAYOUT = Layout(num_classes=150, write_picture=write_picture)
