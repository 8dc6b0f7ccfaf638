"""Cluttered backgrounds: soft noise in muted colours, a pattern, and desaturated things that are no class."""

from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw

HUES = (15, 32, 45, 75, 110, 150, 200, 215, 235, 280)
"""Brick, wood, sand, hay, grass, moss, sky, slate, dusk, heather; in degrees."""
OVERSIZE = 2
"""Distractors are drawn this many times larger and reduced, for smooth edges."""


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A background (size, size, 3) float32 in 0..1, of muted colours only."""
    hue = HUES[rng.integers(len(HUES))]
    dark, bright = _muted(rng, hue, 0.25, 0.6), _muted(rng, hue + rng.uniform(-50, 50), 0.5, 0.97)
    field = _noise(rng, size)
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    field = np.clip(field + rng.uniform(0.12, 0.3) * pattern(rng, size), 0, 1)[..., None]
    return _with_distractors(rng, dark + field * (bright - dark), hue)


def _muted(rng: np.random.Generator, hue: float, low: float, high: float) -> np.ndarray:
    """A colour of little saturation, a hue (degrees) and a value between `low` and `high`: (3,) float32."""
    hue = (hue + rng.uniform(-20, 20)) % 360 / 360
    return np.array(hsv_to_rgb(hue, rng.uniform(0.04, 0.34), rng.uniform(low, high)), np.float32)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth noise of three scales, (size, size) float32 around 0.5."""
    total = np.full((size, size), 0.5, np.float32)
    for cells, strength in ((3, 0.30), (8, 0.16), (28, 0.10)):
        coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        total += strength * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return total


def _turned(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in image sides, turned by a random angle."""
    axis = np.linspace(0, 1, size, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return axis * cos + (axis * sin)[:, None], (axis * cos)[:, None] - axis * sin


def _planks(rng: np.random.Generator, size: int) -> np.ndarray:
    u, _ = _turned(rng, size)
    plank = np.floor(u * rng.uniform(4, 9)).astype(int)
    return rng.uniform(-1, 1, 64).astype(np.float32)[plank % 64]


def _tiles(rng: np.random.Generator, size: int) -> np.ndarray:
    u, v = _turned(rng, size)
    pitch = rng.uniform(4, 9)
    column, row = np.floor(u * pitch).astype(int), np.floor(v * pitch).astype(int)
    return rng.uniform(-1, 1, (32, 32)).astype(np.float32)[column % 32, row % 32]


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    u, v = _turned(rng, size)
    return np.sin(u * rng.uniform(25, 70) + 2 * np.sin(v * rng.uniform(3, 12)))


PATTERNS = (
    lambda rng, size: np.zeros((size, size), np.float32),
    lambda rng, size: 2 * _turned(rng, size)[0] - 1,
    _planks,
    _tiles,
    _waves,
)
"""What lies over the noise, (size, size) float32 in -1..1."""


def _with_distractors(rng: np.random.Generator, canvas: np.ndarray, hue: float) -> np.ndarray:
    """The canvas with muted blots, bars and confetti on it, half of them in hues near its own."""
    size = len(canvas) * OVERSIZE
    image = Image.fromarray((canvas * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(3, 9)):
        draw.polygon(_blot(rng, size), fill=_ink(rng, hue))
    for _ in range(rng.integers(0, 5)):
        ends = (rng.uniform(-0.1, 1.1, 4) * size).tolist()
        draw.line(ends, fill=_ink(rng, hue), width=int(size * rng.uniform(0.01, 0.05)))
    for x, y in rng.uniform(0, size, (rng.integers(0, 14), 2)):
        radius = size * rng.uniform(0.008, 0.025)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_ink(rng, hue))
    return np.asarray(image.reduce(OVERSIZE), dtype=np.float32) / 255


def _ink(rng: np.random.Generator, hue: float) -> tuple[int, int, int, int]:
    """A muted colour with an opacity, 0..255 each."""
    hue = hue if rng.random() < 0.5 else rng.uniform(0, 360)
    return *(int(c * 255) for c in _muted(rng, hue, 0.2, 0.95)), int(rng.integers(120, 240))


def _blot(rng: np.random.Generator, size: int) -> list[float]:
    """The corners x, y of an irregular polygon of three to nine."""
    corners = rng.integers(3, 10)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.04, 0.2) * rng.uniform(0.6, 1.0, corners)
    x, y = rng.uniform(0, size, 2)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).ravel().tolist()
