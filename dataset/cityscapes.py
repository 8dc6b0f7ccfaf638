"""Cityscapes (SPEC 1, 2) in its own layout: 19 classes that arrive city by city, or in two steps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dataset.base import DatasetSpec, Sample
from dataset.listing import require_folder
from dataset.splits import select_by_class, select_by_domain, showing
from tasks import Facts, Step
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

CLASSES = (  # raw label id, name, colour; the position is the train id
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
RAW_IDS, NAMES, COLOURS = zip(*CLASSES, strict=True)
NUM_RAW_IDS = 34
"""Ids that a mask of gtFine may hold; those without a class are ignored."""

CITIES = (
    "aachen", "bremen", "darmstadt", "erfurt", "hanover", "krefeld", "strasbourg", "tubingen", "weimar", "bochum",
    "cologne", "dusseldorf", "hamburg", "jena", "monchengladbach", "stuttgart", "ulm", "zurich", "frankfurt",
    "lindau", "munster",
)  # fmt: skip
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
        for image in sorted(folder.glob(f"*{IMAGE_ENDING}")):
            mask = masks / folder.name / image.name.replace(IMAGE_ENDING, MASK_ENDING)
            samples.append(Sample(image, mask, domain=CITIES.index(folder.name)))
    if not samples:
        raise UserError(f"no image CITY/*{IMAGE_ENDING} below {images}; unpack leftImg8bit there")
    return samples


def dealt(classes: np.ndarray, step: Step) -> np.ndarray:
    """(N,) bool: training images of the classes of `step`, where no image serves two classes (SPEC 2)."""
    return np.isin(deal(classes, DEALING_ORDER, DEALT_AT_MOST), step.new_classes)


def deal(classes: np.ndarray, order: Sequence[int], at_most: int) -> np.ndarray:
    """(N,) int: the class that each image is dealt to, 0 for none.

    `classes` (N,256) bool: what each image shows. In `order`, each class takes the first images that show it and
    are not taken yet, `at_most` so many; the last one takes all.
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
    "num_images": (2975, 500),
}

DOMAIN_SPEC = DatasetSpec(
    facts=Facts(
        dataset="cityscapes_domain",
        kind="domain",
        num_units=len(CITIES),
        num_classes=len(CLASSES),
        published=("11-5", "11-1", "1-1"),
    ),
    class_names=NAMES,
    palette=COLOURS,
    domain_names=CITIES,
    class_of=_class_of(0),
    select=select_by_domain,
    scenarios=("by domain",),
    **COMMON,
)

CLASS_SPEC = DatasetSpec(
    facts=Facts(dataset="cityscape", num_units=len(CLASSES), num_classes=1 + len(CLASSES), published=("10-9",)),
    class_names=("background", *NAMES),
    palette=((0, 0, 0), *COLOURS),
    class_of=_class_of(1),
    select=partial(select_by_class, scenarios={"by class": dealt}),
    scenarios=("by class",),
    **COMMON,
)
