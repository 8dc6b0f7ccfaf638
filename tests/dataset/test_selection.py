"""Every scenario of every data set, from the files on, against a walk over the pixels of every image."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from config import DataConfig
from dataset import open_dataset, open_task
from dataset.catalogue import select_steps
from dataset.cityscapes import DEALING_ORDER, DEALT_AT_MOST, deal
from dataset.splits import StepSets
from dataset.transform import whole_image
from tasks import Step, Task
from tests.dataset.random_sets import (
    RandomSet,
    random_ade,
    random_cityscapes,
    random_folder,
    random_voc,
    seen_pixel,
    training_pixel,
)
from tests.helpers import data_of

CLASS_SETS: dict[str, Callable[[Path, int], RandomSet]] = {
    "voc": random_voc,
    "ade": random_ade,
    "folder": random_folder,
    "cityscape": partial(random_cityscapes, first_class=1),
}
TASKS = {"voc": "10-5", "ade": "50-25", "folder": "2-2", "cityscape": "10-9"}


def name_of(sample) -> str:
    return sample.image.stem.removesuffix("_leftImg8bit")


def sets_of(data: RandomSet, dataset: str, task: str, **options: object) -> tuple[Task, list[StepSets]]:
    """The sets of all steps; samples are names."""
    config = DataConfig(dataset=dataset, data_root=data.root, task=task, **options)
    spec = open_dataset(config)
    task = open_task(config, spec)
    steps = select_steps(config, spec, task)
    return task, [StepSets(*(list(map(name_of, part)) for part in sets)) for sets in steps]


def owners(names: list[str], data: RandomSet) -> dict[str, int]:
    """Scenario "partitioned": the class that each training image belongs to."""
    random = np.random.RandomState(1)
    result = {}
    for name in names:
        draw, shown = random.random_sample(), sorted(data.classes(name) - {0, 255})
        result[name] = shown[int(draw * len(shown))] if shown else 0
    return result


def serves(name: str, data: RandomSet, step: Step, scenario: str, owner: dict[str, int]) -> bool:
    """SPEC 2, sentence by sentence."""
    shown, new, old = data.classes(name), set(step.new_classes), set(step.old_classes)
    if scenario == "partitioned":
        return owner[name] in step.arriving
    if scenario == "overlapped":
        return bool(shown & new)
    return bool(shown & new) and shown <= new | old | {0, 255}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("scenario", ["overlapped", "disjoint", "partitioned"])
@pytest.mark.parametrize("dataset", ["voc", "ade", "folder"])
def test_every_scenario_of_every_class_data_set(tmp_path: Path, dataset: str, scenario: str, seed: int):
    data = CLASS_SETS[dataset](tmp_path, seed)
    task, sets = sets_of(data, dataset, TASKS[dataset], scenario=scenario)
    owner = owners(list(data.train), data)
    assert task.num_steps >= 3
    for step, of_step in zip(task.steps, sets, strict=True):
        new, seen = set(step.new_classes), set(step.order) - {0}
        assert of_step.train == [i for i in data.train if serves(i, data, step, scenario, owner)]
        assert of_step.val == [i for i in data.val if data.classes(i) & new]
        assert of_step.test == [i for i in data.val if data.classes(i) & seen]


@pytest.mark.parametrize("dataset", ["voc", "ade", "folder"])
def test_partitioned_covers_every_image_once_whatever_the_task(tmp_path: Path, dataset: str):
    data = CLASS_SETS[dataset](tmp_path, 3)
    by_class: dict[str, list[str]] = {}
    for name in ("1-1", TASKS[dataset], "offline"):
        task, sets = sets_of(data, dataset, name, scenario="partitioned")
        assert sorted(image for of_step in sets for image in of_step.train) == sorted(data.train)
        if name == "1-1":
            by_class = {step.new_classes[0]: of_step.train for step, of_step in zip(task.steps, sets, strict=True)}
        # An image goes with its class, into whatever step that is.
        for step, of_step in zip(task.steps, sets, strict=True):
            assert set(of_step.train) == {image for label in step.new_classes for image in by_class[label]}


def test_an_image_without_any_class_serves_step_0_when_partitioned(tmp_path: Path):
    data = random_folder(tmp_path, 4)
    bare = [name for name in data.train if not data.classes(name) - {0, 255}]
    _, sets = sets_of(data, "folder", "2-2", scenario="partitioned")
    assert bare and set(bare) <= set(sets[0].train)


@pytest.mark.parametrize("seed", [0, 1])
def test_cityscapes_by_class_deals_no_image_twice(tmp_path: Path, seed: int):
    data = CLASS_SETS["cityscape"](tmp_path, seed)
    task, sets = sets_of(data, "cityscape", "10-9")
    taken: dict[str, int] = {}
    for label in (17, 16, 15, 18, 4, 13, 5, 7, 9, 1, 2, 3, 6, 8, 10, 11, 12, 14, 19):
        free = [name for name in data.train if name not in taken and label in data.classes(name)]
        for name in free if label == 19 else free[:150]:
            taken[name] = label
    for step, of_step in zip(task.steps, sets, strict=True):
        new, seen = set(step.new_classes), set(step.order) - {0}
        assert of_step.train == [name for name in data.train if taken.get(name) in new]
        assert of_step.val == [name for name in data.val if data.classes(name) & new]
        assert of_step.test == [name for name in data.val if data.classes(name) & seen]
    assert sets[0].train and sets[1].train and not set(sets[0].train) & set(sets[1].train)


@pytest.mark.parametrize("seed", range(5))
def test_dealing_is_first_come_first_served(seed: int):
    shows = np.random.default_rng(seed).random((400, 256)) < 0.02
    order, at_most = (3, 1, 2), 5
    expected = np.zeros(400, int)
    for label in order:
        count = 0
        for image in range(400):
            if shows[image, label] and expected[image] == 0 and (label == 2 or count < at_most):
                expected[image] = label
                count += 1
    owner = deal(shows, order, at_most)
    np.testing.assert_array_equal(owner, expected)
    # The last class takes all that are left, beyond the limit too.
    assert (owner == 3).sum() == at_most and (owner == 2).sum() == (shows[:, 2] & ~np.isin(owner, [3, 1])).sum()


def test_the_dealing_order_is_that_of_the_specification():
    assert (*DEALING_ORDER,) == (17, 16, 15, 18, 4, 13, 5, 7, 9, 1, 2, 3, 6, 8, 10, 11, 12, 14, 19)
    assert DEALT_AT_MOST == 150


def domain_parts(names: list[str]) -> tuple[list[str], list[str]]:
    indices = list(range(len(names)))
    np.random.RandomState(1).shuffle(indices)
    first = int(0.8 * len(names))
    return [names[i] for i in indices[:first]], [names[i] for i in indices[first:]]


@pytest.mark.parametrize("domain_test", ["public", "clean"])
@pytest.mark.parametrize("name", ["11-5", "11-1", "1-1"])
def test_cityscapes_by_domain(tmp_path: Path, name: str, domain_test: str):
    data = random_cityscapes(tmp_path, 0, first_class=0)
    task, sets = sets_of(data, "cityscapes_domain", name, domain_test=domain_test)
    pooled = [*data.train, *data.val]
    assert len(pooled) == 84
    held_out: list[str] = []
    for step, arriving in enumerate(task.arrivals):
        train, val = domain_parts([i for i in pooled if data.domain_of(i) in arriving])
        seen = {domain for arrived in task.arrivals[: step + 1] for domain in arrived}
        held_out += val
        assert (sets[step].train, sets[step].val) == (train, val)
        public = domain_parts([i for i in pooled if data.domain_of(i) in seen])[1]
        assert sets[step].test == (held_out if domain_test == "clean" else public)
    trained = {name for of_step in sets for name in of_step.train}
    leaked = [name for of_step in sets for name in of_step.test if name in trained]
    assert not leaked if domain_test == "clean" else leaked


def test_a_step_of_cities_may_validate_on_images_of_its_own(tmp_path: Path):
    data = random_cityscapes(tmp_path, 0, first_class=0)
    _, plain = sets_of(data, "cityscapes_domain", "11-5")
    _, crossed = sets_of(data, "cityscapes_domain", "11-5", cross_val=True)
    _, same = sets_of(data, "cityscapes_domain", "11-5", val_on_trainset=True)
    for step in range(3):
        assert (crossed[step].train, crossed[step].val) == domain_parts(plain[step].train)
        assert same[step].val == same[step].train == plain[step].train
        assert crossed[step].test == same[step].test == plain[step].test


def test_both_kinds_of_cityscapes_share_one_index(tmp_path: Path):
    data = random_cityscapes(tmp_path, 0, first_class=0)
    sets_of(data, "cityscapes_domain", "11-5")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / ".index").iterdir()}
    sets_of(data, "cityscape", "10-9")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".index").iterdir()} == times
    assert {path.name for path in times} == {"cityscapes-train.npz", "cityscapes-val.npz"}


@pytest.mark.parametrize("dataset", [*CLASS_SETS, "cityscapes_domain"])
def test_labels_of_every_data_set_pixel_by_pixel(tmp_path: Path, dataset: str):
    write = CLASS_SETS.get(dataset) or partial(random_cityscapes, first_class=0)
    data, has_background = write(tmp_path, 5), dataset != "cityscapes_domain"
    common = {"dataset": dataset, "data_root": data.root, "task": TASKS.get(dataset, "11-5")}
    # Where domains arrive there is no background, and so one protocol.
    protocols = ["plop", "mib"] if has_background else ["plop"]
    for masking, protocol in product(["current", "current+old", "new"], protocols):
        ignores = masking == "new" and has_background
        options = {"data_masking": masking, "ignore_test_bg": ignores, "label_protocol": protocol, "batch_size": 1}
        every = data_of(DataConfig(crop_val=False, num_workers=0, **common, **options))
        # In ADE20K, 0 is what nobody named: MiB does not test on it.
        ignores = ignores or (protocol == "mib" and dataset == "ade")
        for step in every.task.steps:
            trained = partial(training_pixel, step=step, masking=masking, protocol=protocol)
            tested = partial(seen_pixel, step=step, ignore_background=ignores, protocol=protocol)
            for shown, see in (
                (every.train(step)._loader.dataset, trained),
                (every.val(step).dataset, tested if protocol == "mib" else trained),
                (every.test(step).dataset, tested),
            ):
                expected = [see(data.class_of(value)) for value in range(256)]
                assert shown.lut.tolist() == expected
                if shown.transform is whole_image:
                    for index, sample in enumerate(shown.samples[:5]):
                        mask = (data.val | data.train)[name_of(sample)]
                        np.testing.assert_array_equal(shown[0, index][1].numpy(), np.array(expected)[mask])
