"""The label tables for any mask, task and option, against SPEC 2 pixel by pixel."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dataset.labels import build_lut, map_labels, seen_lut, training_lut
from tasks import Step
from tests.dataset.random_sets import seen_pixel, training_pixel
from tests.properties.strategies import IGNORED, ruled_tasks, seeds, shuffled_tasks, steps_of

any_step = steps_of(ruled_tasks | shuffled_tasks())
protocols = st.sampled_from(["plop", "mib"])


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Any values, in any layout in memory."""
    mask = draw(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9)))
    return draw(st.sampled_from([mask, mask.T, mask[:, ::-1], np.asfortranarray(mask)]))


def classes_of_values(num_classes: int, seed: int | None) -> list[int]:
    """The class of each label value: itself, or as a seed says one of the classes or 255."""
    if seed is None:
        return list(range(256))
    return np.random.default_rng(seed).choice([*range(num_classes), IGNORED], 256).tolist()


def check(mask: np.ndarray, lut: np.ndarray, expected: Sequence[int]) -> None:
    """`expected`: what each of the 256 label values becomes."""
    assert lut.shape == (256,) and lut.dtype == np.uint8
    mapped = map_labels(mask, lut)
    assert mapped.dtype == np.uint8 and mapped.flags.writeable
    np.testing.assert_array_equal(mapped, [[expected[value] for value in row] for row in mask.tolist()])
    np.testing.assert_array_equal(lut, expected)


@given(any_step, masks(), st.none() | seeds, st.sampled_from(["current", "current+old", "new"]), protocols)
def test_a_training_mask_is_the_walk_over_its_pixels(
    step: Step, mask: np.ndarray, seed: int | None, masking: str, protocol: str
):
    class_of = classes_of_values(step.task.num_classes_total, seed)
    lut = training_lut(step, data_masking=masking, class_of=class_of, label_protocol=protocol)
    check(mask, lut, [training_pixel(label, step, masking, protocol) for label in class_of])


@given(any_step, masks(), st.none() | seeds, st.booleans(), protocols)
def test_a_test_mask_is_the_walk_over_its_pixels(
    step: Step, mask: np.ndarray, seed: int | None, ignore_background: bool, protocol: str
):
    class_of = classes_of_values(step.task.num_classes_total, seed)
    lut = seen_lut(step, ignore_background=ignore_background, class_of=class_of, label_protocol=protocol)
    check(mask, lut, [seen_pixel(label, step, ignore_background, protocol) for label in class_of])


@given(steps_of(shuffled_tasks()), masks(), st.none() | seeds, st.data())
def test_a_table_gives_visible_classes_their_position_and_hides_the_others(
    step: Step, mask: np.ndarray, seed: int | None, data: st.DataObject
):
    class_of = classes_of_values(step.task.num_classes_total, seed)
    order, visible = step.order, data.draw(st.sets(st.sampled_from(step.order)))
    hidden_to, ignored_to = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 255))

    def pixel(label: int) -> int:
        if label == IGNORED:
            return ignored_to
        return order.index(label) if label in visible else hidden_to

    lut = build_lut(order, visible, hidden_to=hidden_to, class_of=class_of, ignored_to=ignored_to)
    check(mask, lut, [pixel(label) for label in class_of])
