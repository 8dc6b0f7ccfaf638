"""Sample pictures: every pixel has the colour of its label."""

import numpy as np
import pytest
from PIL import Image

from metrics.pictures import GAP, HEADER, IGNORED, MARGIN, draw_samples, save_picture

NAMES = ["background", "cat", "dog"]
PALETTE = [(0, 0, 0), (200, 10, 20), (30, 210, 40)]


@pytest.mark.parametrize("side", [8, 100, 300])
def test_panels_show_image_truth_and_prediction(side):
    images = np.full((2, 3, side, side), 77, np.uint8)
    labels = np.zeros((2, side, side), np.uint8)
    labels[0, :, side // 2 :] = 1
    labels[1] = 255
    predictions = np.full((2, side, side), 2, np.uint8)
    page = np.asarray(draw_samples(images, labels, predictions, PALETTE, NAMES))
    scale = max(1, round(240 / side))

    def pixel(row: int, panel: int, at: float) -> tuple[int, ...]:
        x = MARGIN + panel * (side * scale + GAP) + int(at * side * scale)
        y = MARGIN + HEADER + row * (side * scale + GAP) + side * scale // 2
        return tuple(page[y, x].tolist())

    assert pixel(0, 0, 0.5) == (77, 77, 77)
    assert pixel(0, 1, 0.25) == PALETTE[0] and pixel(0, 1, 0.75) == PALETTE[1]
    assert pixel(1, 1, 0.5) == IGNORED
    assert pixel(0, 2, 0.5) == pixel(1, 2, 0.5) == PALETTE[2]


def test_legend_holds_the_classes_that_occur():
    def colours(labels: np.ndarray) -> set[tuple[int, ...]]:
        page = draw_samples(np.zeros((1, 3, 30, 30)).astype(np.uint8), labels, labels, PALETTE, NAMES)
        below = np.asarray(page)[MARGIN + HEADER + 240 + GAP :]
        return set(map(tuple, below.reshape(-1, 3).tolist()))

    labels = np.zeros((1, 30, 30), np.uint8)
    assert PALETTE[2] not in colours(labels)
    labels[0, 0, 0] = 2
    assert PALETTE[2] in colours(labels) and PALETTE[1] not in colours(labels)


def test_save_picture(tmp_path):
    save_picture(Image.new("RGB", (3, 2)), tmp_path / "deep" / "picture.png")
    with Image.open(tmp_path / "deep" / "picture.png") as picture:
        assert picture.size == (3, 2)
