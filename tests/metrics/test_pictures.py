"""Pictures of labels: every pixel has the colour of its label; and of confidence."""

import numpy as np
import pytest
from PIL import Image

from metrics.pictures import (
    COLUMN,
    GAP,
    HEADER,
    IGNORED,
    LEGEND_WIDTH,
    MARGIN,
    OPACITY,
    PAPER,
    WRONG,
    colour_mask,
    draw_confidence,
    draw_errors,
    draw_overlay,
    draw_samples,
    save_picture,
)

TITLES = ("image", "ground truth", "prediction")
NAMES = ["background", "cat", "dog"]
PALETTE = [(0, 0, 0), (200, 10, 20), (30, 210, 40)]


@pytest.mark.parametrize("side", [8, 100, 300])
def test_panels_show_image_truth_and_prediction(side):
    images = np.full((2, 3, side, side), 77, np.uint8)
    labels = np.zeros((2, side, side), np.uint8)
    labels[0, :, side // 2 :] = 1
    labels[1] = 255
    predictions = np.full((2, side, side), 2, np.uint8)
    page = np.asarray(draw_samples(list(zip(images, labels, predictions, strict=True)), TITLES, PALETTE, NAMES))
    scale = max(1, round(240 / side))

    def pixel(row: int, panel: int, at: float) -> tuple[int, ...]:
        x = MARGIN + panel * (side * scale + GAP) + int(at * side * scale)
        y = MARGIN + HEADER + row * (side * scale + GAP) + side * scale // 2
        return tuple(page[y, x].tolist())

    assert pixel(0, 0, 0.5) == (77, 77, 77)
    assert pixel(0, 1, 0.25) == PALETTE[0] and pixel(0, 1, 0.75) == PALETTE[1]
    assert pixel(1, 1, 0.5) == IGNORED
    assert pixel(0, 2, 0.5) == pixel(1, 2, 0.5) == PALETTE[2]


def test_errors_are_red_but_for_what_is_not_labelled():
    image = np.full((3, 2, 2), 200, np.uint8)
    truth, labels = np.array([[0, 1], [255, 1]]), np.array([[0, 2], [2, 1]])
    drawn, part = draw_errors(image, truth, labels)
    assert part == 1 / 3 and drawn[:, 0, 1].tolist() == [*WRONG]
    assert all(drawn[:, row, column].tolist() == [228] * 3 for row, column in ((0, 0), (1, 0), (1, 1)))
    assert np.isnan(draw_errors(image, np.full((2, 2), 255), labels)[1])


def test_legend_holds_the_classes_that_occur():
    def colours(labels: np.ndarray) -> set[tuple[int, ...]]:
        page = draw_samples([[np.zeros((3, 30, 30), np.uint8), labels[0], labels[0]]], TITLES, PALETTE, NAMES)
        below = np.asarray(page)[MARGIN + HEADER + 240 + GAP :]
        return set(map(tuple, below.reshape(-1, 3).tolist()))

    labels = np.zeros((1, 30, 30), np.uint8)
    assert PALETTE[2] not in colours(labels)
    labels[0, 0, 0] = 2
    assert PALETTE[2] in colours(labels) and PALETTE[1] not in colours(labels)


def test_columns_of_narrow_images_leave_their_titles_room():
    images, labels = np.zeros((1, 3, 300, 10), np.uint8), np.ones((1, 300, 10), np.uint8)
    page = np.asarray(draw_samples(list(zip(images, labels, labels, strict=True)), TITLES, PALETTE, NAMES))
    assert page.shape[1] == 2 * MARGIN + 3 * COLUMN + 2 * GAP
    left = MARGIN + 2 * (COLUMN + GAP)
    assert (page[MARGIN + HEADER, left : left + 10] == PALETTE[1]).all()
    assert (page[MARGIN + HEADER, left + 10 :] == PAPER).all()


@pytest.mark.parametrize("side", [40, 100, 300])
def test_an_overlay_tints_the_grey_values_and_leaves_the_background(side: int):
    image = np.zeros((3, side, side), np.uint8)
    image[0] = 200
    labels = np.zeros((side, side), np.uint8)
    labels[: side // 2, side // 2 :] = 1
    page = np.asarray(draw_overlay(image, labels, PALETTE, NAMES)).astype(int)
    scale = max(1, round(240 / side))

    def pixel(x: float, y: float) -> list[int]:
        return page[MARGIN + int(y * side * scale), MARGIN + int(x * side * scale)].tolist()

    assert pixel(0.25, 0.25) == pixel(0.75, 0.75) == [200, 0, 0]
    grey = 0.299 * 200
    assert pixel(0.75, 0.25) == pytest.approx([(1 - OPACITY) * grey + OPACITY * c for c in PALETTE[1]], abs=1)
    assert pixel(0.5, 0.25) == pixel(0.75, 0.5) == list(PAPER)
    assert pixel(0.5, 0.75) == pixel(0.25, 0.5) == [200, 0, 0]


def test_below_an_overlay_stand_the_classes_that_occur():
    def colours(labels: np.ndarray) -> set[tuple[int, ...]]:
        page = np.asarray(draw_overlay(np.full((3, 30, 30), 255, np.uint8), labels, PALETTE, NAMES))
        return set(map(tuple, page[MARGIN + 240 + MARGIN :].reshape(-1, 3).tolist()))

    labels = np.zeros((30, 30), np.uint8)
    assert PALETTE[0] in colours(labels) and PALETTE[1] not in colours(labels)
    labels[3] = 1
    assert PALETTE[1] in colours(labels) and not {PALETTE[0], PALETTE[2]} & colours(labels)


def test_text_below_a_picture_fits_and_grows_with_it():
    def legend(width: int) -> tuple[int, int]:
        """Width of the page, and height of what stands below the picture."""
        page = draw_overlay(np.zeros((3, 300, width), np.uint8), np.ones((300, width), np.uint8), PALETTE, NAMES)
        return page.width, page.height - 300 - 3 * MARGIN

    assert legend(10)[0] == 2 * MARGIN + LEGEND_WIDTH
    assert legend(900)[1] == legend(10)[1] and legend(3000)[1] == 3 * legend(900)[1]


@pytest.mark.parametrize("size", [(20, 30), (400, 300), (500, 4), (90, 2100)])
def test_confidence_has_the_colours_of_its_scale(size: tuple[int, int]):
    confidence = np.zeros(size)
    confidence[:, size[1] // 2 :] = 1
    page = np.asarray(draw_confidence(confidence)).astype(int)
    factor = max(1, round(240 / max(size)))
    low, high = page[MARGIN, MARGIN], page[MARGIN, MARGIN + factor * size[1] - 1]
    width = page.shape[1] - 2 * MARGIN
    below = page[MARGIN + factor * size[0] + MARGIN :, MARGIN : MARGIN + width]
    assert any((row[0] == low).all() and (row[-1] == high).all() for row in below)
    assert low.sum() < high.sum() and width == max(factor * size[1], LEGEND_WIDTH * max(1, round(size[1] / 1000)))


def test_a_mask_holds_the_label_values_and_shows_their_colours():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    mask = colour_mask(labels, PALETTE)
    assert mask.mode == "P" and np.array_equal(np.asarray(mask), labels)
    assert np.asarray(mask.convert("RGB")).reshape(-1, 3).tolist() == [*map(list, PALETTE), list(IGNORED)]


def test_save_picture(tmp_path):
    save_picture(Image.new("RGB", (3, 2)), tmp_path / "deep" / "picture.png")
    with Image.open(tmp_path / "deep" / "picture.png") as picture:
        assert picture.size == (3, 2)
