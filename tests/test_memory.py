"""The memory of images: which ones are chosen, how they come into batches, and that a checkpoint has their names."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from config import DataConfig
from dataset.memory import MemoryRule, Remembered, choose_memory, plain_memory, read_memory
from dataset.sampler import MixedSampler
from methods import METHODS
from segmentation_module import build_student
from tests.helpers import ALONE, data_of, run_processes, small_network, task_of
from tests.workplace import StopAt, Workplace, assert_same, load
from train import fill_memory
from utils.distributed import Dist, world_size
from utils.errors import UserError

RULE = MemoryRule(mixed=True, all_labels=True, centred=False)

THREE = range(1, 4)


def images_of(*classes: tuple[int, ...]) -> list[Remembered]:
    return [Remembered(f"{number}.jpg", of_it) for number, of_it in enumerate(classes)]


def test_each_class_takes_its_turn():
    """METHODS 13.5: as many images for each class, to one."""
    candidates = images_of(*[(1,)] * 30, *[(2,)] * 5, *[(3,)] * 5, *[()] * 9)
    for seed in range(5):
        chosen = choose_memory(candidates, THREE, 13, seed=seed)
        counts = Counter(image.classes for image in chosen)
        assert sorted(counts.values()) == [4, 4, 5] and len({*chosen}) == 13
    assert choose_memory(candidates, THREE, 13, seed=0) != choose_memory(candidates, THREE, 13, seed=1)
    # A class of which nothing is left is passed over, an image without class never taken, and the search ends.
    assert Counter(image.classes for image in choose_memory(candidates, THREE, 99, seed=0)) == {
        (1,): 30,
        (2,): 5,
        (3,): 5,
    }
    assert len(choose_memory(candidates, THREE, 1, seed=0)) == 1 and choose_memory([], THREE, 9, seed=0) == ()


def test_the_first_image_left_that_shows_the_class_is_taken():
    """As in a loop written from the rule."""
    import numpy as np

    random = np.random.RandomState(0)
    candidates = images_of(*[tuple(sorted({*random.randint(1, 6, random.randint(4)).tolist()})) for _ in range(40)])
    for seed in range(20):
        draws = np.random.RandomState(seed)
        left = [candidates[place] for place in draws.permutation(40)]
        turns, expected = (1 + draws.permutation(5)).tolist(), []
        turn = 0
        while len(expected) < 12:
            label = turns[turn % 5]
            turn += 1
            for image in left:
                if label in image.classes:
                    expected.append(image)
                    left.remove(image)
                    break
        assert choose_memory(candidates, range(1, 6), 12, seed=seed) == tuple(expected)


def test_a_random_half_of_each_batch_is_of_the_memory():
    def sampler(rank: int = 0, world: int = 1) -> MixedSampler:
        made = MixedSampler(40, 6, batch_size=8 // world, rank=rank, world_size=world, seed=3)
        made.set_epoch(2)
        return made

    order = [index for _, index in sampler()]
    batches = [order[start : start + 8] for start in range(0, 40, 8)]
    assert [sum(index >= 40 for index in batch) for batch in batches] == [4] * 5
    assert len({tuple(index >= 40 for index in batch) for batch in batches}) > 1  # not always the same places
    counts = Counter(index for index in order if index >= 40)
    assert counts.keys() == {*range(40, 46)} and max(counts.values()) - min(counts.values()) <= 1
    new = [index for index in order if index < 40]
    assert len(new) == len({*new}) == 20
    # Two processes share the batches of one, and what is left after three batches is the end of the pass.
    of_two = [[index for _, index in sampler(rank, 2)] for rank in range(2)]
    assert [sorted(one + two) for one, two in zip(*(by_four(share) for share in of_two), strict=True)] == [
        sorted(batch) for batch in batches
    ]
    late = sampler()
    late.set_epoch(2, 3)
    assert [index for _, index in late] == order[24:]


def by_four(share: list[int]) -> list[list[int]]:
    return [share[start : start + 4] for start in range(0, len(share), 4)]


def chosen_in(rank: int, folder: Path) -> list[list]:
    """The memory for step 2 of task 15-1, of 9 of the images of step 1 and of one that was kept."""
    step = task_of("voc", "15-1").step(2)
    method = METHODS["DKD-M"](METHODS["DKD-M"].Config(mem_size=9), step)
    config = DataConfig(data_root=folder / "voc", task="15-1", overlap=True, crop_size=64, batch_size=3, num_workers=0)
    processes = world_size()
    data = data_of(config, rank=rank, world_size=processes)
    torch.manual_seed(0)
    network = build_student(small_network(branches=1, classes_per_head=(16,)), new_classes=1)
    with torch.no_grad():
        network.classifiers[0].weight *= 100  # or no sigmoid is near 1
    kept = (Remembered(f"JPEGImages/{data.sets[0].train[0].image.name}", (15,)),)
    dist = Dist(rank=rank, world_size=processes, device=ALONE.device)
    return plain_memory(fill_memory(method, network, kept, data, dist))


def test_two_processes_choose_what_one_does(tmp_path: Path, shapes: Path):
    (tmp_path / "voc").symlink_to(shapes)
    one = chosen_in(0, tmp_path)
    assert run_processes(chosen_in, tmp_path) == [one, one]
    data = data_of(DataConfig(data_root=tmp_path / "voc", task="15-1", overlap=True))
    names = {f"JPEGImages/{sample.image.name}": sample for sample in data.sets[1].train}
    order, old = data.task.step(1).order, 0
    for name, classes in one:
        if name in names:  # one of step 1: its label, and what the network sees
            shown = {order.index(label) for label in names[name].classes if label in order} | {0}
            assert 16 in classes or 16 not in shown
            old += any(label < 16 for label in classes)
    assert len(one) == 9 and old
    [kept] = (classes for name, classes in one if name not in names)
    assert 15 in kept  # from then


def test_a_run_remembers_by_name_and_resumes(workplace: Workplace, stop_at: StopAt, tmp_path: Path):
    """Step 2 chooses among the images of step 1 and those that step 1 had kept."""
    options = ["--method", "DKD-M", "--mem_size", 8, "--step", 0, 1, 2, "--epochs", 1, "--no_visualize"]
    assert workplace.run(*options) == 0
    kept = [load(workplace.checkpoint(step))["trainer_state"]["memory"] for step in range(3)]
    assert [len(images) for images in kept] == [0, 8, 8]
    of_first, of_second = ({name for name, _ in images} for images in kept[1:])
    assert of_second & of_first and of_second - of_first
    assert all((workplace.data / name).is_file() for name in of_first | of_second)
    other = Workplace(tmp_path / "other", workplace.data)
    stop_at(15, 2, 1)
    assert other.run(*options) == 143
    stop_at(0, -1, -1)
    assert other.run(*options) == 0
    assert_same(load(other.checkpoint(2)), load(workplace.checkpoint(2)))


def test_a_memory_that_is_not_one_is_refused(workplace: Workplace):
    data = data_of(DataConfig(data_root=workplace.data, task="15-1", overlap=True))
    with pytest.raises(UserError, match=r"the memory holds JPEGImages/gone.jpg, which is no training image"):
        data.samples_of((Remembered("JPEGImages/gone.jpg", ()),))
    for strange in (None, "text", [["a"]], [[1, 2]], {"a": 1}):
        with pytest.raises(UserError, match="its memory is"):
            read_memory(strange)


@pytest.mark.parametrize("mixed", [True, False])
def test_labels_of_remembered_images(workplace: Workplace, mixed: bool):
    """Those of all classes seen so far where the rule says so, else those of the step, in every batch."""
    config = DataConfig(data_root=workplace.data, task="15-1", overlap=True, crop_size=64, batch_size=2, num_workers=0)
    data = data_of(config)
    step = data.task.step(1)
    memory = tuple(Remembered(f"JPEGImages/{sample.image.name}", ()) for sample in data.sets[0].train[:6])
    batches = data.train(step, memory=memory, rule=RULE._replace(mixed=mixed, all_labels=mixed))
    assert len(data.sets[1].train) == 9 and len(batches) == (4 if mixed else 7)
    dataset = batches._loader.dataset
    assert list(dataset.samples[9:]) == data.sets[0].train[:6]
    shown = {int(label) for index in range(9, 15) for label in dataset[0, index][1].unique()} - {0, 255}
    assert (shown <= {16}) != mixed and (not mixed or len(shown) > 3)
    of_step = {int(label) for index in range(9) for label in dataset[0, index][1].unique()}
    assert of_step <= {0, 16, 255} and 16 in of_step
    assert sum(len(labels) for _, labels in batches.epoch(0)) == len(batches) * 2
