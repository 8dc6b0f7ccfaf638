"""Tasks of the published runs, orders in files, and what is refused. Any task: properties/test_task_properties.py."""

import json
from pathlib import Path

import pytest

from tasks import Facts, Task, read_class_order
from tests.helpers import SPECS, task_of
from utils.errors import UserError

ORDERS = json.loads((Path(__file__).parents[1] / "data" / "voc_class_orders.json").read_text())


def test_domain_tasks_keep_all_classes_in_every_step():
    task = task_of("cityscapes_domain", "11-5")
    assert task.arrivals == (tuple(range(11)), tuple(range(11, 16)), tuple(range(16, 21)))
    for step in task.steps:
        assert step.order == step.new_classes == tuple(range(19)) and step.old_classes == ()
        assert (step.num_new, step.num_seen, step.num_old) == (19, 19, 19 if step.number else 0)


def test_steps_of_published_tasks():
    assert task_of("voc", "15-1").step(5).classes_per_head == (16, 1, 1, 1, 1, 1)
    assert task_of("voc", "5-3").step(5).classes_per_head == (6, 3, 3, 3, 3, 3)
    assert task_of("ade", "100-10").step(5).classes_per_head == (101, 10, 10, 10, 10, 10)
    assert task_of("cityscape", "10-9").arrivals == (tuple(range(11)), tuple(range(11, 20)))
    assert task_of("cityscapes_domain", "1-1").num_steps == 21
    assert task_of("voc", "offline").arrivals == (tuple(range(21)),)


def test_named_orders_are_those_of_the_file():
    assert len(ORDERS) == 22
    for name, arrivals in ORDERS.items():
        task = task_of("voc", name)
        assert (task.name, [list(arrived) for arrived in task.arrivals]) == (name, arrivals)


@pytest.mark.parametrize(
    ("dataset", "name", "parts"),
    [
        ("voc", "15-4", ("--task 15-4", "possible: 15-1, 15-5;", "10-1", "15-5s_b .. 15-5s_w")),
        ("voc", "15-0", ("--task 15-0", "possible: 15-1, 15-5;")),
        ("voc", "0-5", ("--task 0-5", "1 to 19")),
        ("voc", "20-1", ("--task 20-1", "--task offline")),
        ("voc", "fifteen", ("--task fifteen", "X-Y", "19-1")),
        ("voc", "50", ("--task 50", "X-Y")),
        ("ade", "15-5s", ("--task 15-5s", "100-50")),
        ("cityscapes_domain", "11-3", ("10 domains left", "possible: 11-1, 11-2, 11-5, 11-10;")),
    ],
)
def test_an_impossible_task_names_the_possible_ones(dataset: str, name: str, parts: tuple[str, ...]):
    with pytest.raises(UserError) as caught:
        task_of(dataset, name)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


NAMES = ("ground", "cat", "big dog", "7", "cow")
FACTS = Facts(dataset="mine", num_units=4, num_classes=5)


def order_of(folder: Path, text: str) -> Task:
    path = folder / "shuffled.txt"
    path.write_text(text)
    return read_class_order(FACTS, path, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "cow, cat\nbig dog\n7\n",
        "4,1\n2\n3",
        "ground, cow, cat\n\nbig dog  # the old one\n# done\n7,\n",
        "0, 4, cat\n 2 \n7",
    ],
)
def test_a_class_order_is_read_by_name_and_number(tmp_path: Path, text: str):
    task = order_of(tmp_path, text)
    # "7" is a name, so it is class 3 and not class 7.
    assert task.arrivals == ((0, 4, 1), (2,), (3,))
    assert (task.name, task.dataset, task.kind, task.num_classes_total) == ("shuffled", "mine", "class", 5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cow, cat\nbig dog", "each class belongs on one line; nowhere: 3 (7)"),
        ("", "nowhere: 1 (cat), 2 (big dog), 3 (7), 4 (cow)"),
        ("cow, cat\nbig dog, cow\n7", "more than once: 4 (cow)"),
        ("cow, kat\nbig dog\n7", "line 1: no class 'kat'; give names or numbers up to 4; the nearest name is cat"),
        ("cow, cat\n\nbig dog\n9", "line 4: no class '9'"),
        ("cow, cat\nbig dog, ground\n7", "class 0 (ground) belongs to the first line"),
        ("ground\ncow, cat\nbig dog\n7", "the first line names the background alone"),
        ("9" * 5000, f"no class '{'9' * 40}'...; give names or numbers up to 4"),
        ("cow" * 100_000, "the nearest name is cow"),
        ("1, " * 200_000, "more than once: 1 (cat)"),
    ],
)
def test_a_class_order_that_is_none_is_refused(tmp_path: Path, text: str, says: str):
    with pytest.raises(UserError) as caught:
        order_of(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"--class_order {tmp_path / 'shuffled.txt'}") and says in message and "\n" not in message


def test_a_class_order_may_start_with_the_mark_of_unicode(tmp_path: Path):
    assert order_of(tmp_path, "\ufeffcow, cat\nbig dog\n7").arrivals == ((0, 4, 1), (2,), (3,))


def test_a_class_order_needs_a_file_of_text_and_a_data_set_of_classes(tmp_path: Path):
    with pytest.raises(UserError, match=r"--class_order .*none\.txt cannot be read \(No such file"):
        read_class_order(FACTS, tmp_path / "none.txt", NAMES)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"--class_order .*bytes cannot be read \(no text\)"):
        read_class_order(FACTS, tmp_path / "bytes", NAMES)
    cities = SPECS["cityscapes_domain"]
    with pytest.raises(UserError, match="learns domains, not classes; use --task"):
        read_class_order(cities.facts, tmp_path / "bytes", cities.class_names)
