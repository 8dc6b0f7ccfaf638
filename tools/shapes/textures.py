"""Textures: functions of an object's own coordinates that say where its second colour shows.

Each takes u, v (h, w) in object radii, turned with the object, and a random phase in [0, 1), and returns
booleans (h, w). The share of the second colour stays near 0.4, so that the first colour remains the object's colour.
"""

import numpy as np


def _stripes(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (u * 1.9 + phase) % 1 < 0.4


def _checks(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (np.floor(u * 1.9 + phase) + np.floor(v * 1.9 + phase)) % 2 < 1


def _grid(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return ((u * 1.8 + phase) % 1 < 0.24) | ((v * 1.8 + phase) % 1 < 0.24)


def _dots(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    row = np.floor(v * 2.0 + phase)
    return ((u * 2.0 + phase + row / 2) % 1 - 0.5) ** 2 + ((v * 2.0 + phase) % 1 - 0.5) ** 2 < 0.35**2


def _rings(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (np.hypot(u, v) * 2.2 + phase / 2) % 1 < 0.4


def _spokes(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (np.arctan2(v, u) * (6 / (2 * np.pi)) + phase) % 1 < 0.42


TEXTURES = {
    "stripes": _stripes,
    "checks": _checks,
    "grid": _grid,
    "dots": _dots,
    "rings": _rings,
    "spokes": _spokes,
}
