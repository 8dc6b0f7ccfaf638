"""Random data sets in every layout, with what was drawn kept beside them, and SPEC 2 spelled out pixel by pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tasks import Step

CITIES = [
    "aachen", "bremen", "darmstadt", "erfurt", "hanover", "krefeld", "strasbourg", "tubingen",
    "weimar", "bochum", "cologne", "dusseldorf", "hamburg", "jena", "monchengladbach", "stuttgart",
    "ulm", "zurich", "frankfurt", "lindau", "munster",
]  # fmt: skip
TRAINED_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


@dataclass(frozen=True)
class RandomSet:
    """A data set on disk and its masks (H,W) of raw label values by name, in the order of the loaders' lists."""

    root: Path
    train: dict[str, np.ndarray]
    val: dict[str, np.ndarray]
    class_of: Callable[[int], int]
    domain_of: Callable[[str], int] | None = None

    def classes(self, name: str) -> set[int]:
        """Classes, and 255, that occur in a mask, found pixel by pixel."""
        mask = self.train[name] if name in self.train else self.val[name]
        return {self.class_of(int(value)) for row in mask for value in row}


def random_mask(rng: np.random.Generator, values: list[int]) -> np.ndarray:
    """Blocks of one to four values on a first one."""
    mask = np.full(rng.integers(6, 10, 2), values[0], dtype=np.uint8)
    for value in rng.choice(values, rng.integers(0, 4)):
        top, left = rng.integers(0, 5, 2)
        mask[top : top + 2, left : left + 3] = value
    return mask


def _write(image: Path, mask: Path, labels: np.ndarray) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([labels] * 3, axis=2)).save(image)
    Image.fromarray(labels).save(mask)


def _two_splits(seed: int, counts: tuple[int, int], values: list[int]) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[random_mask(rng, values) for _ in range(count)] for count in counts]


def random_voc(root: Path, seed: int) -> RandomSet:
    """60 and 40 images of 20 classes, rims and background."""
    parts = {}
    for split, masks in zip(("train_aug", "val"), _two_splits(seed, (60, 40), [0, *range(21), 255]), strict=True):
        # Not in the order of the alphabet: the list counts.
        names = [f"{split}_{(7 * number) % len(masks):03d}" for number in range(len(masks))]
        parts[split] = dict(zip(names, masks, strict=True))
        for name, labels in parts[split].items():
            _write(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClassAug" / f"{name}.png", labels)
        (root / "list").mkdir(exist_ok=True)
        lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in names]
        (root / "list" / f"{split}.txt").write_text("".join(lines))
    return RandomSet(root, parts["train_aug"], parts["val"], lambda value: value)


def random_ade(root: Path, seed: int) -> RandomSet:
    """90 and 60 images of 150 classes and "other"."""
    parts = []
    for split, masks in zip(("training", "validation"), _two_splits(seed, (90, 60), list(range(151))), strict=True):
        parts.append({f"ADE_{split}_{number:08d}": labels for number, labels in enumerate(masks, 1)})
        base = root / "ADEChallengeData2016"
        for name, labels in parts[-1].items():
            _write(base / f"images/{split}/{name}.jpg", base / f"annotations/{split}/{name}.png", labels)
    return RandomSet(root, *parts, lambda value: value)


def random_folder(root: Path, seed: int) -> RandomSet:
    """50 and 30 images of six classes and the background."""
    parts = []
    for split, masks in zip(("train", "val"), _two_splits(seed, (50, 30), [0, 0, *range(7), 255]), strict=True):
        parts.append({f"{split}{number:03d}": labels for number, labels in enumerate(masks)})
        for name, labels in parts[-1].items():
            _write(root / f"images/{split}/{name}.png", root / f"masks/{split}/{name}.png", labels)
    (root / "classes.txt").write_text("ground\n" + "".join(f"thing {number}\n" for number in range(1, 7)))
    return RandomSet(root, *parts, lambda value: value)


def random_cityscapes(root: Path, seed: int, first_class: int) -> RandomSet:
    """Four images of each city; the trained ids are classes from `first_class` on."""
    parts: list[dict[str, np.ndarray]] = []
    groups = ("train", sorted(CITIES[:18])), ("val", CITIES[18:])
    for number, (split, cities) in enumerate(groups):
        names = [f"{city}_000000_{frame:06d}" for city in cities for frame in range(4)]
        rng = np.random.default_rng((seed, number))
        parts.append({name: random_mask(rng, list(range(34))) for name in names})
        for name, labels in parts[-1].items():
            city = name.split("_")[0]
            _write(
                root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png",
                root / f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png",
                labels,
            )

    def class_of(value: int) -> int:
        return TRAINED_IDS.index(value) + first_class if value in TRAINED_IDS else 255

    return RandomSet(root, *parts, class_of, lambda name: CITIES.index(name.split("_")[0]))


def training_pixel(label: int, step: Step, masking: str, protocol: str = "plop") -> int:
    """What a pixel of class `label` trains as (SPEC 2, METHODS 0.3, sentence by sentence)."""
    if label == 255:
        return 0 if protocol == "mib" else 255
    if label in step.new_classes:
        return step.order.index(label)
    if masking == "current+old" and label in step.old_classes:
        return step.order.index(label)
    if masking == "new":
        return 0 if label == 0 else 255
    return 0


def seen_pixel(label: int, step: Step, ignore_background: bool, protocol: str = "plop") -> int:
    """What a pixel of class `label` is tested as."""
    unseen = 255 if protocol == "mib" else 0
    result = 255 if label == 255 else step.order.index(label) if label in step.order else unseen
    return 255 if ignore_background and result == 0 else result
