"""Images without labels beside those of a step: which they are, and that each epoch draws them the same again."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import dataset.auxiliary
from config import DataConfig
from dataset import TrainBatches
from dataset.auxiliary import find_pictures
from tests.dataset.conftest import TinyVoc
from tests.helpers import data_of, task_of
from utils.errors import UserError

STEP = task_of("voc", "15-5").step(1)
Mixed = list[tuple[Tensor, Tensor, Tensor]]


def write(path: Path, grey: int) -> None:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 34), (grey, grey, grey)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven pictures in several folders, each of a grey of its own, and what is none of them."""
    root = tmp_path / "pictures"
    for number, name in enumerate(("b.png", "a.PNG", "one/a.png", "one/two/c.bmp", "one/d.png", "z/e.png", "z/f.png")):
        write(root / name, 30 * number)
    (root / "notes.txt").write_text("none")
    write(root / ".hidden" / "g.png", 255)
    (root / "z" / "._f.png").write_bytes(b"what a Mac leaves")
    return root


@pytest.fixture
def config(voc: TinyVoc) -> DataConfig:
    return DataConfig(data_root=voc.root, task="15-5", overlap=True, crop_size=32, batch_size=4, num_workers=0)


def batches_of(config: DataConfig, *, rank: int = 0, world_size: int = 1) -> TrainBatches:
    return data_of(config, rank=rank, world_size=world_size).train(STEP, auxiliary=True)


def assert_same(left: Mixed, right: Mixed) -> None:
    assert len(left) == len(right) > 1
    for one, other in zip(left, right, strict=True):
        assert all(map(torch.equal, one, other))


def greys(mixed: Mixed) -> list[int]:
    """Which pictures they are."""
    return [int(picture[0, 0, 0]) for _, _, part in mixed for picture in part]


def test_all_pictures_below_the_folder_are_found_by_name(pictures: Path):
    found = find_pictures(pictures, at_least=7)
    names = [str(path.relative_to(pictures)) for path in found.paths]
    assert names == ["a.PNG", "b.png", "one/a.png", "one/d.png", "one/two/c.bmp", "z/e.png", "z/f.png"]


def test_the_digest_is_of_names_and_sizes_wherever_they_lie(pictures: Path, tmp_path: Path):
    before = find_pictures(pictures, at_least=1).digest
    os.utime(pictures / "b.png", (0, 0))
    moved = pictures.rename(tmp_path / "moved")
    assert find_pictures(moved, at_least=1).digest == before
    (moved / "b.png").rename(moved / "c.png")
    renamed = find_pictures(moved, at_least=1).digest
    write(moved / "c.png", 1)
    Image.new("RGB", (90, 90)).save(moved / "c.png")
    assert len({before, renamed, find_pictures(moved, at_least=1).digest}) == 3


def test_each_picture_is_tried_once_as_long_as_none_changes(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    tried = []
    monkeypatch.setattr(dataset.auxiliary, "probe", lambda path, role: tried.append(path))
    for _ in range(2):
        find_pictures(pictures, at_least=1)
        assert len(tried) == 7
    os.utime(pictures / "b.png", (0, 0))
    find_pictures(pictures, at_least=1)
    assert len(tried) == 14
    (pictures / ".index" / "pictures.txt").write_bytes(b"\xff")
    find_pictures(pictures, at_least=1)
    assert len(tried) == 21


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: os.truncate(root / "b.png", 60), "picture .*b.png cannot be read"),
        (lambda root: (root / "b.png").write_text("text"), "picture .*b.png cannot be read"),
        (lambda root: (root / "gone.jpg").symlink_to("nowhere"), "picture .*gone.jpg cannot be read"),
        (lambda root: (root / "folder.jpg").mkdir(), "picture .*folder.jpg cannot be read .no regular file"),
        (lambda root: root.rename(root.with_name("other")), "no folder .*pictures; point --aux_root"),
    ],
)
def test_what_is_no_picture_is_named(pictures: Path, spoil, says: str):
    spoil(pictures)
    with pytest.raises(UserError, match=says):
        find_pictures(pictures, at_least=1)


