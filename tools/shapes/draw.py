"""Pixels: a picture and its labels from a scene. Knows nothing of files and layouts."""

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.shapes.background import background
from tools.shapes.catalog import shape_class
from tools.shapes.scene import PlacedObject, compose
from tools.shapes.textures import TEXTURES

OUTLINE_SAMPLES, TEXTURE_SAMPLES = 4, 2
"""Samples a pixel and direction, averaged: edges and textures come out smooth, while labels stay crisp."""

SHADOW_OFFSET, SHADOW_BLUR, SHADOW_STRENGTH = 0.16, 0.1, 0.45
"""In object radii, and the share of light that a shadow takes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One drawn image with its labels."""

    image: np.ndarray  # (S, S, 3) uint8
    labels: np.ndarray  # (S, S) uint8, 0 background, classes from 1
    rim: np.ndarray  # (S, S) bool, the pixels on either side of an object's edge


@dataclass(frozen=True)
class _Window:
    """The part of the canvas that one object and its shadow touch, in pixels; may be empty."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def draw_picture(seed: int, split: int, index: int, size: int, num_classes: int, company: float = 1.0) -> Picture:
    """Picture `index` of a split, `size` pixels a side, of `num_classes` classes: a function of its arguments alone.

    `company`: see `compose`.
    """
    rng = np.random.default_rng((seed, split, index))
    objects = compose(rng, index, size, num_classes, company)
    canvas = background(rng, size)
    labels = np.zeros((size, size), np.uint8)
    instances = np.zeros((size, size), np.uint8)
    light = rng.uniform(0, 2 * np.pi)
    for number, placed in enumerate(objects, start=1):
        window, covered = _draw_object(rng, canvas, placed, light)
        labels[window.slices][covered] = placed.label
        instances[window.slices][covered] = number
    return Picture(_photograph(rng, canvas), labels, _rim(instances))


def _draw_object(
    rng: np.random.Generator, canvas: np.ndarray, placed: PlacedObject, light: float
) -> tuple[_Window, np.ndarray]:
    """Paint the object and its shadow into `canvas` (S, S, 3) float32, in place; light falls towards `light`.

    Returns the window and which of its pixels (h, w) belong to the object: those it covers by half or more.
    """
    shape = shape_class(placed.label)
    outline = _turned_outline(placed)
    margin = placed.radius * (SHADOW_OFFSET + 2 * SHADOW_BLUR) + 1
    left, top = np.maximum(outline.min(axis=0) - margin, 0).astype(int)
    right, bottom = np.minimum(outline.max(axis=0) + margin, len(canvas)).astype(int)
    window = _Window(int(left), int(top), int(right), int(bottom))
    pixels = canvas[window.slices]

    coverage = _coverage(outline, window)
    pixels *= 1 - SHADOW_STRENGTH * _shadow(coverage, placed.radius, light)[..., None]
    blend, shade = _surface(rng, placed, window, light)
    first, second = _jittered(rng, shape.colour), _jittered(rng, shape.second)
    paint = (first + blend[..., None] * (second - first)) * shade[..., None]
    pixels += (coverage[..., None] * np.float32(1 / 255)) * (paint - pixels)
    return window, coverage >= 128


def _turned_outline(placed: PlacedObject) -> np.ndarray:
    """Corners (N, 2) of the object on the canvas, in pixels."""
    cos, sin = np.cos(placed.angle), np.sin(placed.angle)
    outline = shape_class(placed.label).outline * (placed.stretch, 1 / placed.stretch)
    return outline @ np.array([(cos, sin), (-sin, cos)]) * placed.radius + (placed.x, placed.y)


def _coverage(outline: np.ndarray, window: _Window) -> np.ndarray:
    """How much of each pixel of the window the outline encloses: (h, w) uint8, 255 for all of it."""
    n = OUTLINE_SAMPLES
    mask = Image.new("L", ((window.right - window.left) * n, (window.bottom - window.top) * n))
    corners = (outline - (window.left, window.top)) * n - 0.5
    ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=255)
    return np.asarray(mask.reduce(n))


def _shadow(coverage: np.ndarray, radius: float, light: float) -> np.ndarray:
    """The object's blurred shadow, away from the light: (h, w) float32 in 0..1."""
    blurred = Image.fromarray(coverage).filter(ImageFilter.GaussianBlur(radius * SHADOW_BLUR))
    down, right = (round(radius * SHADOW_OFFSET * part) for part in (np.sin(light), np.cos(light)))
    return np.roll(np.asarray(blurred), (down, right), axis=(0, 1)) * np.float32(1 / 255)


def _surface(
    rng: np.random.Generator, placed: PlacedObject, window: _Window, light: float
) -> tuple[np.ndarray, np.ndarray]:
    """The window's share of the second colour, in 0..1, and brightness, around 1: both (h, w) float32."""
    n = TEXTURE_SAMPLES
    x = _sample_positions(window.left, window.right, n, placed.x, placed.radius)
    y = _sample_positions(window.top, window.bottom, n, placed.y, placed.radius)[:, None]
    pitch = rng.uniform(0.88, 1.12)
    cos, sin = np.float32(pitch * np.cos(placed.angle)), np.float32(pitch * np.sin(placed.angle))
    texture = TEXTURES[shape_class(placed.label).texture]
    second = texture(x * cos + y * sin, y * cos - x * sin, np.float32(rng.random()))
    blend = sum(second[i::n, j::n].astype(np.float32) for i in range(n) for j in range(n)) / n**2
    x, y = x[::n], y[::n]
    towards_shadow = x * np.float32(np.cos(light)) + y * np.float32(np.sin(light))
    return blend, 1.06 - 0.16 * towards_shadow - 0.08 * (x * x + y * y)


def _sample_positions(start: int, stop: int, samples: int, centre: float, radius: float) -> np.ndarray:
    """Where `samples` points in each pixel from `start` to `stop` lie, in object radii from the centre."""
    pixels = (np.arange((stop - start) * samples) + 0.5) / samples + start
    return ((pixels - centre) / radius).astype(np.float32)


def _jittered(rng: np.random.Generator, colour: tuple[float, float, float]) -> np.ndarray:
    """RGB (3,) float32 in 0..1 near an HSV colour."""
    hue, saturation, value = colour
    hue = (hue + rng.uniform(-9, 9)) % 360 / 360
    saturation, value = saturation * rng.uniform(0.85, 1.1), value * rng.uniform(0.85, 1.1)
    return np.array(hsv_to_rgb(hue, min(saturation, 1), min(value, 1)), np.float32)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Exposure, a colour cast, one-sided light and sensor noise: (S, S, 3) float32 in 0..1 -> uint8."""
    ramp = np.linspace(-1, 1, len(canvas), dtype=np.float32)
    tilt_x, tilt_y = rng.uniform(-0.1, 0.1, size=2).astype(np.float32)
    exposure = np.float32(rng.uniform(0.85, 1.12)) + tilt_x * ramp + (tilt_y * ramp)[:, None]
    cast = rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.024))
    return (np.clip(canvas * (exposure[..., None] * cast) + noise, 0, 1) * 255 + 0.5).astype(np.uint8)


def _rim(instances: np.ndarray) -> np.ndarray:
    """Pixels next to an edge of an object: the nearest on either side at 112 a side, else in proportion."""
    window = 1 + 2 * max(1, round(len(instances) / 112))
    ids = Image.fromarray(instances)
    highest, lowest = ids.filter(ImageFilter.MaxFilter(window)), ids.filter(ImageFilter.MinFilter(window))
    return np.asarray(highest) != np.asarray(lowest)
