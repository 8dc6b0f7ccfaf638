"""PASCAL VOC 2012 with the SBD masks (SPEC 2), in the layout of the authors' lists or of the official devkit."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from dataset.base import DatasetSpec, Sample, StepSizes
from dataset.conventions import binary_doubt, numbered_objects_doubt
from dataset.listing import read_lines, require_folder
from tasks import Facts
from utils.constants import IGNORE_INDEX, voc_palette
from utils.errors import UserError
from utils.log import log

DATA = Path(__file__).parents[1] / "data"
CLASS_NAMES = tuple((DATA / "voc_classes.txt").read_text().split())

DEVKIT_LISTS = "ImageSets/Segmentation"
LISTS = {
    "train": ("list/train_aug.txt", *(f"{DEVKIT_LISTS}/{name}.txt" for name in ("train_aug", "trainaug", "train"))),
    "val": ("list/val.txt", f"{DEVKIT_LISTS}/val.txt"),
}
IMAGES = "JPEGImages"
MASKS = ("SegmentationClassAug", "SegmentationClass")
OBJECT_MASKS = "SegmentationObject"


def _published_sizes() -> Iterator[StepSizes]:
    with open(DATA / "voc_step_sizes.csv", newline="") as file:
        for row in csv.DictReader(file):
            train, test = (tuple(map(int, row[name].split())) for name in ("train", "test"))
            yield StepSizes(row["task"], row["scenario"], train, test)


def list_samples(root: Path, split: str) -> list[Sample]:
    """Samples of `split`, "train" or "val", in the order of its list. UserError where a folder or list is missing."""
    require_folder(root / IMAGES, f"point --data_root at the folder that holds {IMAGES}/")
    if not any((root / folder).is_dir() for folder in MASKS):
        raise UserError(
            f"no folder {root / MASKS[0]} nor {MASKS[1]}; put the masks there, or point --data_root elsewhere"
        )
    path = _find_list(root, split)
    refined = set(os.listdir(root / MASKS[0])) if (root / MASKS[0]).is_dir() else set()
    samples = []
    for number, line in enumerate(read_lines(path, "a line is IMAGE MASK, as paths in the data set, or one id"), 1):
        columns, place = line.split(), f"{path}, line {number}"
        if len(columns) == 1:
            name = columns[0].removesuffix(".jpg").removesuffix(".png")
            folder = MASKS[0] if f"{name}.png" in refined else MASKS[1]
            samples.append(Sample(root / IMAGES / f"{name}.jpg", root / folder / f"{name}.png"))
        elif len(columns) == 2:
            if columns[1] in ("1", "0", "-1"):
                raise UserError(f"{place}: {line.strip()!r} says whether a class is there; give a list of segmentation")
            if Path(columns[1]).suffix.lower() in (".jpg", ".jpeg"):
                raise UserError(f"{place}: the mask {columns[1]} is a JPEG; a line is IMAGE MASK: swap the columns")
            if OBJECT_MASKS in columns[1]:
                raise UserError(f"{place}: {columns[1]} numbers objects, not classes; name the mask in {MASKS[0]}")
            samples.append(Sample(*(root / column.lstrip("/") for column in columns)))
        elif columns:
            raise UserError(f"{place}: {len(columns)} columns; a line is IMAGE MASK, as paths in {root}, or one id")
    if not samples:
        raise UserError(f"{path} names no image; fill it, or point --data_root at a complete data set")
    _require_augmented(root, path, samples, refined)
    return samples


def _require_augmented(root: Path, path: Path, samples: list[Sample], refined: set[str]) -> None:
    """UserError where a list has images of SBD, whose masks are not those that come with VOC."""
    if not refined and (root / MASKS[1]).is_dir():
        there = set(os.listdir(root / MASKS[1]))
        lacking = sum(sample.mask.parent == root / MASKS[1] and sample.mask.name not in there for sample in samples)
        if lacking:
            raise UserError(
                f"{lacking:,} of {len(samples):,} images in {path} have no mask in {MASKS[1]}: the masks of SBD go to "
                f"{root / MASKS[0]}; sh data/download_voc.sh fetches them"
            )


def _find_list(root: Path, split: str) -> Path:
    for name in LISTS[split]:
        path = root / name
        if path.is_file():
            if name == f"{DEVKIT_LISTS}/train.txt":
                log.warning("%s: no train_aug.txt, so the fewer images of train.txt are trained on", root)
            return path
    raise UserError(
        f"no list of {split} images in {root}: looked for {', '.join(LISTS[split])}; put one there, or point "
        "--data_root at the folder that holds it"
    )


SPEC = DatasetSpec(
    facts=Facts(
        dataset="voc",
        num_units=20,
        num_classes=21,
        published=("19-1", "15-5", "15-1", "10-1", "5-3", "offline"),
        aliases=(("15-5s", "15-1"),),
    ),
    folder="voc",
    class_names=CLASS_NAMES,
    palette=voc_palette(len(CLASS_NAMES)),
    label_values=frozenset((*range(len(CLASS_NAMES)), IGNORE_INDEX)),
    list_samples=list_samples,
    doubts=lambda values: binary_doubt(values) or numbered_objects_doubt(values),
    num_images=(10582, 1449),
    step_sizes=tuple(_published_sizes()),
)
