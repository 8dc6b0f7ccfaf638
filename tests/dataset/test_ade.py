"""The layout of ADE20K, and the facts of it."""

import shutil
from pathlib import Path

import pytest

from dataset.ade import SPEC, list_samples
from tests.dataset.random_sets import random_ade
from utils.errors import UserError


def test_names_and_colours_are_the_usual_ones():
    known = {0: "other", 1: "wall", 2: "building", 13: "person", 21: "car", 45: "chest of drawers", 150: "flag"}
    assert {label: SPEC.class_names[label] for label in known} == known
    assert len(SPEC.class_names) == len(set(SPEC.class_names)) == len(SPEC.palette) == 151
    colours = {0: (0, 0, 0), 1: (120, 120, 120), 2: (180, 120, 120), 3: (6, 230, 230), 150: (92, 0, 255)}
    assert {label: SPEC.palette[label] for label in colours} == colours
    # One pair of the published colours is the same: path and ceiling.
    assert len(set(SPEC.palette)) == 150


def test_the_root_may_be_the_archive_or_the_folder_around_it(tmp_path: Path):
    data = random_ade(tmp_path, 0)
    for split, names in (("train", data.train), ("val", data.val)):
        samples = list_samples(tmp_path, split)
        assert samples == list_samples(tmp_path / "ADEChallengeData2016", split)
        assert [sample.image.stem for sample in samples] == list(names)
        assert all(sample.mask.is_file() and sample.mask.stem == sample.image.stem for sample in samples)


def test_what_is_missing_is_named(tmp_path: Path):
    random_ade(tmp_path, 0)
    with pytest.raises(UserError, match=r"no folder .*nowhere/images/training; .*--data_root .*ADEChallengeData2016/"):
        list_samples(tmp_path / "nowhere", "train")
    shutil.rmtree(tmp_path / "ADEChallengeData2016" / "annotations" / "validation")
    with pytest.raises(UserError, match=r"no folder .*annotations/validation; "):
        list_samples(tmp_path, "val")
