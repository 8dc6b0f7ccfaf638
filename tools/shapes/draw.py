"""A picture and its labels: first the scene, what is where, then its pixels. Knows nothing of files and layouts."""

from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from tools.shapes.background import background
from tools.shapes.catalog import CLASSES, TEXTURES, Colour, shape_class

MAX_OBJECTS = 4
RADIUS = (0.135, 0.255)
"""Smallest and largest object radius, in image sides."""
NUM_SCENES, SAME_SCENE = 5, 6.0
"""Classes whose ids leave the same remainder form a scene; one joins another of its scene so much more readily."""
GOLDEN = (5**0.5 - 1) / 2
FREQUENCY = np.array([shape.frequency for shape in CLASSES])
COMPANY = np.array([shape.company for shape in CLASSES])
SCENE = np.arange(len(CLASSES)) % NUM_SCENES

OUTLINE_SAMPLES, TEXTURE_SAMPLES = 4, 2
"""Samples a pixel and direction, averaged: edges and textures come out smooth, while labels stay crisp."""
SHADOW_OFFSET, SHADOW_BLUR, SHADOW_STRENGTH = 0.16, 0.1, 0.45
"""In object radii, and the share of light that a shadow takes."""


class Picture(NamedTuple):
    """One drawn image with its labels."""

    image: np.ndarray  # (S, S, 3) uint8
    labels: np.ndarray  # (S, S) uint8, 0 background, classes from 1
    rim: np.ndarray  # (S, S) bool, the pixels on either side of an object's edge


class PlacedObject(NamedTuple):
    """One object; lengths in pixels, angle in radians. `label` is the class id, from 1."""

    label: int
    x: float
    y: float
    radius: float
    angle: float
    stretch: float  # width over height before turning


def compose(rng: Generator, index: int, size: int, num_classes: int, company: float = 1.0) -> list[PlacedObject]:
    """Objects of picture `index`, the lowest first; the first one is always there.

    `company`: factor on the chance that a further class joins it. An object covers at most the edges of the others, or
    is left out after twenty tries. It may stick out of the picture by a third of its radius or so.
    """
    placed: list[PlacedObject] = []
    for label in _labels(rng, index, num_classes, company):
        radius = rng.uniform(*RADIUS) * size
        for _ in range(20):
            x, y = rng.uniform(0.7 * radius, size - 0.7 * radius, size=2)
            if all(np.hypot(x - other.x, y - other.y) > 0.72 * (radius + other.radius) for other in placed):
                placed.append(PlacedObject(label, x, y, radius, rng.uniform(0, 2 * np.pi), rng.uniform(0.88, 1.14)))
                break
    return placed


def _labels(rng: Generator, index: int, num_classes: int, company: float) -> list[int]:
    """Class ids of the objects, at most MAX_OBJECTS.

    The first pictures of a split begin with one class each, so that a few more pictures than classes show them all;
    from there on the first shape follows the golden ratio sequence, in proportion to the frequencies.
    """
    if index < num_classes:
        first = index % len(CLASSES)
    else:
        bounds = np.cumsum(FREQUENCY)[:-1] / FREQUENCY.sum()
        first = int(np.searchsorted(bounds, (index * GOLDEN) % 1, side="right"))
    chosen = [first]
    while len(chosen) < 3 and rng.random() < company * COMPANY[first]:
        readiness = FREQUENCY * COMPANY * np.where(SCENE[first] == SCENE, SAME_SCENE, 1.0)
        readiness[chosen] = 0
        chosen.append(int(rng.choice(len(CLASSES), p=readiness / readiness.sum())))
    while len(chosen) < MAX_OBJECTS and rng.random() < 0.35:
        chosen.append(chosen[rng.integers(len(set(chosen)))])
    variants = [range(shape + 1, num_classes + 1, len(CLASSES)) for shape in chosen]
    # With one class a shape nothing may be drawn from rng: those pictures are older than the variants.
    labels = [same[0] if len(same) == 1 else same[rng.integers(len(same))] for same in variants]
    return [index + 1, *labels[1:]] if index < num_classes else labels


def draw_picture(seed: int, split: int, index: int, size: int, num_classes: int, company: float = 1.0) -> Picture:
    """Picture `index` of a split, `size` pixels a side, of `num_classes` classes: a function of its arguments alone.

    `company`: see `compose`. The rim is of the nearest pixel on either side at 112 a side, else in proportion.
    """
    rng = np.random.default_rng((seed, split, index))
    objects = compose(rng, index, size, num_classes, company)
    canvas = background(rng, size)
    labels, instances = np.zeros((2, size, size), np.uint8)
    light = rng.uniform(0, 2 * np.pi)
    for number, placed in enumerate(objects, start=1):
        covered = _draw_object(rng, canvas, placed, light)
        labels[covered] = placed.label
        instances[covered] = number
    window, ids = 1 + 2 * max(1, round(size / 112)), Image.fromarray(instances)
    rim = np.asarray(ids.filter(ImageFilter.MaxFilter(window))) != np.asarray(ids.filter(ImageFilter.MinFilter(window)))
    return Picture(_photograph(rng, canvas), labels, rim)


