"""Cluttered backgrounds: soft noise in muted colours, a pattern, and desaturated things that are no class."""

from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw

HUES = (15, 32, 45, 75, 110, 150, 200, 215, 235, 280)
"""Brick, wood, sand, hay, grass, moss, sky, slate, dusk, heather; in degrees."""
PATTERNS = ("none", "slope", "planks", "tiles", "waves")
OVERSIZE = 2
"""Distractors are drawn this many times larger and reduced, for smooth edges."""


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A background (size, size, 3) float32 in 0..1, of muted colours only."""
    hue = HUES[rng.integers(len(HUES))]
    dark, bright = _muted(rng, hue, 0.25, 0.6), _muted(rng, hue + rng.uniform(-50, 50), 0.5, 0.97)
    field = np.full((size, size), 0.5, np.float32)
    for cells, strength in ((3, 0.30), (8, 0.16), (28, 0.10)):  # smooth noise of three scales
        coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        field += strength * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    field = np.clip(field + rng.uniform(0.12, 0.3) * _pattern(rng, size, pattern), 0, 1)[..., None]
    return _with_distractors(rng, dark + field * (bright - dark), hue)


def _muted(rng: np.random.Generator, hue: float, low: float, high: float) -> np.ndarray:
    """A colour of little saturation, a hue (degrees) and a value between `low` and `high`: (3,) float32."""
    hue = (hue + rng.uniform(-20, 20)) % 360 / 360
    return np.array(hsv_to_rgb(hue, rng.uniform(0.04, 0.34), rng.uniform(low, high)), np.float32)


def _pattern(rng: np.random.Generator, size: int, name: str) -> np.ndarray:
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


def _with_distractors(rng: np.random.Generator, canvas: np.ndarray, hue: float) -> np.ndarray:
    """The canvas with muted blots, bars and confetti on it, half of them in hues near its own."""
    size = len(canvas) * OVERSIZE
    image = Image.fromarray((canvas * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image, "RGBA")

    def ink() -> tuple[int, ...]:
        """A muted colour with an opacity, 0..255 each."""
        muted = _muted(rng, hue if rng.random() < 0.5 else rng.uniform(0, 360), 0.2, 0.95)
        return *(int(c * 255) for c in muted), int(rng.integers(120, 240))

    for _ in range(rng.integers(3, 9)):
        corners = rng.integers(3, 10)
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radius = size * rng.uniform(0.04, 0.2) * rng.uniform(0.6, 1.0, corners)
        x, y = rng.uniform(0, size, 2)
        blot = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
        draw.polygon(blot.ravel().tolist(), fill=ink())
    for _ in range(rng.integers(0, 5)):
        ends = (rng.uniform(-0.1, 1.1, 4) * size).tolist()
        draw.line(ends, fill=ink(), width=int(size * rng.uniform(0.01, 0.05)))
    for x, y in rng.uniform(0, size, (rng.integers(0, 14), 2)):
        radius = size * rng.uniform(0.008, 0.025)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink())
    return np.asarray(image.reduce(OVERSIZE), dtype=np.float32) / 255
