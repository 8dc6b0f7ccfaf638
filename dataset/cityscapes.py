"""Cityscapes (SPEC 1, 2) in its own layout: 19 classes that arrive city by city, or in two steps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dataset.base import DatasetSpec, Sample
from dataset.conventions import train_ids_doubt
from dataset.folder import read_classes
from dataset.listing import require_folder
from dataset.splits import select_by_class, select_by_domain, showing
from tasks import Facts, Step
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

DATA = Path(__file__).parents[1] / "data"
CLASS_NAMES, PALETTE = read_classes(DATA / "cityscapes_classes.txt")
RAW_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label values of the classes, without the background."""
NUM_RAW_IDS = 34
"""Ids that a mask of gtFine may hold; those without a class are ignored."""

CITIES = tuple((DATA / "cityscapes_cities.txt").read_text().split())
"""The domains, in the order of their arrival. The last three are those of the val folder."""

DEALING_ORDER = (17, 16, 15, 18, 4, 13, 5, 7, 9, 1, 2, 3, 6, 8, 10, 11, 12, 14, 19)
"""Classes, 1..19, in the order in which they take their training images: rare ones first."""
DEALT_AT_MOST = 150
"""Training images of each class but the last, which takes all that show it and are left."""

IMAGE_ENDING, MASK_ENDING = "_leftImg8bit.png", "_gtFine_labelIds.png"


def list_samples(root: Path, split: str) -> list[Sample]:
    """Samples of the folder `split`, "train" or "val", by city and name. UserError where a folder lacks."""
    images, masks = root / "leftImg8bit" / split, root / "gtFine" / split
    for folder in (images, masks):
        require_folder(folder, "point --data_root at the folder that holds leftImg8bit/ and gtFine/")
    samples = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        if folder.name not in CITIES:
            raise UserError(f"{folder}: no city of Cityscapes; known are {', '.join(CITIES)}; move it elsewhere")
        there = {path.name for path in masks.joinpath(folder.name).glob(f"*{MASK_ENDING}")}
        for image in sorted(folder.glob(f"*{IMAGE_ENDING}")):
            mask = masks / folder.name / image.name.replace(IMAGE_ENDING, MASK_ENDING)
            if mask.name not in there:
                others = sorted(masks.joinpath(folder.name).glob(image.name.replace(IMAGE_ENDING, "_gtFine_*")))
                found = f", only {', '.join(path.name for path in others)}" if others else ""
                raise UserError(f"image {image} has no mask {mask}{found}; gtFine_trainvaltest.zip has it")
            samples.append(Sample(image, mask, domain=CITIES.index(folder.name)))
    if not samples:
        raise UserError(f"no image CITY/*{IMAGE_ENDING} below {images}; unpack leftImg8bit there")
    return samples


def dealt(classes: np.ndarray, step: Step) -> np.ndarray:
    """(N,) bool: training images of the classes of `step`, where no image serves two classes (SPEC 2)."""
    return np.isin(deal(classes, DEALING_ORDER, DEALT_AT_MOST), step.new_classes)


def deal(classes: np.ndarray, order: Sequence[int], at_most: int) -> np.ndarray:
    """(N,) int: the class that each image is dealt to, 0 for none.

    In `order`, each class takes the first `at_most` images that show it and are not taken yet; the last takes all.
    """
    owner = np.zeros(len(classes), dtype=int)
    for label in order:
        free = np.flatnonzero(showing(classes, [label]) & (owner == 0))
        owner[free if label == order[-1] else free[:at_most]] = label
    return owner


def _class_of(first: int) -> tuple[int, ...]:
    """Class id of each raw label value: the trained ones in order from `first` on, all others 255."""
    ids = dict(zip(RAW_IDS, range(first, first + len(RAW_IDS)), strict=True))
    return tuple(ids.get(value, IGNORE_INDEX) for value in range(256))


COMMON = {
    "folder": "cityscapes",
    "label_values": frozenset((*range(NUM_RAW_IDS), IGNORE_INDEX)),
    "list_samples": list_samples,
    "doubts": partial(train_ids_doubt, num_classes=len(RAW_IDS)),
    "num_images": (2975, 500),
}

DOMAIN_SPEC = DatasetSpec(
    facts=Facts(
        dataset="cityscapes_domain",
        kind="domain",
        num_units=len(CITIES),
        num_classes=len(RAW_IDS),
        published=("11-5", "11-1", "1-1"),
    ),
    class_names=CLASS_NAMES[1:],
    palette=PALETTE[1:],
    domain_names=CITIES,
    class_of=_class_of(0),
    select=select_by_domain,
    scenarios=("by domain",),
    **COMMON,
)

CLASS_SPEC = DatasetSpec(
    facts=Facts(dataset="cityscape", num_units=len(RAW_IDS), num_classes=len(CLASS_NAMES), published=("10-9",)),
    class_names=CLASS_NAMES,
    palette=PALETTE,
    class_of=_class_of(1),
    select=partial(select_by_class, scenarios={"by class": dealt}),
    scenarios=("by class",),
    **COMMON,
)
