"""Any task of any data set: each class arrives in one step, and what cannot be is refused with what can."""

import re
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks import Facts, Task, get_task, read_class_order
from tests.properties.strategies import NAMED, divisors, facts, rules, shuffled_tasks
from utils.errors import UserError


def check(task: Task, of: Facts) -> None:
    """Everything arrives once, and all that a task and its steps say agrees with `arrivals`."""
    first = 0 if of.kind == "domain" else 1
    arriving = [[unit for unit in arrived if of.kind == "domain" or unit] for arrived in task.arrivals]
    assert sorted(unit for step in arriving for unit in step) == list(range(first, first + of.num_units))
    assert all(arriving) and task.num_steps == len(arriving)
    assert (task.kind, task.dataset, task.num_classes_total) == (of.kind, of.dataset, of.num_classes)
    seen: list[int] = []
    for number, (step, new) in enumerate(zip(task.steps, arriving, strict=True)):
        assert (step, step.number, str(step)) == (task.step(number), number, str(number))
        assert (step.arriving, step.classes_arrive) == (task.arrivals[number], of.kind == "class")
        heads = step.classes_per_head
        if of.kind == "domain":
            every = tuple(range(of.num_classes))
            assert step.new_classes == step.order == every and step.old_classes == ()
            assert step.domains == tuple(new)
            assert (heads, step.num_new) == ((len(every),), len(every))
        else:
            assert step.new_classes == tuple(new) and step.old_classes == tuple(seen)
            assert step.order == (0, *seen, *new) and step.domains == ()
            assert heads == (len(arriving[0]) + 1, *map(len, arriving[1 : number + 1]))
            assert step.num_new == heads[-1]
            assert step.num_old + step.num_new == step.num_seen
        assert step.num_seen == len(step.order) == sum(heads)
        assert step.num_old == (task.step(number - 1).num_seen if number else 0)
        seen += new


@given(rules())
def test_any_x_y_that_divides_is_x_then_y_a_step(rule: tuple[Facts, int, int]):
    of, first, later = rule
    task = get_task(of, f"{first}-{later}")
    check(task, of)
    start = 0 if of.kind == "domain" else 1
    ends = accumulate([first] + [later] * ((of.num_units - first) // later))
    expected, at = [], 0
    for end in ends:
        expected.append(tuple(range(start + at, start + end)))
        at = end
    if of.kind == "class":
        expected[0] = (0, *expected[0])
    assert task.arrivals == tuple(expected) and task.name == f"{first}-{later}"


@given(facts(), st.data())
def test_any_x_y_that_does_not_divide_names_all_that_do(of: Facts, data: st.DataObject):
    count = of.num_units
    first, later = data.draw(st.integers(0, count + 3)), data.draw(st.integers(0, count + 3))
    left = count - first
    assume(first < 1 or left < 1 or later < 1 or left % later)
    with pytest.raises(UserError, match=f"^--task {first}-{later}: {of.dataset} has ") as caught:
        get_task(of, f"{first}-{later}")
    message = str(caught.value)
    assert "\n" not in message
    if first >= 1 and left >= 1:
        possible = re.search("possible: (.*?);", message)[1].split(", ")
        assert possible == [f"{first}-{later}" for later in divisors(left)]
        for name in possible:
            get_task(of, name)
    else:
        assert "--task offline" in message
        steps = re.search(r"step 0 takes (\d+) to (\d+) of them", message)
        assert (steps and (int(steps[1]), int(steps[2]))) == ((1, count - 1) if count > 1 else None)


@given(facts())
def test_offline_is_all_in_one_step(of: Facts):
    task = get_task(of, "offline")
    check(task, of)
    assert task.num_steps == 1


@given(st.sampled_from(NAMED))
def test_published_tasks_aliases_and_other_orders_are_sound(named: tuple[Facts, str]):
    of, name = named
    meant = dict(of.aliases).get(name, name)
    task = get_task(of, name)
    check(task, of)
    assert task == get_task(of, meant) and task.name == meant


class Order(NamedTuple):
    """A class order as a user might write it."""

    names: list[str]
    lines: list[list[str]]
    steps: tuple[tuple[int, ...], ...]

    @property
    def facts(self) -> Facts:
        return Facts(dataset="mine", num_units=len(self.names) - 1, num_classes=len(self.names))

    def read(self, path: Path) -> Task:
        path.write_text("\n".join(",".join(words) for words in self.lines), encoding="utf-8")
        return read_class_order(self.facts, path, self.names)


# Some are numbers, of other classes than the one that has the name.
words = st.text(alphabet="ab1 02é-", min_size=1, max_size=4).map(str.strip).filter(bool)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """A random order in a random spelling."""
    steps = draw(shuffled_tasks()).arrivals
    count = sum(map(len, steps))
    names = draw(st.lists(words, min_size=count, max_size=count, unique=True))

    def spelled(label: int) -> str:
        ways = [names[label], *(number for number in (f"{label}", f"{label:03d}") if number not in names)]
        return draw(st.sampled_from([" ", ""])) + draw(st.sampled_from(ways)) + draw(st.sampled_from(["  ", ""]))

    lines = [[spelled(label) for label in step if label] for step in steps]
    if draw(st.booleans()):
        lines[0].insert(draw(st.integers(0, len(lines[0]))), spelled(0))
    return Order(names, lines, steps)


noise = st.lists(st.sampled_from(["", "   ", "# a, b", ",", " , ,"]), max_size=2).map(
    lambda lines: [[x] for x in lines]
)


@given(orders(), st.data())
def test_any_spelling_of_a_class_order_is_read(folder: Path, order: Order, data: st.DataObject):
    lines = data.draw(noise)
    for number, words in enumerate(order.lines):
        comment = data.draw(st.sampled_from([[], [""], ["  # the rest, 1"]]))
        lines += [words + comment, *(data.draw(noise) if number < 3 else [])]
    task = order._replace(lines=lines).read(folder / "order.txt")
    assert task.arrivals == order.steps and task.name == "order"
    check(task, order.facts)


@given(orders(), st.data())
def test_a_class_order_with_a_class_too_few_or_too_many_says_which(folder: Path, order: Order, data: st.DataObject):
    step = data.draw(st.integers(0, len(order.steps) - 1))
    label = data.draw(st.sampled_from([label for label in order.steps[step] if label]))
    named = f"{label} ({order.names[label]})"
    if data.draw(st.booleans()):
        twice = [*order.lines, [order.names[label]]]
        with pytest.raises(UserError, match=f"more than once: {re.escape(named)}$"):
            order._replace(lines=twice).read(folder / "order.txt")
    else:
        ways = {order.names[label]} | ({f"{label}", f"{label:03d}"} - {*order.names})
        fewer = [[word for word in line if word.strip() not in ways] for line in order.lines]
        with pytest.raises(UserError, match=f"nowhere: {re.escape(named)}$"):
            order._replace(lines=fewer).read(folder / "order.txt")
