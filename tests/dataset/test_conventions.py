"""Every public data set in each of its numberings: the right one is read, every other one is told apart."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config import DataConfig
from dataset import DATASETS
from dataset.catalogue import load_split
from dataset.cityscapes import RAW_IDS
from tools import check_data
from tools.make_shapes import make_shapes
from utils.errors import UserError

LAYOUTS = {"voc": "voc", "ade": "ade", "cityscape": "cityscapes", "cityscapes_domain": "cityscapes", "folder": "folder"}
SIZES = {"voc": (40, 24), "ade": (160, 40), "cityscapes": (72, 24), "folder": (40, 24)}


def objects(mask: np.ndarray) -> np.ndarray:
    """As SegmentationObject: 1 to the number of objects."""
    shown = [value for value in np.unique(mask).tolist() if value not in (0, 255)]
    numbered = mask.copy()
    for number, value in enumerate(shown, 1):
        numbered[mask == value] = number
    return numbered


def one_less(mask: np.ndarray) -> np.ndarray:
    """As in code that reduces zero: classes from 0 on, 255 for what is none."""
    return np.where(mask == 255, 255, mask - np.uint8(1))


def train_ids(mask: np.ndarray) -> np.ndarray:
    """As labelTrainIds."""
    made = np.full_like(mask, 255)
    for number, value in enumerate(RAW_IDS):
        made[mask == value] = number
    return made


def black_and_white(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 0, 0, 255).astype(np.uint8)


CONVENTIONS = {
    "voc": {objects: "number the objects of each image", black_and_white: "hold 0 and 255 alone"},
    "ade": {one_less: "hold 0 to 149 and 255, one less than they should", black_and_white: "hold 0 and 255 alone"},
    "cityscape": {train_ids: "hold 0 to 18 and 255, as those in labelTrainIds"},
    "cityscapes_domain": {train_ids: "hold 0 to 18 and 255, as those in labelTrainIds"},
    "folder": {black_and_white: "hold 0 and 255 alone"},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layout."""
    root = tmp_path_factory.mktemp("drawn")
    for layout, (train, val) in SIZES.items():
        make_shapes(root / layout, layout=layout, train=train, val=val, size=48, seed=3, workers=1)
    return root


def masks_of(root: Path) -> list[Path]:
    return [
        path
        for path in root.rglob("*.png")
        if {"SegmentationClassAug", "annotations", "gtFine", "masks"} & {*path.parts}
    ]


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_the_right_one_is_read(drawn: Path, dataset: str):
    root = drawn / LAYOUTS[dataset]
    spec = DATASETS[dataset](DataConfig(dataset=dataset, data_root=root))
    for name in ("train", "val"):
        assert load_split(spec, root, name).samples


@pytest.mark.parametrize(
    ("dataset", "change"), [(dataset, change) for dataset, changes in CONVENTIONS.items() for change in changes]
)
def test_every_other_one_is_told_apart(drawn: Path, tmp_path: Path, dataset: str, change, capsys):
    root, said = tmp_path / dataset, CONVENTIONS[dataset][change]
    shutil.copytree(drawn / LAYOUTS[dataset], root, ignore=shutil.ignore_patterns(".index", "shapes.json"))
    for path in masks_of(root):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)
    spec = DATASETS[dataset](DataConfig(dataset=dataset, data_root=root))
    with pytest.raises(UserError, match=rf"{dataset}, train: the masks .*{said}"):
        load_split(spec, root, "train")
    assert check_data.main([dataset, str(root), "--sheet", str(tmp_path / "sheet.png")]) in (1, 2)
    out, err = capsys.readouterr()
    assert said in out + err


def test_the_full_release_of_ade_is_recognised(tmp_path: Path):
    (tmp_path / "images" / "ADE" / "training").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"full ADE20K, .* the 150 classes are in ADEChallengeData2016: sh data/download"
    ):
        load_split(DATASETS["ade"](DataConfig()), tmp_path, "train")


def test_cityscapes_without_label_ids_is_recognised(drawn: Path, tmp_path: Path):
    root = tmp_path / "cityscapes"
    shutil.copytree(drawn / "cityscapes", root)
    for path in root.rglob("*_labelIds.png"):
        path.rename(str(path).replace("labelIds", "labelTrainIds"))
    said = r"has no mask .*_labelIds\.png, only .*_gtFine_labelTrainIds\.png; gtFine_trainvaltest\.zip has it"
    with pytest.raises(UserError, match=said):
        load_split(DATASETS["cityscape"](DataConfig()), root, "train")


def test_voc_without_the_augmented_masks_is_recognised(drawn: Path, tmp_path: Path):
    root = tmp_path / "voc"
    shutil.copytree(drawn / "voc", root)
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("train_aug", "val"):
        lines = (root / "list" / f"{name}.txt").read_text().split()[::2]
        (lists / f"{name}.txt").write_text("".join(f"{Path(line).stem}\n" for line in lines))
    shutil.rmtree(root / "list")
    spec = DATASETS["voc"](DataConfig())
    assert len(load_split(spec, root, "train").samples) == SIZES["voc"][0]
    for path in sorted((root / "SegmentationClass").iterdir())[:7]:
        path.unlink()
    with pytest.raises(UserError, match=r"7 of 40 images in .* have no mask in SegmentationClass: the masks of SBD go"):
        load_split(spec, root, "train")
