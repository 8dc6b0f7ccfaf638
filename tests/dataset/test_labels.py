"""The label tables against a walk over the pixels."""

import numpy as np
import pytest

from dataset.labels import build_lut, map_labels, seen_lut, training_lut
from tasks import Task
from tests.dataset.random_sets import seen_pixel, training_pixel
from tests.helpers import task_of

IDENTITY = tuple(range(256))
TASKS = [("voc", "15-1"), ("voc", "10-1"), ("voc", "15-5s_q"), ("ade", "100-50"), ("cityscape", "10-9")]


def random_labels(task: Task, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, task.num_classes_total + 1, (20, 30)).astype(np.uint8)
    return np.where(values == task.num_classes_total, 255, values).astype(np.uint8)


@pytest.mark.parametrize("masking", ["current", "current+old", "new"])
@pytest.mark.parametrize(("dataset", "name"), TASKS)
def test_training_table_is_the_walk_over_pixels(dataset: str, name: str, masking: str):
    task = task_of(dataset, name)
    for step in range(task.num_steps):
        mask = random_labels(task, step)
        lut = training_lut(task, step, data_masking=masking, class_of=IDENTITY)
        expected = [[training_pixel(int(label), task, step, masking) for label in row] for row in mask]
        assert lut.shape == (256,) and lut.dtype == np.uint8
        np.testing.assert_array_equal(lut[mask], expected)


@pytest.mark.parametrize("ignore_background", [False, True])
@pytest.mark.parametrize(("dataset", "name"), TASKS)
def test_test_table_is_the_walk_over_pixels(dataset: str, name: str, ignore_background: bool):
    task = task_of(dataset, name)
    for step in range(task.num_steps):
        mask = random_labels(task, step)
        lut = seen_lut(task, step, ignore_background=ignore_background, class_of=IDENTITY)
        expected = [[seen_pixel(int(label), task, step, ignore_background) for label in row] for row in mask]
        np.testing.assert_array_equal(lut[mask], expected)


def test_raw_label_values_pass_through_the_classes_of_the_data_set():
    # Values 7, 8, 11 of a mask are classes 1, 2, 3; all others are ignored.
    class_of = [255] * 256
    class_of[7], class_of[8], class_of[11] = 1, 2, 3
    lut = build_lut((0, 3, 1), (3, 1), hidden_to=0, class_of=class_of)
    assert [int(lut[value]) for value in (7, 8, 11, 0, 12, 255)] == [2, 0, 1, 255, 255, 255]


@pytest.mark.parametrize("masking", ["current", "current+old", "new"])
def test_a_domain_task_keeps_all_classes(masking: str):
    task = task_of("cityscapes_domain", "11-5")
    for step in range(task.num_steps):
        lut = training_lut(task, step, data_masking=masking, class_of=IDENTITY)
        assert lut[:19].tolist() == list(range(19)) and lut[255] == 255


def test_map_labels_is_a_look_up_of_every_pixel():
    random = np.random.default_rng(0)
    lut, mask = random.integers(0, 256, 256, dtype=np.uint8), random.integers(0, 256, (9, 14), dtype=np.uint8)
    for view in (mask, mask[:, ::-1], mask.T):
        expected = [[lut[value] for value in row] for row in view.tolist()]
        mapped = map_labels(view, lut)
        np.testing.assert_array_equal(mapped, expected)
        assert mapped.dtype == np.uint8 and mapped.flags.writeable
