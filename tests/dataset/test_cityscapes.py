"""The layout of Cityscapes, and the facts of it."""

import shutil
from pathlib import Path

import pytest

from dataset.cityscapes import CITIES, CLASS_SPEC, DOMAIN_SPEC, RAW_IDS, list_samples
from tests.dataset import random_sets
from tests.dataset.random_sets import random_cityscapes
from utils.errors import UserError


def test_facts_are_those_of_the_specification():
    assert list(CITIES) == random_sets.CITIES and list(RAW_IDS) == random_sets.TRAINED_IDS
    for train_id, value in enumerate(RAW_IDS):
        assert DOMAIN_SPEC.class_of[value] == train_id and CLASS_SPEC.class_of[value] == train_id + 1
    others = set(range(256)) - set(RAW_IDS)
    assert {spec.class_of[value] for spec in (DOMAIN_SPEC, CLASS_SPEC) for value in others} == {255}
    assert CLASS_SPEC.class_names[1:] == DOMAIN_SPEC.class_names and CLASS_SPEC.class_names[0] == "background"
    assert (DOMAIN_SPEC.class_names[0], DOMAIN_SPEC.palette[0]) == ("road", (128, 64, 128))
    assert (DOMAIN_SPEC.class_names[18], DOMAIN_SPEC.palette[18]) == ("bicycle", (119, 11, 32))


def test_samples_know_their_city(tmp_path: Path):
    data = random_cityscapes(tmp_path, 0, first_class=0)
    (tmp_path / "leftImg8bit" / "train" / "notes.txt").write_text("no city")
    for split, names in (("train", data.train), ("val", data.val)):
        samples = list_samples(tmp_path, split)
        assert [sample.image.name for sample in samples] == [f"{name}_leftImg8bit.png" for name in names]
        assert [sample.domain for sample in samples] == [data.domain_of(name) for name in names]
        assert all(sample.mask.is_file() for sample in samples)


def test_what_does_not_belong_or_is_missing_is_named(tmp_path: Path):
    random_cityscapes(tmp_path, 0, first_class=0)
    with pytest.raises(UserError, match=r"no folder .*nowhere/leftImg8bit/train; point --data_root at the folder"):
        list_samples(tmp_path / "nowhere", "train")
    (tmp_path / "leftImg8bit" / "train" / "atlantis").mkdir()
    with pytest.raises(UserError, match=r"train/atlantis: no city of Cityscapes; known are aachen, .*; move it"):
        list_samples(tmp_path, "train")
    shutil.rmtree(tmp_path / "gtFine" / "val")
    with pytest.raises(UserError, match=r"no folder .*gtFine/val; "):
        list_samples(tmp_path, "val")
    shutil.rmtree(tmp_path / "leftImg8bit" / "train")
    (tmp_path / "leftImg8bit" / "train" / "ulm").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no image CITY/\*_leftImg8bit\.png below .*train; unpack"):
        list_samples(tmp_path, "train")