def test_too_few_pictures_are_refused(pictures: Path, config: DataConfig, tmp_path: Path):
    with pytest.raises(UserError, match=r"holds 7 picture.* one batch takes 8; put more"):
        data_of(replace(config, aux_root=pictures), world_size=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no picture"):
        data_of(replace(config, aux_root=tmp_path / "empty"))


def test_a_batch_brings_as_many_pictures_and_its_own_images_are_those_without(pictures: Path, config: DataConfig):
    batches = batches_of(replace(config, aux_root=pictures))
    mixed, plain = list(batches.epoch_with_auxiliary(2)), list(batches.epoch(2))
    assert len(batches.names(0, 0)) == 4  # of the last epoch asked for
    for (images, labels, more), (own, of_own) in zip(mixed, plain, strict=True):
        assert torch.equal(images, own) and torch.equal(labels, of_own)
        assert more.shape == (4, 3, 32, 32) and more.dtype == torch.uint8
    # Fewer than an epoch draws: each as often as any other, but for one.
    counts = Counter(greys(mixed))
    assert len(counts) == 7 and len(mixed) * 4 > 7 and max(counts.values()) - min(counts.values()) <= 1


def test_more_pictures_than_an_epoch_draws_are_drawn_once(config: DataConfig, tmp_path: Path):
    for number in range(100):
        write(tmp_path / "many" / f"{number}.png", number)
    batches = batches_of(replace(config, aux_root=tmp_path / "many"))
    first, second = (greys(list(batches.epoch_with_auxiliary(epoch))) for epoch in (0, 1))
    assert len(set(first)) == len(first) == 4 * len(batches) and set(first) != set(second)


def test_an_epoch_is_the_same_again_and_resumes_and_workers_change_nothing(pictures: Path, config: DataConfig):
    given = replace(config, aux_root=pictures)
    alone, helped = batches_of(given), batches_of(replace(given, num_workers=1))
    whole = list(alone.epoch_with_auxiliary(3))
    assert_same(list(alone.epoch_with_auxiliary(3)), whole)
    assert_same(list(helped.epoch_with_auxiliary(3)), whole)
    assert_same([whole[0], *alone.epoch_with_auxiliary(3, 1)], whole)
    other = list(alone.epoch_with_auxiliary(4))
    assert not all(torch.equal(one[2], two[2]) for one, two in zip(whole, other, strict=True))


def test_two_processes_share_the_pictures_of_one_and_know_their_names(pictures: Path, config: DataConfig):
    given = replace(config, aux_root=pictures)
    half = replace(given, batch_size=2)
    alone, *shares = batches_of(given), *(batches_of(half, rank=rank, world_size=2) for rank in (0, 1))
    epochs = [list(batches.epoch_with_auxiliary(1)) for batches in (alone, *shares)]
    for whole, left, right in zip(*epochs, strict=True):
        assert sorted(greys([whole])) == sorted(greys([left]) + greys([right]))
    for batch in range(len(alone)):
        names = [name for rank in (0, 1) for name in shares[1].names(batch, rank)]
        assert len(names) == 8 and sorted(names) == sorted(alone.names(batch, 0))
        assert {"a.PNG", "b.png", "a.png", "d.png", "c.bmp", "e.png", "f.png"} & {*names}


def test_without_a_folder_they_are_the_images_of_the_step_cut_another_way(config: DataConfig):
    batches, own = batches_of(config), data_of(config).sets[1].train
    assert batches._auxiliary.dataset.paths == tuple(sample.image for sample in own)
    labelled, unlabelled = (loader.dataset[0, 0] for loader in (batches._loader, batches._auxiliary))
    assert not torch.equal(labelled[0], unlabelled)
