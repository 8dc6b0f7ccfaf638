"""What is on a picture: which classes, how many objects, where, how large, how turned. No pixels here."""

from dataclasses import dataclass

import numpy as np

from tools.shapes.catalog import CLASSES, NUM_SCENES

MAX_OBJECTS = 4
RADIUS = (0.135, 0.255)
"""Smallest and largest object radius, in image sides."""

_GOLDEN = (5**0.5 - 1) / 2
_FREQUENCY = np.array([shape.frequency for shape in CLASSES])
_COMPANY = np.array([shape.company for shape in CLASSES])
_SCENE = np.arange(len(CLASSES)) % NUM_SCENES
SAME_SCENE = 6.0
"""How much more readily a class joins one of its own scene."""


@dataclass(frozen=True)
class PlacedObject:
    """One object; lengths in pixels, angle in radians. `label` is the class id, from 1."""

    label: int
    x: float
    y: float
    radius: float
    angle: float
    stretch: float  # width over height before turning


def compose(
    rng: np.random.Generator, index: int, size: int, num_classes: int, company: float = 1.0
) -> list[PlacedObject]:
    """Objects of picture `index`, the lowest first; the first one is always there.

    `company`: factor on the chance that a further class joins it.
    """
    placed: list[PlacedObject] = []
    for label in _labels(rng, index, num_classes, company):
        radius = rng.uniform(*RADIUS) * size
        spot = _free_spot(rng, placed, radius, size)
        if spot is not None:
            angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.88, 1.14)
            placed.append(PlacedObject(label, *spot, radius, angle, stretch))
    return placed


def _labels(rng: np.random.Generator, index: int, num_classes: int, company: float) -> list[int]:
    """Class ids of the objects, at most MAX_OBJECTS.

    The first pictures of a split begin with one class each, so that a few more pictures than classes show them all;
    from there on the first shape follows the golden ratio sequence, in proportion to the frequencies.
    """
    if index < num_classes:
        first = index % len(CLASSES)
    else:
        bounds = np.cumsum(_FREQUENCY)[:-1] / _FREQUENCY.sum()
        first = int(np.searchsorted(bounds, (index * _GOLDEN) % 1, side="right"))
    chosen = [first]
    while len(chosen) < 3 and rng.random() < company * _COMPANY[first]:
        readiness = _FREQUENCY * _COMPANY * np.where(_SCENE[first] == _SCENE, SAME_SCENE, 1.0)
        readiness[chosen] = 0
        chosen.append(int(rng.choice(len(CLASSES), p=readiness / readiness.sum())))
    while len(chosen) < MAX_OBJECTS and rng.random() < 0.35:
        chosen.append(chosen[rng.integers(len(set(chosen)))])
    labels = [_variant(rng, shape, num_classes) for shape in chosen]
    return [index + 1, *labels[1:]] if index < num_classes else labels


def _variant(rng: np.random.Generator, shape: int, num_classes: int) -> int:
    """The id of one of the classes that a shape, 0..19, is in; all are as likely."""
    labels = range(shape + 1, num_classes + 1, len(CLASSES))
    # With one class a shape nothing may be drawn from rng: those pictures are older than the variants.
    return labels[0] if len(labels) == 1 else labels[rng.integers(len(labels))]


def _free_spot(
    rng: np.random.Generator, placed: list[PlacedObject], radius: float, size: int
) -> tuple[float, float] | None:
    """A centre where the object covers at most the edges of the others, or None after twenty tries.

    Objects may stick out of the picture by a third of their radius or so.
    """
    for _ in range(20):
        x, y = rng.uniform(0.7 * radius, size - 0.7 * radius, size=2)
        if all(np.hypot(x - other.x, y - other.y) > 0.72 * (radius + other.radius) for other in placed):
            return x, y
    return None
