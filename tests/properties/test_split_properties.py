"""Any images and any order of classes: the sets of each step are those that SPEC 2 defines."""

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataset.splits import (
    Split,
    SplitRules,
    disjoint,
    overlapped,
    partitioned,
    select_by_class,
    select_by_domain,
)
from tasks import Step, Task
from tests.properties.strategies import IGNORED, shuffled_tasks


class Images(NamedTuple):
    """A task and what each image shows: classes, 255."""

    task: Task
    shown: list[set[int]]

    @property
    def table(self) -> np.ndarray:
        table = np.zeros((len(self.shown), 256), dtype=bool)
        for number, labels in enumerate(self.shown):
            table[number, list(labels)] = True
        return table

    def split(self, start: int, end: int) -> Split:
        return Split(list(range(start, end)), self.table[start:end])

    def new_and_old(self, step: Step) -> tuple[set[int], set[int]]:
        """From the arrivals alone, without the background."""
        arrivals = self.task.arrivals
        return {*arrivals[step.number]} - {0}, {c for earlier in arrivals[: step.number] for c in earlier} - {0}


@st.composite
def images(draw: st.DrawFn) -> Images:
    task = draw(shuffled_tasks())
    labels = st.sampled_from([0, IGNORED]) | st.integers(0, task.num_classes_total - 1)
    return Images(task, draw(st.lists(st.sets(labels, max_size=4), max_size=20)))


def numbers(chosen: np.ndarray) -> list[int]:
    assert chosen.dtype == bool and chosen.ndim == 1
    return np.flatnonzero(chosen).tolist()


@given(images())
def test_overlapped_is_every_image_with_a_new_class(data: Images):
    for step in data.task.steps:
        new, _ = data.new_and_old(step)
        made = numbers(overlapped(data.table, step))
        assert made == [number for number, labels in enumerate(data.shown) if labels & new]


@given(images())
def test_disjoint_is_every_image_with_a_new_class_and_no_future_one(data: Images):
    served = []
    for step in data.task.steps:
        new, old = data.new_and_old(step)
        made = numbers(disjoint(data.table, step))
        assert made == [
            number for number, labels in enumerate(data.shown) if labels & new and labels <= new | old | {0, IGNORED}
        ]
        served += made
    # So that an image serves one step, that of the last of its classes.
    assert sorted(served) == [number for number, labels in enumerate(data.shown) if labels - {0, IGNORED}]


@given(images(), st.data())
def test_partitioned_gives_each_image_to_one_step_by_one_class_whatever_the_task(data: Images, more: st.DataObject):
    served = [(number, step) for step in data.task.steps for number in numbers(partitioned(data.table, step))]
    assert sorted(number for number, _ in served) == list(range(len(data.shown)))
    # One class a step: the step tells the class.
    count = data.task.num_classes_total
    order = more.draw(st.permutations(range(1, count)))
    one_by_one = Task("one by one", "mine", "class", ((0, order[0]), *((c,) for c in order[1:])), count)
    owner = {}
    for step in one_by_one.steps:
        owner |= dict.fromkeys(numbers(partitioned(data.table, step)), order[step.number])
    for number, step in served:
        classes = data.shown[number] - {0, IGNORED}
        if classes:
            assert owner[number] in classes and owner[number] in step.arriving
        else:
            assert step.number == 0 and owner[number] == order[0]


@given(images(), st.data())
def test_the_sets_of_a_step_are_those_of_the_spec(data: Images, more: st.DataObject):
    num_train = more.draw(st.integers(0, len(data.shown)))
    train, val = data.split(0, num_train), data.split(num_train, len(data.shown))
    scenarios = {"overlapped": overlapped, "disjoint": disjoint, "partitioned": partitioned}
    for name, scenario in scenarios.items():
        for step in data.task.steps:
            new, old = data.new_and_old(step)
            sets = select_by_class(train, val, step, SplitRules(scenario=name))
            assert sets.train == numbers(scenario(train.classes, step))
            assert sets.val == [number for number in val.samples if data.shown[number] & new]
            assert sets.test == [number for number in val.samples if data.shown[number] & (new | old)]


class Picture(NamedTuple):
    number: int
    domain: int


@st.composite
def domains(draw: st.DrawFn) -> tuple[Task, list[Picture], list[Picture]]:
    """A task of domains in any order, and training and validation pictures."""
    arrivals = tuple(tuple(unit - 1 for unit in arrived if unit) for arrived in draw(shuffled_tasks()).arrivals)
    count = sum(map(len, arrivals))
    shown = draw(st.lists(st.integers(0, count - 1), max_size=40))
    pictures = [Picture(number, domain) for number, domain in enumerate(shown)]
    cut = draw(st.integers(0, len(pictures)))
    return Task("shuffled", "mine", "domain", arrivals, 19), pictures[:cut], pictures[cut:]


def split_at_random(pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
    order = list(range(len(pictures)))
    np.random.RandomState(1).shuffle(order)
    shuffled = [pictures[number] for number in order]
    return shuffled[: int(0.8 * len(order))], shuffled[int(0.8 * len(order)) :]


@given(domains())
def test_domains_are_shuffled_and_cut_and_clean_tests_are_never_trained_on(drawn):
    task, train, val = drawn
    no_classes = np.zeros((0, 256), dtype=bool)
    splits = Split(train, no_classes), Split(val, no_classes)
    trained: set[Picture] = set()
    held_out: set[Picture] = set()
    for number, arriving in enumerate(task.arrivals):
        public, clean = (
            select_by_domain(*splits, task.step(number), SplitRules(scenario="by domain", domain_test=test))
            for test in ("public", "clean")
        )
        of_step = [picture for picture in train + val if picture.domain in arriving]
        assert (public.train, public.val) == (clean.train, clean.val) == split_at_random(of_step)
        so_far = {domain for arrived in task.arrivals[: number + 1] for domain in arrived}
        assert public.test == split_at_random([picture for picture in train + val if picture.domain in so_far])[1]
        trained |= {*clean.train}
        held_out |= {*clean.val}
        assert len(clean.test) == len(held_out) and {*clean.test} == held_out and not held_out & trained