def _draw_object(rng: Generator, canvas: np.ndarray, placed: PlacedObject, light: float) -> np.ndarray:
    """Paint the object and its shadow into `canvas` (S, S, 3) float32, in place; light falls towards `light`.

    Returns which pixels (S, S) belong to the object: those it covers by half or more.
    """
    shape = shape_class(placed.label)
    cos, sin = np.cos(placed.angle), np.sin(placed.angle)
    outline = shape.outline * (placed.stretch, 1 / placed.stretch)
    outline = outline @ np.array([(cos, sin), (-sin, cos)]) * placed.radius + (placed.x, placed.y)
    margin = placed.radius * (SHADOW_OFFSET + 2 * SHADOW_BLUR) + 1
    left, top = np.maximum(outline.min(axis=0) - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(outline.max(axis=0) + margin, len(canvas)).astype(int).tolist()
    pixels = canvas[top:bottom, left:right]  # what the object and its shadow touch; may be empty

    mask = Image.new("L", ((right - left) * OUTLINE_SAMPLES, (bottom - top) * OUTLINE_SAMPLES))
    corners = (outline - (left, top)) * OUTLINE_SAMPLES - 0.5
    ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
    coverage = np.asarray(mask.reduce(OUTLINE_SAMPLES))  # 255 for all of a pixel
    blurred = Image.fromarray(coverage).filter(ImageFilter.GaussianBlur(placed.radius * SHADOW_BLUR))
    shift = [round(placed.radius * SHADOW_OFFSET * part) for part in (np.sin(light), np.cos(light))]
    shadow = np.roll(np.asarray(blurred), shift, axis=(0, 1)) * np.float32(1 / 255)
    pixels *= 1 - SHADOW_STRENGTH * shadow[..., None]
    blend, shade = _surface(rng, placed, (left, top, right, bottom), light)
    first, second = _jittered(rng, shape.colour), _jittered(rng, shape.second)
    paint = (first + blend[..., None] * (second - first)) * shade[..., None]
    pixels += (coverage[..., None] * np.float32(1 / 255)) * (paint - pixels)
    covered = np.zeros(canvas.shape[:2], bool)
    covered[top:bottom, left:right] = coverage >= 128
    return covered


def _surface(rng: Generator, placed: PlacedObject, window: tuple, light: float) -> tuple[np.ndarray, np.ndarray]:
    """The share of the second colour, in 0..1, and brightness, around 1, in a window: both (h, w) float32."""
    n = TEXTURE_SAMPLES
    left, top, right, bottom = window

    def positions(start: int, stop: int, centre: float) -> np.ndarray:
        """Where n points in each pixel from `start` to `stop` lie, in object radii from the centre."""
        pixels = (np.arange((stop - start) * n) + 0.5) / n + start
        return ((pixels - centre) / placed.radius).astype(np.float32)

    x, y = positions(left, right, placed.x), positions(top, bottom, placed.y)[:, None]
    pitch = rng.uniform(0.88, 1.12)
    cos, sin = np.float32(pitch * np.cos(placed.angle)), np.float32(pitch * np.sin(placed.angle))
    texture = TEXTURES[shape_class(placed.label).texture]
    second = texture(x * cos + y * sin, y * cos - x * sin, np.float32(rng.random()))
    blend = sum(second[i::n, j::n].astype(np.float32) for i in range(n) for j in range(n)) / n**2
    x, y = x[::n], y[::n]
    towards_shadow = x * np.float32(np.cos(light)) + y * np.float32(np.sin(light))
    return blend, 1.06 - 0.16 * towards_shadow - 0.08 * (x * x + y * y)


def _jittered(rng: Generator, colour: Colour) -> np.ndarray:
    """RGB (3,) float32 in 0..1 near an HSV colour."""
    hue, saturation, value = colour
    hue = (hue + rng.uniform(-9, 9)) % 360 / 360
    saturation, value = saturation * rng.uniform(0.85, 1.1), value * rng.uniform(0.85, 1.1)
    return np.array(hsv_to_rgb(hue, min(saturation, 1), min(value, 1)), np.float32)


def _photograph(rng: Generator, canvas: np.ndarray) -> np.ndarray:
    """Exposure, a colour cast, one-sided light and sensor noise: (S, S, 3) float32 in 0..1 -> uint8."""
    ramp = np.linspace(-1, 1, len(canvas), dtype=np.float32)
    tilt_x, tilt_y = rng.uniform(-0.1, 0.1, size=2).astype(np.float32)
    exposure = np.float32(rng.uniform(0.85, 1.12)) + tilt_x * ramp + (tilt_y * ramp)[:, None]
    cast = rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.024))
    return (np.clip(canvas * (exposure[..., None] * cast) + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
