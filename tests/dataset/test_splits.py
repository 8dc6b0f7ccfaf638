"""The rules that move images between the sets. Which images serve a step: properties/test_split_properties.py."""

from collections.abc import Callable

import numpy as np
import pytest

from dataset.splits import Split, SplitRules, StepSets, refuse_empty, select_by_class, shuffled_parts
from tests.helpers import task_of
from utils.errors import UserError


def rules(**changes: object) -> SplitRules:
    return SplitRules(**{"scenario": "overlapped", **changes})


def split_of(names: list[str], masks: dict[str, np.ndarray]) -> Split:
    classes = np.zeros((len(names), 256), dtype=bool)
    for row, name in enumerate(names):
        classes[row, masks[name].ravel()] = True
    return Split(names, classes)


@pytest.fixture
def select(voc) -> Callable[..., StepSets]:
    """select(task_name, step, **rules) on one small data set; samples are ids."""
    train, val = split_of(voc.train, voc.masks), split_of(voc.val, voc.masks)
    return lambda name, step, **more: select_by_class(train, val, task_of("voc", name).step(step), rules(**more))


def test_shuffled_parts_are_80_and_20_percent_and_never_change():
    expected = list(range(11))
    np.random.RandomState(1).shuffle(expected)
    first, rest = shuffled_parts(11)
    assert [*first, *rest] == expected
    assert (len(first), len(rest)) == (8, 3)


def test_test_on_val_holds_20_percent_of_the_training_images_out_of_all_steps(voc, select):
    first, rest = shuffled_parts(len(voc.train))
    kept, held_out = {voc.train[i] for i in first}, {voc.train[i] for i in rest}
    for step in task_of("voc", "10-10").steps:
        sets = select("10-10", step.number, test_on_val=True)
        new, seen = set(step.new_classes), set(step.order) - {0}
        assert set(sets.train) == {i for i in kept if voc.labels(i) & new}
        assert set(sets.test) == {i for i in held_out if voc.labels(i) & seen}
        assert set(sets.val) <= set(voc.val)


def test_val_on_trainset_validates_on_the_training_images(select):
    sets = select("15-5", 1, val_on_trainset=True)
    assert sets.val == sets.train == select("15-5", 1).train


def test_cross_val_takes_20_percent_of_the_step(select):
    whole, sets = select("15-5", 0), select("15-5", 0, cross_val=True)
    assert not set(sets.train) & set(sets.val)
    assert set(sets.train) | set(sets.val) == set(whole.train)
    assert len(sets.train) == int(0.8 * len(whole.train))
    assert sets == select("15-5", 0, cross_val=True)


def test_a_step_without_images_is_refused(voc):
    train, val = split_of(voc.train, voc.masks), split_of(voc.val, voc.masks)
    bare = val.take(np.flatnonzero(~val.classes[:, 20]))
    step = task_of("voc", "19-1").step(1)
    says = r"step 1 \(classes 20\) is a step with no image in its val set.*--cross_val"
    with pytest.raises(UserError, match=says):
        refuse_empty(select_by_class(train, bare, step, rules()), step)
    refuse_empty(select_by_class(train, bare, step, rules(val_on_trainset=True)), step)
    with pytest.raises(UserError, match="no image in its train set"):
        refuse_empty(select_by_class(bare, val, step, rules()), step)
