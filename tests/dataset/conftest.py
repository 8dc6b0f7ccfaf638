"""Small VOC data sets of random rectangles, in both layouts, and what their masks hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.voc import SPEC

NUM_TRAIN, NUM_VAL = 40, 20


@dataclass(frozen=True)
class TinyVoc:
    """A data set on disk; `masks` are the label values (H,W) that were written, by id."""

    root: Path
    train: list[str]
    val: list[str]
    masks: dict[str, np.ndarray]

    def labels(self, name: str) -> set[int]:
        """Label values of one mask, found pixel by pixel."""
        return {int(value) for row in self.masks[name] for value in row}


def random_mask(rng: np.random.Generator, main_class: int) -> np.ndarray:
    """Rectangles of a few classes on background, each with a rim of 255."""
    height, width = rng.integers(36, 60, 2)
    mask = np.zeros((height, width), dtype=np.uint8)
    others = rng.integers(1, 21, rng.integers(0, 3)).tolist()
    for label in [*others, main_class]:
        top, left = rng.integers(0, height - 12), rng.integers(0, width - 12)
        mask[top : top + 12, left : left + 12] = 255
        mask[top + 1 : top + 11, left + 1 : left + 11] = label
    return mask


def write_pair(image: Path, mask: Path, labels: np.ndarray) -> None:
    """A JPEG whose colours follow the labels, and a palette PNG of the labels."""
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    grey = (labels.astype(np.uint16) * 12 % 256).astype(np.uint8)
    Image.fromarray(np.stack([grey, 255 - grey, grey // 2], axis=2)).save(image, quality=95)
    file = Image.fromarray(labels)
    file.putpalette([channel for colour in SPEC.palette for channel in colour])
    file.save(mask)


def write_lists(root: Path, layout: str, train: list[str], val: list[str]) -> None:
    """The lists of the authors' layout ("lists") or of the devkit ("devkit")."""
    for name, ids in (("train_aug", train), ("val", val)):
        if layout == "lists":
            path = root / "list" / f"{name}.txt"
            lines = [f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png" for i in ids]
        else:
            path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
            lines = ids
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def make_voc(tmp_path: Path) -> Callable[..., TinyVoc]:
    """make_voc(seed=0, layout="lists", name="voc", num_train=40, num_val=20) writes a data set below tmp_path."""

    def make(
        *, seed: int = 0, layout: str = "lists", name: str = "voc", num_train: int = NUM_TRAIN, num_val: int = NUM_VAL
    ) -> TinyVoc:
        rng = np.random.default_rng(seed)
        root = tmp_path / name
        ids = [f"2007_{number:06d}" for number in range(num_train + num_val)]
        # Every class leads in some image of each split, so that no step is empty.
        mains = [1 + number % 20 for number in (*range(num_train), *range(num_val))]
        masks = {i: random_mask(rng, main) for i, main in zip(ids, mains, strict=True)}
        for i, labels in masks.items():
            write_pair(root / "JPEGImages" / f"{i}.jpg", root / "SegmentationClassAug" / f"{i}.png", labels)
        train, val = ids[:num_train], ids[num_train:]
        write_lists(root, layout, train, val)
        return TinyVoc(root, train, val, masks)

    return make


@pytest.fixture
def voc(make_voc: Callable[..., TinyVoc]) -> TinyVoc:
    """One data set in the authors' layout."""
    return make_voc()


@pytest.fixture(autouse=True)
def cache_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices that find no place beside the data stay out of the user's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
