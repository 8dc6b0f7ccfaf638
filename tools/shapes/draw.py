"""A picture and its labels: first the scene, what is where, then its pixels. Knows nothing of files and layouts."""

from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from tools.shapes.catalog import CLASSES, TEXTURES, Colour, shape_class

HUES = (15, 32, 45, 75, 110, 150, 200, 215, 235, 280)
"""Brick, wood, sand, hay, grass, moss, sky, slate, dusk, heather; in degrees."""
PATTERNS = ("none", "slope", "planks", "tiles", "waves")
OVERSIZE = 2
"""Distractors are drawn this many times larger and reduced, for smooth edges."""

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
    salient: np.ndarray  # (S, S) bool, what was drawn on the background: objects, and what only distracts from them


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
    canvas, salient = _background(rng, size)
    labels, instances = np.zeros((2, size, size), np.uint8)
    light = rng.uniform(0, 2 * np.pi)
    for number, placed in enumerate(objects, start=1):
        covered = _draw_object(rng, canvas, placed, light)
        labels[covered] = placed.label
        instances[covered] = number
    window, ids = 1 + 2 * max(1, round(size / 112)), Image.fromarray(instances)
    rim = np.asarray(ids.filter(ImageFilter.MaxFilter(window))) != np.asarray(ids.filter(ImageFilter.MinFilter(window)))
    return Picture(_photograph(rng, canvas), labels, rim, salient | (labels > 0))


def _background(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A background (size, size, 3) float32 in 0..1, of muted colours only; and where distractors are, (size, size)."""
    hue = HUES[rng.integers(len(HUES))]
    dark, bright = _muted(rng, hue, 0.25, 0.6), _muted(rng, hue + rng.uniform(-50, 50), 0.5, 0.97)
    field = np.full((size, size), 0.5, np.float32)
    for cells, strength in ((3, 0.30), (8, 0.16), (28, 0.10)):  # smooth noise of three scales
        coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        field += strength * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    field = np.clip(field + rng.uniform(0.12, 0.3) * _pattern(rng, size, pattern), 0, 1)[..., None]
    return _with_distractors(rng, dark + field * (bright - dark), hue)


def _muted(rng: Generator, hue: float, low: float, high: float) -> np.ndarray:
    """A colour of little saturation, a hue (degrees) and a value between `low` and `high`: (3,) float32."""
    hue = (hue + rng.uniform(-20, 20)) % 360 / 360
    return np.array(hsv_to_rgb(hue, rng.uniform(0.04, 0.34), rng.uniform(low, high)), np.float32)


def _pattern(rng: Generator, size: int, name: str) -> np.ndarray:
    """One of PATTERNS, turned by a random angle: (size, size) float32 in -1..1."""
    if name == "none":
        return np.zeros((size, size), np.float32)
    axis = np.linspace(0, 1, size, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = axis * cos + (axis * sin)[:, None], (axis * cos)[:, None] - axis * sin  # in image sides
    if name == "slope":
        return 2 * u - 1
    if name == "waves":
        return np.sin(u * rng.uniform(25, 70) + 2 * np.sin(v * rng.uniform(3, 12)))
    pitch = rng.uniform(4, 9)
    column, row = np.floor(u * pitch).astype(int), np.floor(v * pitch).astype(int)
    if name == "planks":
        return rng.uniform(-1, 1, 64).astype(np.float32)[column % 64]
    return rng.uniform(-1, 1, (32, 32)).astype(np.float32)[column % 32, row % 32]


def _with_distractors(rng: Generator, canvas: np.ndarray, hue: float) -> tuple[np.ndarray, np.ndarray]:
    """The canvas with muted blots, bars and confetti on it, half of them in hues near its own; and where they are."""
    size = len(canvas) * OVERSIZE
    image = Image.fromarray((canvas * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    where = Image.new("L", image.size)
    draw, mark = ImageDraw.Draw(image, "RGBA"), ImageDraw.Draw(where)

    def ink() -> tuple[int, ...]:
        """A muted colour with an opacity, 0..255 each."""
        muted = _muted(rng, hue if rng.random() < 0.5 else rng.uniform(0, 360), 0.2, 0.95)
        return *(int(c * 255) for c in muted), int(rng.integers(120, 240))

    for _ in range(rng.integers(3, 9)):
        corners = rng.integers(3, 10)
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radius = size * rng.uniform(0.04, 0.2) * rng.uniform(0.6, 1.0, corners)
        x, y = rng.uniform(0, size, 2)
        blot = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
        draw.polygon(blot.ravel().tolist(), fill=ink())
        mark.polygon(blot.ravel().tolist(), fill=255)
    for _ in range(rng.integers(0, 5)):
        ends = (rng.uniform(-0.1, 1.1, 4) * size).tolist()
        colour, width = ink(), int(size * rng.uniform(0.01, 0.05))
        draw.line(ends, fill=colour, width=width)
        mark.line(ends, fill=255, width=width)
    for x, y in rng.uniform(0, size, (rng.integers(0, 14), 2)):
        radius = size * rng.uniform(0.008, 0.025)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink())
        mark.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(OVERSIZE), dtype=np.float32) / 255, np.asarray(where.reduce(OVERSIZE)) > 127


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
