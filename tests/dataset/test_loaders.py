"""TaskData: batches as the contract says, the same for any number of workers and processes, errors on one line."""

import dataclasses
import random
from traceback import clear_frames

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from config import DataConfig
from dataset import TaskData
from dataset.base import StepDataset
from tasks import Step
from tests.dataset.conftest import write_pair
from tests.helpers import SPECS, data_of, task_of
from utils.errors import UserError, one_line

STEPS = task_of("voc", "15-5").steps
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def config(voc) -> DataConfig:
    return DataConfig(data_root=voc.root, task="15-5", overlap=True, crop_size=32, batch_size=4, num_workers=0)


def loader_of(config: DataConfig, step: Step = STEPS[1], **changes: object) -> DataLoader:
    """That of a process that is alone."""
    return data_of(dataclasses.replace(config, **changes)).test(step)


def names_of(loader: DataLoader) -> list[str]:
    return [sample.image.stem for sample in loader.dataset.samples]


def trained_on(data: TaskData, step: Step) -> StepDataset:
    return data.train(step)._loader.dataset


def assert_same(left: Batches, right: Batches) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_batches_are_uint8_of_the_crop_size(voc, config: DataConfig):
    data, step = data_of(config), STEPS[1]
    train, val, test = data.train(step), data.val(step), data.test(step)
    for batches in (train.epoch(0), val, test):
        for images, labels in batches:
            assert images.dtype == labels.dtype == torch.uint8
            assert images.shape == (len(labels), 3, 32, 32) and labels.shape[1:] == (32, 32)
            assert images.is_contiguous()
            assert all(value < step.num_seen or value == 255 for value in labels.unique().tolist())
    assert [len(labels) for _, labels in train.epoch(0)] == [4] * len(train)
    assert len(train) == train.num_images // 4 and train.num_images == len(data.sets[1].train)
    for loader, count in ((val, len(data.sets[1].val)), (test, len(voc.val))):
        assert sum(len(labels) for _, labels in loader) == count


def test_whole_images_hold_the_labels_of_their_masks(voc, config: DataConfig):
    data, step = data_of(dataclasses.replace(config, crop_val=False)), STEPS[1]
    for loader, see in (
        (data.test(step), lambda mask: np.where(mask == 255, 255, np.searchsorted(step.order, mask))),
        (data.val(step), lambda mask: np.where((mask == 255) | (mask > 15), mask, 0)),
    ):
        names, seen = names_of(loader), set()
        for keys, (images, labels) in zip(loader.batch_sampler, loader, strict=True):
            # Another layout in memory would change the last digits of the network.
            assert images.is_contiguous()
            for (_, index), image, found in zip(keys, images, labels, strict=True):
                mask = voc.masks[names[index]]
                np.testing.assert_array_equal(found, see(mask))
                assert image.shape == (3, *mask.shape)
                seen.add(index)
        assert seen == set(range(len(names)))


def test_whole_images_of_one_size_come_together(voc, config: DataConfig):
    shape = 40, 44
    for name in voc.val[::2]:
        voc.masks[name] = np.resize(voc.masks[name], shape)
        write_pair(
            voc.root / "JPEGImages" / f"{name}.jpg", voc.root / "SegmentationClassAug" / f"{name}.png", voc.masks[name]
        )
    loader = loader_of(config, crop_val=False, crop_size=64)
    counts = [len(labels) for _, labels in loader if labels.shape[1:] == shape]
    # Four crops of 64 have as many pixels as nine such images.
    assert sum(counts) == sum(sample.size == shape for sample in loader.dataset.samples)
    assert sorted(counts, reverse=True) == [9, 1]


def test_options_of_the_split_arrive(voc, config: DataConfig):
    whole = data_of(config)
    for option, changed in (("test_on_val", "test"), ("val_on_trainset", "val"), ("cross_val", "val")):
        loader = getattr(data_of(dataclasses.replace(config, **{option: True})), changed)(STEPS[0])
        assert {*names_of(loader)} <= {*voc.train} and not {*names_of(getattr(whole, changed)(STEPS[0]))} & {*voc.train}
    disjoint = data_of(dataclasses.replace(config, overlap=False))
    assert disjoint.train(STEPS[0]).num_images < whole.train(STEPS[0]).num_images


def test_workers_change_nothing_and_the_main_generators_stay(config: DataConfig):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    data = [data_of(dataclasses.replace(config, num_workers=count)) for count in (0, 2)]
    alone, helped = (of_it.train(STEPS[0]) for of_it in data)
    for epoch in (0, 3):
        assert_same(list(alone.epoch(epoch)), list(helped.epoch(epoch)))
    # A pass that is resumed lacks its first batches, and nothing else.
    assert_same(list(alone.epoch(3))[2:], list(helped.epoch(3, 2)))
    assert_same(*(list(of_it.test(STEPS[0])) for of_it in data))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(np.random.get_state()[1], states[2])


