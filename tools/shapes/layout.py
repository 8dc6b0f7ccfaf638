"""How pictures become files: as in VOC, ADE20K or Cityscapes (SPEC 2), or in one of the layouts of one's own data."""

from colorsys import hsv_to_rgb
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.shapes.catalog import CLASSES, read_table, shape_class
from tools.shapes.draw import Picture
from utils.constants import IGNORE_INDEX, voc_palette

_CITIES = (Path(__file__).parents[2] / "data" / "cityscapes_cities.txt").read_text().split()
CITIES = {"train": _CITIES[:18], "val": _CITIES[18:]}
# Those of dataset/cityscapes.py, repeated: to import them would cost each process a second for torch.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 5, 6)
"""By class: background is road, and the last two shapes are things that the benchmark ignores, dynamic and ground."""

TINT, BRIGHTNESS, CONTRAST = 0.4, (0.7, 1.3), (0.6, 1.2)
"""Saturation of the light in a city, and factors in the cities with the least and the most of it."""
_R3 = 1.2207440846057596
"""g with g**4 = g + 1: the fractions of n/g, n/g**2 and n/g**3 for n = 1, 2, .. fill a cube evenly (Roberts' R3)."""


class Layout(NamedTuple):
    """Where images and masks lie below the root, and what a mask holds. Fields of the paths: see `paths`.

    Without a mask the picture is of one class as a whole, and its path names it.
    """

    image: str
    mask: str
    num_classes: int  # to draw, background aside: 1..160, see catalog.shape_class
    like_voc: bool  # masks with its palette, and 255 around objects; else grey, and 0, which is no class there


LAYOUTS = {
    name: Layout(image, mask, int(classes), like_voc == "1")
    for name, image, mask, classes, like_voc in read_table("layouts.csv")
}


def paths(layout: str, split: str, index: int, shape: str = "") -> tuple[str, str]:
    """Image and mask of picture `index` of a split, "train" or "val", below the root. Cities take turns.

    `shape`: what the picture shows, where it shows one class.
    """
    turn, city = divmod(index, len(CITIES[split]))
    fields = {
        "split": split,
        "index": index,
        "shape": shape,
        "number": index + 1,
        "turn": turn,
        "city": CITIES[split][city],
    }
    fields["folder"] = "training" if split == "train" else "validation"
    return LAYOUTS[layout].image.format(**fields), LAYOUTS[layout].mask.format(**fields)


def write_picture(root: Path, layout: str, split: str, index: int, picture: Picture) -> None:
    """Write the files of a picture, in training with its saliency map; of each city in a light of its own."""
    form, shape = LAYOUTS[layout], shape_class(int(picture.labels.max())).name
    image, mask = paths(layout, split, index, shape)
    pixels, labels = picture.image, picture.labels
    if layout == "cityscapes":
        pixels = city_light(Path(image).parent.name)[pixels, np.arange(3)]
        labels = np.array(CITYSCAPES_IDS)[labels]
    labels = np.where(picture.rim, IGNORE_INDEX if form.like_voc else 0, labels).astype(np.uint8)
    drawn = {image: Image.fromarray(pixels)} | ({mask: Image.fromarray(labels)} if mask else {})
    if form.like_voc:
        drawn[mask].putpalette(np.array(voc_palette(256), np.uint8).tobytes())
    if split == "train" and mask:
        drawn[f"saliency_map/{Path(image).stem}.png"] = Image.fromarray(picture.salient)
    for name, file in drawn.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        # For JPEG. Full colour resolution: textures are a few pixels wide.
        file.save(root / name, quality=92, subsampling=0)


def write_lists(root: Path, layout: str, counts: dict[str, int]) -> None:
    """Write what there is beside the pictures, of which each split has `counts`: the lists of VOC, or classes.txt."""
    if layout == "voc":
        (root / "list").mkdir()
        for split, count in counts.items():
            lines = ("/{} /{}\n".format(*paths(layout, split, index)) for index in range(count))
            (root / "list" / ("train_aug.txt" if split == "train" else "val.txt")).write_text("".join(lines))
    if layout == "folder":
        names = ("background", *(shape.name for shape in CLASSES))
        colours = voc_palette(len(names))
        lines = (f"{name} #{bytes(colour).hex()}\n" for name, colour in zip(names, colours, strict=True))
        (root / "classes.txt").write_text("".join(lines))


@cache
def city_light(city: str) -> np.ndarray:
    """What the tint, brightness and contrast of a city make of each value: (256, 3) uint8, by value and channel."""
    hue, bright, stark = ((_CITIES.index(city) + 1) / _R3**power % 1 for power in (3, 2, 1))
    brightness, contrast = np.interp(bright, (0, 1), BRIGHTNESS), np.interp(stark, (0, 1), CONTRAST)
    values = 0.5 + contrast * np.linspace(-0.5, 0.5, 256)[:, None]
    lit = values * brightness * np.array(hsv_to_rgb(hue, TINT, 1))
    return (lit.clip(0, 1) * 255 + 0.5).astype(np.uint8)
