"""The classes of the shapes data set: outline, two colours, texture, how often seen and how sociable.

A class is one combination that never changes; no colour, texture or tone alone tells the classes apart. There are 20,
and for layouts that need more the same again in other hues.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

OUTLINE_AREA = 2.3
"""Area of every outline, in squared object radii (a disc of radius 1 has 3.1), so that no class is small."""
HUE_TURN = 45
"""Degrees between the same colour of two variants, far beyond what light and chance do to it (+-9 and a cast)."""
NUM_SCENES = 5
"""Classes whose ids leave the same remainder form a scene: they are seen together more often than others."""

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
    return radius(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _regular(corners: int) -> np.ndarray:
    return _polar(np.ones_like, corners)


def _arc(centre: tuple[float, float], radius: float, start: float, stop: float) -> np.ndarray:
    """Points of a circle from `start` to `stop` degrees, clockwise on the screen."""
    angle = np.radians(np.linspace(start, stop, 24))
    return np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1)


def _drop() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([0.95 * np.sin(t) * np.sin(t / 2), -np.cos(t)], axis=1)


def _cross() -> np.ndarray:
    corner = np.array([(0.38, -0.38), (1, -0.38), (1, 0.38), (0.38, 0.38)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([corner @ np.linalg.matrix_power(turn, quarter) for quarter in range(4)])


def _normalise(outline: np.ndarray) -> np.ndarray:
    """Move the centroid to the origin and scale to OUTLINE_AREA (shoelace formula)."""
    x, y = outline.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    area = cross.sum() / 2
    centroid = np.array([((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()]) / (6 * area)
    return (outline - centroid) * np.sqrt(OUTLINE_AREA / abs(area))


STAR = _polar(lambda angle: np.where(np.arange(angle.size) % 2, 0.52, 1.0), 10)
CRESCENT = np.concatenate([_arc((0, 0), 1, 48, 312), _arc((0.62, 0), 0.745, 272, 88)])
FLOWER = _polar(lambda angle: 1 + 0.24 * np.cos(6 * angle))
PILL = np.concatenate([_arc((0.6, 0), 0.6, -90, 90), _arc((-0.6, 0), 0.6, 90, 270)])
HOUSE = np.array([(0, -1), (0.95, -0.2), (0.75, 0.85), (-0.75, 0.85), (-0.95, -0.2)])
GEAR = _polar(lambda angle: np.where(np.arange(angle.size) % 4 < 2, 1.0, 0.74), 32)
LEAF = np.concatenate([_arc((0, 0.6), 1, 217, 323), _arc((0, -0.6), 1, 37, 143)])
FISH = np.concatenate([_arc((0, 0), 1, 28, 332) * (1, 0.72), [(1.5, -0.72), (1.3, 0), (1.5, 0.72)]])
KITE = np.array([(0, -1), (0.75, 0), (0, 1), (-0.75, 0)])
ARROW = np.array([(1, 0), (0.1, 0.85), (0.1, 0.42), (-0.9, 0.42), (-0.9, -0.42), (0.1, -0.42), (0.1, -0.85)])
CLOVER = _polar(lambda angle: 0.72 + 0.32 * np.cos(3 * angle))
MUSHROOM = np.concatenate([_arc((0, 0), 1, 180, 360), [(0.42, 0.05), (0.42, 0.8), (-0.42, 0.8), (-0.42, 0.05)]])

RED, ORANGE, YELLOW = (355, 0.85, 0.88), (25, 0.9, 0.95), (50, 0.88, 0.98)
LIME, GREEN, TEAL = (85, 0.75, 0.8), (140, 0.8, 0.6), (174, 0.8, 0.72)
SKY, BLUE, NAVY = (200, 0.65, 0.95), (225, 0.8, 0.85), (235, 0.75, 0.32)
VIOLET, PURPLE, PINK = (272, 0.65, 0.75), (280, 0.7, 0.35), (325, 0.65, 0.95)
WHITE, BLACK, MAROON = (45, 0.06, 0.97), (260, 0.3, 0.14), (350, 0.8, 0.4)

_TABLE = (
    # name, outline, colour, second, texture, frequency, company
    ("disc", _regular(72), RED, WHITE, "stripes", 1.6, 0.75),
    ("square", _regular(4), BLUE, WHITE, "dots", 1.3, 0.75),
    ("triangle", _regular(3), YELLOW, BLACK, "stripes", 1.1, 0.75),
    ("star", STAR, VIOLET, WHITE, "rings", 0.9, 0.75),
    ("heart", _heart(), PINK, MAROON, "checks", 1.2, 0.75),
    ("cross", _cross(), GREEN, WHITE, "grid", 1.0, 0.75),
    ("hexagon", _regular(6), ORANGE, MAROON, "rings", 0.9, 0.7),
    ("crescent", CRESCENT, SKY, NAVY, "dots", 0.8, 0.7),
    ("drop", _drop(), TEAL, WHITE, "stripes", 0.9, 0.7),
    ("flower", FLOWER, LIME, PURPLE, "spokes", 1.0, 0.7),
    ("pill", PILL, RED, BLACK, "dots", 1.0, 0.65),
    ("house", HOUSE, ORANGE, WHITE, "checks", 0.8, 0.65),
    ("gear", GEAR, BLUE, YELLOW, "spokes", 0.9, 0.65),
    ("leaf", LEAF, GREEN, YELLOW, "stripes", 0.8, 0.65),
    ("fish", FISH, SKY, WHITE, "grid", 0.9, 0.65),
    ("kite", KITE, YELLOW, BLUE, "checks", 1.2, 0.65),
    ("arrow", ARROW, BLACK, TEAL, "stripes", 1.2, 0.65),
    ("dome", _arc((0, 0), 1, 0, 180), MAROON, SKY, "rings", 1.2, 0.65),
    ("clover", CLOVER, VIOLET, YELLOW, "dots", 1.2, 0.65),
    ("mushroom", MUSHROOM, WHITE, PINK, "spokes", 1.2, 0.65),
)

CLASSES: tuple[ShapeClass, ...] = tuple(ShapeClass(name, _normalise(outline), *rest) for name, outline, *rest in _TABLE)
"""Class i + 1 of the masks is CLASSES[i]; 0 is background."""


@cache
def shape_class(label: int) -> ShapeClass:
    """Class `label`, 1..160: class s + 20 v is variant v of shape s, the same but for the hues, turned on v times.

    That shows on every shape, since none is of black and white alone.
    """
    variant, shape = divmod(label - 1, len(CLASSES))
    original = CLASSES[shape]
    colour, second = (
        ((hue + HUE_TURN * variant) % 360, saturation, value)
        for hue, saturation, value in (original.colour, original.second)
    )
    return replace(original, colour=colour, second=second)
