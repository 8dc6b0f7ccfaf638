"""Selection against a walk over the pixels of every image, and the rules that move images between the sets."""

from collections.abc import Callable
from itertools import pairwise

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
    return lambda name, step, **changes: select_by_class(train, val, task_of("voc", name), step, rules(**changes))


@pytest.mark.parametrize("scenario", ["overlapped", "disjoint"])
@pytest.mark.parametrize("name", ["15-5", "10-5", "15-5s_b", "10-10", "offline"])
def test_sets_are_those_of_a_walk_over_the_pixels(voc, select, name: str, scenario: str):
    task = task_of("voc", name)
    for step in range(task.num_steps):
        new, old = set(task.new_classes(step)), set(task.old_classes(step))
        train = [i for i in voc.train if voc.labels(i) & new]
        if scenario == "disjoint":
            train = [i for i in train if all(label in new | old | {0, 255} for label in voc.labels(i))]
        sets = select(name, step, scenario=scenario)
        assert sets.train == train
        assert sets.val == [i for i in voc.val if voc.labels(i) & new]
        assert sets.test == [i for i in voc.val if voc.labels(i) & (old | new)]


def test_disjoint_and_overlapped_differ_here(select):
    assert len(select("15-5", 0, scenario="disjoint").train) < len(select("15-5", 0).train)


def test_shuffled_parts_are_80_and_20_percent_and_never_change():
    expected = list(range(11))
    np.random.RandomState(1).shuffle(expected)
    first, rest = shuffled_parts(11)
    assert [*first, *rest] == expected
    assert (len(first), len(rest)) == (8, 3)


def test_test_on_val_holds_20_percent_of_the_training_images_out_of_all_steps(voc, select):
    first, rest = shuffled_parts(len(voc.train))
    kept, held_out = {voc.train[i] for i in first}, {voc.train[i] for i in rest}
    task = task_of("voc", "10-10")
    for step in range(task.num_steps):
        sets = select("10-10", step, test_on_val=True)
        new, seen = set(task.new_classes(step)), set(task.order(step)) - {0}
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


def test_test_sets_grow(select):
    sizes = [set(select("15-1", step).test) for step in range(6)]
    assert all(small <= large for small, large in pairwise(sizes))


def test_a_step_without_images_is_refused(voc):
    train, val = split_of(voc.train, voc.masks), split_of(voc.val, voc.masks)
    bare = val.take(np.flatnonzero(~val.classes[:, 20]))
    task = task_of("voc", "19-1")
    sets = select_by_class(train, bare, task, 1, rules())
    with pytest.raises(UserError, match=r"step 1 \(classes 20\) is a step with no image in its val set.*--cross_val"):
        refuse_empty(sets, task, 1)
    refuse_empty(select_by_class(train, bare, task, 1, rules(val_on_trainset=True)), task, 1)
    with pytest.raises(UserError, match="no image in its train set"):
        refuse_empty(select_by_class(bare, val, task, 1, rules()), task, 1)