def test_the_seed_the_step_and_the_pass_choose_the_random_numbers(config: DataConfig):
    data, other = data_of(config), data_of(config, seed=43)
    assert_same(list(data.train(STEPS[0]).epoch(1)), list(data.train(STEPS[0]).epoch(1)))
    first, later = (trained_on(data, STEPS[0])[epoch, 0][0] for epoch in (0, 1))
    assert torch.equal(first, trained_on(data, STEPS[0])[0, 0][0])
    assert not torch.equal(first, later) and not torch.equal(first, trained_on(other, STEPS[0])[0, 0][0])
    # The same image in two steps is not cut the same way: only the seed of the view tells the two apart.
    assert trained_on(data, STEPS[0]).seed != trained_on(data, STEPS[1]).seed


def pixels(batches: Batches) -> list[bytes]:
    """Images with their labels, in no order."""
    pairs = [pair for batch in batches for pair in zip(*batch, strict=True)]
    return sorted(image.numpy().tobytes() + labels.numpy().tobytes() for image, labels in pairs)


def test_two_processes_share_the_batches_of_one_and_know_the_names_of_all(config: DataConfig):
    alone = data_of(config).train(STEPS[0])
    half = dataclasses.replace(config, batch_size=2)
    shares = [data_of(half, rank=rank, world_size=2).train(STEPS[0]) for rank in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1]) > 1
    for whole, left, right in zip(alone.epoch(2), *(share.epoch(2) for share in shares), strict=True):
        assert pixels([left, right]) == pixels([whole])
    for batch in range(len(alone)):
        names = [name for rank in (0, 1) for name in shares[0].names(batch, rank)]
        assert sorted(names) == sorted(alone.names(batch, 0)) and len(set(names)) == 4
        assert names == [name for rank in (0, 1) for name in shares[1].names(batch, rank)]


def test_two_processes_test_each_image_once(config: DataConfig):
    shares = [batch for rank in (0, 1) for batch in data_of(config, rank=rank, world_size=2).test(STEPS[0])]
    assert pixels(shares) == pixels(list(loader_of(config, STEPS[0])))


def test_a_batch_larger_than_the_step_is_refused(config: DataConfig):
    count = len(data_of(config).sets[1].train)
    half = count // 2
    assert len(data_of(dataclasses.replace(config, batch_size=half), world_size=2).train(STEPS[1])) == 1
    too_large = dataclasses.replace(config, batch_size=half + 1)
    text = rf"--batch_size {half + 1}: {half + 1} x 2 process.* {count} training images .*--batch_size {half} or less"
    with pytest.raises(UserError, match=text):
        data_of(too_large, world_size=2).train(STEPS[1])
    with pytest.raises(UserError, match="start fewer processes"):
        data_of(config, world_size=count + 1).train(STEPS[1])


def test_an_unknown_data_set_is_refused(config: DataConfig):
    with pytest.raises(UserError, match=r"--dataset coco: choose from voc"):
        data_of(dataclasses.replace(config, dataset="coco"))


def test_a_step_without_images_is_refused(make_voc, config: DataConfig):
    tiny = make_voc(name="tiny", num_train=16, num_val=16)  # none of them leads with one of the last classes
    data = data_of(dataclasses.replace(config, data_root=tiny.root, task="19-1"))
    data.refuse_few(data.task.steps[:1])
    with pytest.raises(UserError, match=r"step 1 \(classes 20\) .* no image in its"):
        data.refuse_few(data.task.steps)


def test_the_showcase_has_many_classes_with_the_labels_after_the_last_step(voc, config: DataConfig):
    shown = data_of(dataclasses.replace(config, crop_val=False)).showcase(12)
    assert len(shown) == 12
    seen = set()
    for index, sample in enumerate(shown.samples):
        mask = voc.masks[sample.image.stem]
        np.testing.assert_array_equal(shown[0, index][1], mask)  # VOC 15-5 has the classes in their own order
        seen |= voc.labels(sample.image.stem)
    assert len(seen) > len(set().union(*map(voc.labels, voc.val[:12])))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_named_on_one_line(voc, config: DataConfig, num_workers: int):
    loader = loader_of(config, num_workers=num_workers)
    path = voc.root / "JPEGImages" / f"{voc.val[2]}.jpg"
    Image.new("RGB", (4, 4)).save(path)
    path.write_bytes(path.read_bytes()[:-80])
    with pytest.raises(UserError) as caught:
        list(loader)
    clear_frames(caught.tb)  # else the loader is left to the garbage collector, and torch waits for each worker in vain
    line = one_line(caught.value)
    assert line.startswith(f"image {path} cannot be read (") and line.endswith("; restore the file")


@pytest.mark.parametrize("name", SPECS)
def test_every_data_set_has_a_name_a_colour_and_a_label_value_for_each_class(name: str):
    spec = SPECS[name]
    num_classes = spec.facts.num_classes
    assert spec.name == name
    assert len(set(spec.class_names)) == len(spec.palette) == num_classes
    shown = {spec.class_of[value] for value in spec.label_values} - {255}
    # A class without a label value is the background of a data set that labels no background.
    assert shown == set(range(num_classes)) - ({0} if name == "cityscape" else set())
