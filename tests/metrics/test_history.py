"""The same samples over the steps: files that read back, and a strip in which each prediction has its place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.pictures import GAP, HEADER, MARGIN, STRIP_SIDE, DrawnSample, draw_strip, read_history, save_samples
from utils.errors import UserError

NAMES = ["background", "cat", "dog"]
PALETTE = [(0, 0, 0), (200, 10, 20), (30, 210, 40)]


def sample(number: int, prediction: int) -> DrawnSample:
    truth = np.full((30, 40), 1, np.uint8)
    truth[0] = 255
    return DrawnSample(np.full((3, 30, 40), 50 + number, np.uint8), truth, np.full((30, 40), prediction, np.uint8))


def test_what_was_saved_is_read(tmp_path: Path):
    for step in (0, 1):
        save_samples(tmp_path, step, [sample(0, step), sample(1, 2)], PALETTE)
    histories = read_history(tmp_path)
    assert [history.image[0, 0, 0] for history in histories] == [50, 51]
    assert [set(history.predictions) for history in histories] == [{0, 1}] * 2
    for step in (0, 1):
        assert (histories[0].predictions[step] == step).all() and (histories[1].predictions[step] == 2).all()
    assert np.array_equal(histories[0].truth, sample(0, 0).truth)
    with Image.open(tmp_path / "0_step1.png") as picture:
        assert picture.mode == "P" and picture.getpalette()[3:6] == list(PALETTE[1])


@pytest.mark.parametrize("others", [[sample(7, 0), sample(1, 0)], [sample(0, 0)]], ids=["other images", "fewer"])
def test_other_samples_take_the_place_of_all(tmp_path: Path, others: list[DrawnSample]):
    save_samples(tmp_path, 0, [sample(0, 0), sample(1, 0)], PALETTE)
    save_samples(tmp_path, 1, others, PALETTE)
    assert [set(history.predictions) for history in read_history(tmp_path)] == [{1}] * len(others)


def test_a_strip_has_a_row_per_run_and_a_column_per_step(tmp_path: Path):
    for run, prediction in (("one", 1), ("two", 2)):
        for step in (0, 1):
            save_samples(tmp_path / run, step, [sample(0, step * prediction)], PALETTE)
    strip = draw_strip({run: read_history(tmp_path / run) for run in ("one", "two")}, PALETTE, NAMES)
    height = STRIP_SIDE * 30 // 40
    left = strip.width - MARGIN - STRIP_SIDE // 2  # within the last column: step 1
    for row, label in ((0, 1), (1, 2)):
        top = MARGIN + HEADER + row * (height + GAP) + height // 2
        assert strip.getpixel((left, top)) == PALETTE[label]
        assert strip.getpixel((left - STRIP_SIDE - GAP, top)) == PALETTE[0]
    image = MARGIN + STRIP_SIDE // 2, MARGIN + HEADER + height // 2
    assert strip.getpixel(image) == (50, 50, 50)
    assert strip.getpixel((image[0], image[1] + height + GAP)) == (255, 255, 255)  # not once more


def test_a_file_that_is_no_picture_is_named(tmp_path: Path):
    save_samples(tmp_path, 0, [sample(0, 0)], PALETTE)
    (tmp_path / "0_truth.png").write_text("no picture")
    with pytest.raises(UserError, match=r"0_truth\.png is no picture"):
        read_history(tmp_path)
