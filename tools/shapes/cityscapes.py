"""The Cityscapes layout (SPEC 2): 21 cities, each in a light of its own; masks of raw label ids, as PNG."""

from colorsys import hsv_to_rgb
from functools import cache
from pathlib import Path

import numpy as np

from tools.shapes.draw import Picture
from tools.shapes.layout import Layout, write_png

# Names and ids are those of the data set code, repeated: to import them would cost each process a second for torch.
CITIES = {
    "train": (
        "aachen", "bremen", "darmstadt", "erfurt", "hanover", "krefeld", "strasbourg", "tubingen", "weimar", "bochum",
        "cologne", "dusseldorf", "hamburg", "jena", "monchengladbach", "stuttgart", "ulm", "zurich",
    ),
    "val": ("frankfurt", "lindau", "munster"),
}  # fmt: skip
ROAD, *OTHER_TRAINED = 7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33
UNLABELED, DYNAMIC, GROUND = 0, 5, 6
RAW_IDS = np.array([ROAD, *OTHER_TRAINED, DYNAMIC, GROUND], np.uint8)
"""By class: background is road, and the last two shapes are things that the benchmark ignores."""

TINT = 0.4
"""Saturation of the light in a city."""
BRIGHTNESS, CONTRAST = (0.7, 1.3), (0.6, 1.2)
"""Factors in the cities with the least and the most of it."""

_R3 = 1.2207440846057596
"""g with g**4 = g + 1: the fractions of n/g, n/g**2 and n/g**3 for n = 1, 2, .. fill a cube evenly (Roberts' R3)."""


def write_picture(root: Path, split: str, index: int, picture: Picture) -> None:
    """Write leftImg8bit/SPLIT/CITY/CITY_NUMBER_000019_leftImg8bit.png and its gtFine/..._gtFine_labelIds.png."""
    number, turn = divmod(index, len(CITIES[split]))
    city = CITIES[split][turn]
    name = f"{split}/{city}/{city}_{number:06d}_000019"
    image = city_light(city)[picture.image, np.arange(3)]
    write_png(root / "leftImg8bit" / f"{name}_leftImg8bit.png", image)
    labels = np.where(picture.rim, np.uint8(UNLABELED), RAW_IDS[picture.labels])
    write_png(root / "gtFine" / f"{name}_gtFine_labelIds.png", labels)


@cache
def city_light(city: str) -> np.ndarray:
    """What the tint, brightness and contrast of a city make of each value: (256, 3) uint8, by value and channel."""
    number = (*CITIES["train"], *CITIES["val"]).index(city)
    hue, bright, stark = ((number + 1) / _R3**power % 1 for power in (3, 2, 1))
    brightness, contrast = np.interp(bright, (0, 1), BRIGHTNESS), np.interp(stark, (0, 1), CONTRAST)
    values = 0.5 + contrast * np.linspace(-0.5, 0.5, 256)[:, None]
    lit = values * brightness * np.array(hsv_to_rgb(hue, TINT, 1))
    return (lit.clip(0, 1) * 255 + 0.5).astype(np.uint8)


LAYOUT = Layout(num_classes=20, write_picture=write_picture)
