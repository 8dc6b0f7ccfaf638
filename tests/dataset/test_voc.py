"""Both layouts of VOC give the same samples, and what is missing is named."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from dataset.voc import SPEC, list_samples
from utils.errors import UserError
from utils.log import log


def relative(root: Path, split: str) -> list[tuple[str, str]]:
    return [tuple(str(path.relative_to(root)) for path in sample[:2]) for sample in list_samples(root, split)]


def test_both_layouts_give_the_same_samples(make_voc):
    lists, devkit = make_voc(layout="lists", name="a"), make_voc(layout="devkit", name="b")
    for split, ids in (("train", lists.train), ("val", lists.val)):
        expected = [(f"JPEGImages/{i}.jpg", f"SegmentationClassAug/{i}.png") for i in ids]
        assert relative(lists.root, split) == relative(devkit.root, split) == expected


def test_devkit_takes_sbd_masks_first_and_official_ones_where_there_are_none(make_voc):
    tiny = make_voc(layout="devkit", num_train=4, num_val=2)
    shutil.copytree(tiny.root / "SegmentationClassAug", tiny.root / "SegmentationClass")
    for name in tiny.val:
        (tiny.root / "SegmentationClassAug" / f"{name}.png").unlink()
    assert {sample.mask.parent.name for sample in list_samples(tiny.root, "train")} == {"SegmentationClassAug"}
    assert {sample.mask.parent.name for sample in list_samples(tiny.root, "val")} == {"SegmentationClass"}


@pytest.mark.parametrize("name", ["train_aug", "trainaug", "train"])
def test_devkit_train_list_goes_by_three_names(make_voc, name: str, caplog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "propagate", True)  # a test of the whole program may have set the log up
    tiny = make_voc(layout="devkit", num_train=4, num_val=2)
    folder = tiny.root / "ImageSets" / "Segmentation"
    (folder / "train_aug.txt").rename(folder / f"{name}.txt")
    assert len(list_samples(tiny.root, "train")) == 4
    # The 1,464 images of train.txt in place of 10,582 would spoil the results: never silently.
    assert ("train_aug" in caplog.text) == (name == "train")


def test_the_augmented_list_wins_over_train(make_voc):
    tiny = make_voc(layout="devkit", num_train=4, num_val=2)
    folder = tiny.root / "ImageSets" / "Segmentation"
    (folder / "train.txt").write_text(tiny.train[0])
    assert len(list_samples(tiny.root, "train")) == 4


def test_missing_parts_are_named(make_voc):
    tiny = make_voc(num_train=2, num_val=1)
    with pytest.raises(UserError, match=r"no folder .*nowhere.*JPEGImages; point --data_root"):
        list_samples(tiny.root / "nowhere", "train")
    (tiny.root / "list" / "val.txt").unlink()
    with pytest.raises(
        UserError, match=r"no list of val images in .*list/val\.txt, ImageSets/Segmentation/val\.txt; .*--data_root"
    ):
        list_samples(tiny.root, "val")
    shutil.rmtree(tiny.root / "SegmentationClassAug")
    with pytest.raises(UserError, match=r"no folder .*SegmentationClassAug nor SegmentationClass; .*--data_root"):
        list_samples(tiny.root, "train")


def test_bad_lists_are_named(make_voc):
    tiny = make_voc(num_train=2, num_val=1)
    path = tiny.root / "list" / "train_aug.txt"
    path.write_text("\n/JPEGImages/a.jpg /SegmentationClassAug/a.png extra\n")
    with pytest.raises(UserError, match=r"train_aug\.txt, line 2: 3 columns; a line is IMAGE MASK"):
        list_samples(tiny.root, "train")
    path.write_text("/JPEGImages/a.jpg /SegmentationObject/a.png\n")
    with pytest.raises(UserError, match=r"line 1: /SegmentationObject/a\.png numbers objects, not classes; .*ClassAug"):
        list_samples(tiny.root, "train")
    path.write_text("/SegmentationClassAug/a.png /JPEGImages/a.JPG\n")
    with pytest.raises(UserError, match=r"line 1: the mask /JPEGImages/a\.JPG is a JPEG; .*swap the columns"):
        list_samples(tiny.root, "train")
    path.write_text("\n\n")
    with pytest.raises(UserError, match=r"train_aug\.txt names no image"):
        list_samples(tiny.root, "train")
    path.write_bytes(b"/JPEGImages/a\xe9.jpg /SegmentationClassAug/a.png\n")
    with pytest.raises(UserError, match=r"train_aug\.txt cannot be read \(no text\); a line is IMAGE MASK"):
        list_samples(tiny.root, "train")
    path.write_text("a\nb\0\n")
    with pytest.raises(UserError, match=r"train_aug\.txt, line 2: the control character '\\x00'; a line is IMAGE"):
        list_samples(tiny.root, "train")


def test_palette_is_the_devkits():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0), 20: (0, 64, 128)}
    known |= {15: (192, 128, 128), 19: (128, 192, 0), 16: (0, 64, 0)}
    assert {label: SPEC.palette[label] for label in known} == known
    assert len(SPEC.palette) == len(SPEC.class_names) == len(set(SPEC.palette)) == 21


def test_fixture_masks_are_palette_images(voc):
    # The tests below this folder rely on it.
    with Image.open(voc.root / "SegmentationClassAug" / f"{voc.train[0]}.png") as file:
        assert file.mode == "P"
