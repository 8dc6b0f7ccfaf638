"""Pascal VOC 2012 with the masks of SBD: 10,582 images to train on instead of 1,464."""

import shutil
from pathlib import Path

from tools.downloads.archives import unpack
from tools.downloads.published import Archive
from tools.downloads.recipe import Counts, Recipe
from tools.downloads.sbd import convert_masks
from utils.errors import UserError

TAR = "VOCtrainval_11-May-2012.tar"
TGZ = "eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
PREFIX = "VOCdevkit/VOC2012/"
IMAGES, MASKS, MASKS_AUG, LISTS = "JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"


def unpack_voc(root: Path, devkit: Path, sbd: Path) -> Counts:
    """The images that have a mask, 12,031 of 17,125; the masks; the lists of the devkit and those of the authors.

    train_aug is train and all of SBD without val. Where there is an official mask, with its rim, it is the one taken.
    """
    unpack(devkit, root, {f"{LISTS}/{name}.txt" for name in ("train", "val", "trainval")}.__contains__, PREFIX)
    train, val = (_ids(devkit, root / LISTS / f"{name}.txt") for name in ("train", "val"))
    official = {*train, *val}
    train_aug = sorted({*train, *convert_masks(sbd, root / MASKS_AUG, skip=official)} - {*val})

    wanted = {f"{IMAGES}/{name}.jpg" for name in (*train_aug, *val)} | {f"{MASKS}/{name}.png" for name in official}
    if lacking := wanted - unpack(devkit, root, wanted.__contains__, PREFIX):
        raise _not_the_devkit(devkit, min(lacking))
    for name in official:
        shutil.copyfile(root / MASKS / f"{name}.png", root / MASKS_AUG / f"{name}.png")

    (root / LISTS / "train_aug.txt").write_text("".join(f"{name}\n" for name in train_aug))
    (root / "list").mkdir()
    for split, names in (("train_aug", train_aug), ("val", val)):
        lines = (f"/{IMAGES}/{name}.jpg /{MASKS_AUG}/{name}.png\n" for name in names)
        (root / "list" / f"{split}.txt").write_text("".join(lines))
    return {"train_aug": len(train_aug), "val": len(val)}


def _ids(devkit: Path, path: Path) -> list[str]:
    if not path.is_file():
        raise _not_the_devkit(devkit, f"{LISTS}/{path.name}")
    return path.read_text().split()


def _not_the_devkit(devkit: Path, lacking: str) -> UserError:
    return UserError(f"{devkit} holds no {PREFIX}{lacking}: it is not the devkit of VOC 2012; see VOC_URL and VOC_SUM")


RECIPE = Recipe(
    archives=(
        Archive(
            key="VOC",
            name=TAR,
            checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
            sources=(
                f"http://host.robots.ox.ac.uk/pascal/VOC/voc2012/{TAR}",
                f"https://data.pjreddie.com/files/{TAR}",
                f"https://pjreddie.com/media/files/{TAR}",
            ),
        ),
        Archive(
            key="SBD",
            name="benchmark.tgz",
            checksum="sha1:7129e0a480c2d6afb02b517bb18ac54283bfaa35",
            sources=(f"https://www2.{TGZ}", f"http://www.{TGZ}"),
        ),
    ),
    unpack=unpack_voc,
    contents=(IMAGES, MASKS, MASKS_AUG, "ImageSets", "list"),
    published={"train_aug": 10582, "val": 1449},
    unpacked_bytes=1.5e9,
    check_as="voc",
)
