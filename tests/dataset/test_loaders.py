"""build_loaders: batches as the contract says, the same for any number of workers and processes, errors on one line."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from config import DataConfig
from dataset import Loaders, require_full_batch
from tests.dataset.conftest import write_pair
from tests.helpers import SPECS, loaders_of, task_of
from utils.errors import UserError, one_line


@pytest.fixture
def config(voc) -> DataConfig:
    return DataConfig(data_root=voc.root, task="15-5", overlap=True, crop_size=32, batch_size=4, num_workers=0)


def build(config: DataConfig, step: int = 0, **options: int) -> Loaders:
    return loaders_of(config, step, **options)


def one_pass(loader, epoch: int | None = None) -> list[tuple[Tensor, Tensor]]:
    if epoch is not None:
        loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_same(left: list, right: list) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_batches_are_uint8_of_the_crop_size(voc, config: DataConfig):
    task = task_of("voc", "15-5")
    loaders = build(config, 1)
    for loader in (loaders.train, loaders.val, loaders.test):
        for images, labels in loader:
            assert images.dtype == labels.dtype == torch.uint8
            assert images.shape == (len(labels), 3, 32, 32) and labels.shape[1:] == (32, 32)
            assert images.is_contiguous()
            assert all(value < task.num_seen(1) or value == 255 for value in labels.unique().tolist())
    assert all(len(labels) == 4 for _, labels in loaders.train)
    assert len(loaders.train) == len(loaders.train.dataset) // 4
    for loader, count in ((loaders.val, len(loaders.val.dataset)), (loaders.test, len(voc.val))):
        assert sum(len(labels) for _, labels in loader) == count


def test_whole_images_hold_the_labels_of_their_masks(voc, config: DataConfig):
    loaders = build(dataclasses.replace(config, crop_val=False), 1)
    task = task_of("voc", "15-5")
    for loader, see in (
        (loaders.test, lambda mask: np.where(mask == 255, 255, np.searchsorted(task.order(1), mask))),
        (loaders.val, lambda mask: np.where((mask == 255) | (mask > 15), mask, 0)),
    ):
        names = [sample.image.stem for sample in loader.dataset.samples]
        seen = set()
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
    loader = build(dataclasses.replace(config, crop_val=False, crop_size=64), 1).test
    counts = [len(labels) for _, labels in loader if labels.shape[1:] == shape]
    # Four crops of 64 have as many pixels as nine such images.
    assert sum(counts) == sum(sample.size == shape for sample in loader.dataset.samples)
    assert sorted(counts, reverse=True) == [9, 1]


def test_options_of_the_labels_arrive(voc, config: DataConfig):
    config = dataclasses.replace(config, crop_val=False, data_masking="new", ignore_test_bg=True)
    loaders = build(config, 1)
    assert not any((labels == 0).any() for _, labels in loaders.test)
    for _, labels in loaders.val:
        assert set(labels.unique().tolist()) <= {0, 255, *range(16, 21)}


@pytest.mark.parametrize("option", ["test_on_val", "val_on_trainset", "cross_val"])
def test_options_of_the_split_arrive(voc, config: DataConfig, option: str):
    loaders = build(dataclasses.replace(config, **{option: True}))
    changed = loaders.test if option == "test_on_val" else loaders.val
    assert {sample.image.stem for sample in changed.dataset.samples} <= set(voc.train)
    disjoint = build(dataclasses.replace(config, overlap=False))
    assert len(disjoint.train.dataset) < len(build(config).train.dataset)


def test_workers_change_nothing_and_the_main_generators_stay(config: DataConfig):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    alone, helped = build(config), build(dataclasses.replace(config, num_workers=2))
    for epoch in (0, 3):
        assert_same(one_pass(alone.train, epoch), one_pass(helped.train, epoch))
    assert_same(one_pass(alone.test), one_pass(helped.test))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(np.random.get_state()[1], states[2])


def test_the_seed_the_step_and_the_pass_choose_the_random_numbers(config: DataConfig):
    config = dataclasses.replace(config, task="10-10", cross_val=True)
    assert_same(one_pass(build(config).train, 1), one_pass(build(config).train, 1))
    key = (0, 0)
    first = build(config).train.dataset[key][0]
    assert torch.equal(first, build(config).train.dataset[key][0])
    assert not torch.equal(first, build(config).train.dataset[(1, 0)][0])
    assert not torch.equal(first, build(config, seed=43).train.dataset[key][0])
    # The same image in two steps is not cut the same way: only the seed of the view tells the two apart.
    assert build(config).train.dataset.seed != build(config, 1).train.dataset.seed


def pixels(batch: tuple[Tensor, Tensor]) -> list[bytes]:
    return sorted(image.numpy().tobytes() + labels.numpy().tobytes() for image, labels in zip(*batch, strict=True))


def test_two_processes_share_the_batches_of_one(config: DataConfig):
    alone = one_pass(build(config).train, 2)
    half = dataclasses.replace(config, batch_size=2)
    shares = [one_pass(build(half, rank=rank, world_size=2).train, 2) for rank in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1])
    for whole, left, right in zip(alone, *shares, strict=True):
        together = tuple(torch.cat(parts) for parts in zip(left, right, strict=True))
        assert pixels(together) == pixels(whole)


def test_two_processes_test_each_image_once(config: DataConfig):
    alone = one_pass(build(config).test)
    shares = [batch for rank in (0, 1) for batch in one_pass(build(config, rank=rank, world_size=2).test)]
    flat = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True)) for batches in (alone, shares)]
    assert pixels(flat[0]) == pixels(flat[1])


def test_a_batch_larger_than_the_step_is_refused(config: DataConfig):
    count = len(build(config, 1).train.dataset)
    half = count // 2
    require_full_batch(build(dataclasses.replace(config, batch_size=half), 1, world_size=2).train)
    too_large = dataclasses.replace(config, batch_size=half + 1)
    text = rf"--batch_size {half + 1}: {half + 1} x 2 process.* {count} training images .*--batch_size {half} or less"
    with pytest.raises(UserError, match=text):
        require_full_batch(build(too_large, 1, world_size=2).train)
    with pytest.raises(UserError, match="start fewer processes"):
        require_full_batch(build(config, 1, world_size=count + 1).train)


def test_an_unknown_data_set_is_refused(config: DataConfig):
    with pytest.raises(UserError, match=r"--dataset coco: choose from voc"):
        build(dataclasses.replace(config, dataset="coco"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_named_on_one_line(voc, config: DataConfig, num_workers: int):
    loaders = build(dataclasses.replace(config, num_workers=num_workers))
    path = voc.root / "JPEGImages" / f"{voc.val[2]}.jpg"
    Image.new("RGB", (4, 4)).save(path)
    path.write_bytes(path.read_bytes()[:-80])
    with pytest.raises(UserError) as caught:
        one_pass(loaders.test)
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
