"""The classes of the shapes data set: an outline, and what classes.csv says of it.

A class is one combination that never changes; no colour, texture or tone alone tells the classes apart. There are 20,
and for layouts that need more the same again in other hues.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

OUTLINE_AREA = 2.3
"""Area of every outline, in squared object radii (a disc of radius 1 has 3.1), so that no class is small."""
HUE_TURN = 45
"""Degrees between the same colour of two variants, far beyond what light and chance do to it (+-9 and a cast)."""

Colour = tuple[float, float, float]
"""Hue in degrees, saturation 0..1, value 0..1."""


@dataclass(frozen=True, eq=False)
class ShapeClass:
    """One object class."""

    name: str
    outline: np.ndarray  # (N, 2) float, x right and y down, area OUTLINE_AREA, centred
    colour: Colour
    second: Colour  # the texture's other colour
    texture: str  # a key of TEXTURES
    frequency: float  # share of the images whose first object is of this class, up to a common factor
    company: float  # chance that a further class joins such an image; also how readily this class joins others


def _dots(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    row = np.floor(v * 2.0 + phase)
    return ((u * 2.0 + phase + row / 2) % 1 - 0.5) ** 2 + ((v * 2.0 + phase) % 1 - 0.5) ** 2 < 0.35**2


TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "stripes": lambda u, v, phase: (u * 1.9 + phase) % 1 < 0.4,
    "checks": lambda u, v, phase: (np.floor(u * 1.9 + phase) + np.floor(v * 1.9 + phase)) % 2 < 1,
    "grid": lambda u, v, phase: ((u * 1.8 + phase) % 1 < 0.24) | ((v * 1.8 + phase) % 1 < 0.24),
    "dots": _dots,
    "rings": lambda u, v, phase: (np.hypot(u, v) * 2.2 + phase / 2) % 1 < 0.4,
    "spokes": lambda u, v, phase: (np.arctan2(v, u) * (6 / (2 * np.pi)) + phase) % 1 < 0.42,
}
"""Where the second colour shows: u, v (h, w) in object radii, turned with the object, a random phase in [0, 1) -> bool
(h, w). Its share stays near 0.4, so that the first colour remains the object's colour."""


def _polar(radius: Callable[[np.ndarray], np.ndarray], points: int = 72) -> np.ndarray:
    """Outline r(angle), with `radius` a function of an array of angles."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return radius(angle)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _arc(centre: tuple[float, float], radius: float, start: float, stop: float) -> np.ndarray:
    """Points of a circle from `start` to `stop` degrees, clockwise on the screen."""
    angle = np.radians(np.linspace(start, stop, 24))
    return np.asarray(centre) + radius * np.column_stack([np.cos(angle), np.sin(angle)])


def _normalise(outline: np.ndarray) -> np.ndarray:
    """Move the centroid to the origin and scale to OUTLINE_AREA (shoelace formula)."""
    x, y = outline.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    area = cross.sum() / 2
    centroid = np.array([((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()]) / (6 * area)
    return (outline - centroid) * np.sqrt(OUTLINE_AREA / abs(area))


T = np.linspace(0, 2 * np.pi, 72, endpoint=False)
HEART_Y = 13 * np.cos(T) - 5 * np.cos(2 * T) - 2 * np.cos(3 * T) - np.cos(4 * T)
CROSS_ARM = np.array([(0.38, -0.38), (1, -0.38), (1, 0.38), (0.38, 0.38)])
QUARTER_TURN = np.array([(0, 1), (-1, 0)])
OUTLINES = {
    "disc": _polar(np.ones_like),
    "square": _polar(np.ones_like, 4),
    "triangle": _polar(np.ones_like, 3),
    "star": _polar(lambda angle: np.where(np.arange(angle.size) % 2, 0.52, 1.0), 10),
    "heart": np.column_stack([16 * np.sin(T) ** 3, -HEART_Y]),
    "cross": np.concatenate([CROSS_ARM @ np.linalg.matrix_power(QUARTER_TURN, turns) for turns in range(4)]),
    "hexagon": _polar(np.ones_like, 6),
    "crescent": np.concatenate([_arc((0, 0), 1, 48, 312), _arc((0.62, 0), 0.745, 272, 88)]),
    "drop": np.column_stack([0.95 * np.sin(T) * np.sin(T / 2), -np.cos(T)]),
    "flower": _polar(lambda angle: 1 + 0.24 * np.cos(6 * angle)),
    "pill": np.concatenate([_arc((0.6, 0), 0.6, -90, 90), _arc((-0.6, 0), 0.6, 90, 270)]),
    "house": np.array([(0, -1), (0.95, -0.2), (0.75, 0.85), (-0.75, 0.85), (-0.95, -0.2)]),
    "gear": _polar(lambda angle: np.where(np.arange(angle.size) % 4 < 2, 1.0, 0.74), 32),
    "leaf": np.concatenate([_arc((0, 0.6), 1, 217, 323), _arc((0, -0.6), 1, 37, 143)]),
    "fish": np.concatenate([_arc((0, 0), 1, 28, 332) * (1, 0.72), [(1.5, -0.72), (1.3, 0), (1.5, 0.72)]]),
    "kite": np.array([(0, -1), (0.75, 0), (0, 1), (-0.75, 0)]),
    "arrow": np.array([(1, 0), (0.1, 0.85), (0.1, 0.42), (-0.9, 0.42), (-0.9, -0.42), (0.1, -0.42), (0.1, -0.85)]),
    "dome": _arc((0, 0), 1, 0, 180),
    "clover": _polar(lambda angle: 0.72 + 0.32 * np.cos(3 * angle)),
    "mushroom": np.concatenate([_arc((0, 0), 1, 180, 360), [(0.42, 0.05), (0.42, 0.8), (-0.42, 0.8), (-0.42, 0.05)]]),
}


def read_table(name: str) -> list[list[str]]:
    """The rows of a table beside this file, less its header."""
    with open(Path(__file__).with_name(name), newline="") as table:
        return list(csv.reader(table))[1:]


COLOURS: dict[str, Colour] = {name: tuple(map(float, numbers)) for name, *numbers in read_table("colours.csv")}
CLASSES: tuple[ShapeClass, ...] = tuple(
    ShapeClass(name, _normalise(OUTLINES[name]), COLOURS[first], COLOURS[second], texture, float(share), float(company))
    for name, first, second, texture, share, company in read_table("classes.csv")
)
"""Class i + 1 of the masks is CLASSES[i]; 0 is background."""


@cache
def shape_class(label: int) -> ShapeClass:
    """Class `label`, 1..160: class s + 20 v is variant v of shape s, the same but for the hues, turned on v times.

    That shows on every shape, since none is of black and white alone.
    """
    variant, shape = divmod(label - 1, len(CLASSES))
    original = CLASSES[shape]
    hues = [(hue + HUE_TURN * variant) % 360 for hue in (original.colour[0], original.second[0])]
    return replace(original, colour=(hues[0], *original.colour[1:]), second=(hues[1], *original.second[1:]))
