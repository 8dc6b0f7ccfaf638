"""What a data set is to the rest of the system, and the view of it that one step trains or tests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from config import DataConfig
from dataset.conventions import binary_doubt
from dataset.labels import map_labels
from dataset.reading import read_image, read_mask
from dataset.splits import SCENARIOS, StepSets, select_by_class
from dataset.transform import Transform, centre_or_whole, crop_and_scale, fixed_randomness
from tasks import Facts, Step
from utils.errors import UserError
from utils.random_state import derive_seed


class Sample(NamedTuple):
    """One image on disk, and its mask, or the one class that it is of as a whole."""

    image: Path
    mask: Path | None
    size: tuple[int, int] | None = None  # height and width in pixels, where the index has been asked
    domain: int | None = None  # where the data set has domains: its number
    classes: tuple[int, ...] = ()  # class ids in the mask, where the index has been asked
    label: int | None = None  # where there is no mask: its label value
    bytes: tuple[int, ...] = ()  # sizes of its files, where the index has been asked
    place: tuple[int, int] | None = None  # of the image on the disks, the same for links to it; likewise

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        return (self.image, self.mask) if self.mask else (self.image,)

    def labels(self) -> np.ndarray:
        """The mask, uint8 (H,W); of a whole image one pixel. UserError where it cannot be read."""
        return read_mask(self.mask) if self.mask else np.array([[self.label]], np.uint8)


class StepSizes(NamedTuple):
    """Images of each step of a task in a scenario, as a correct copy of the data set gives them (SPEC 2)."""

    task: str
    scenario: str
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """All that is particular to one data set. A new one is a file with such a spec and a line in DATASETS."""

    facts: Facts
    folder: str  # where it lies below data/ unless --data_root says otherwise
    class_names: tuple[str, ...]  # by class id
    palette: tuple[tuple[int, int, int], ...]  # RGB, 0..255, by class id
    domain_names: tuple[str, ...] = ()  # where domains arrive
    label_values: frozenset[int]  # what a mask file may hold; each is below 256
    class_of: tuple[int, ...] = tuple(range(256))  # class id, or 255, of each of the 256 label values
    splits: Callable[[Path], tuple[str, ...]] = lambda root: ("train", "val")  # and "test" where that is not "val"
    list_samples: Callable[[Path, str], list[Sample]]  # (root, one of them); UserError where folders lack
    doubts: Callable[[np.ndarray], str | None] = binary_doubt  # label values by image -> what speaks against the masks
    list_faults: Callable[[Path, str], list[str]] = lambda root, split: []  # the same; what is wrong with the folders
    train_transform: Callable[[DataConfig], Transform] = crop_and_scale
    eval_transform: Callable[[DataConfig], Transform] = centre_or_whole
    preset: Mapping[str, Any] = field(default_factory=dict)  # of options, for all methods
    labels_background: bool = True  # whether class 0 was looked at, or is what nobody named
    select: Callable[..., StepSets] = select_by_class  # which samples serve a step; see dataset/splits.py
    scenarios: tuple[str, ...] = tuple(SCENARIOS)  # those that `select` knows
    num_images: tuple[int, int] | None = None  # training and validation images of a complete copy
    step_sizes: tuple[StepSizes, ...] = ()

    @property
    def name(self) -> str:
        """What users call it."""
        return self.facts.dataset

    def arriving(self, step: Step) -> list[str]:
        """Names of the classes, or domains, that `step` brings."""
        if not step.classes_arrive:
            return [self.domain_names[domain] for domain in step.domains]
        return [self.class_names[label] for label in step.new_classes]


class StepDataset(Dataset):
    """The samples of one step, with labels as the step sees them; behind them those of a memory, with their own `lut`.

    An item is fetched by (epoch, index): image uint8 (3,H,W) and labels uint8 (H,W), each in 0..num_seen-1 or
    255. Its random numbers come from (seed, epoch, index) alone, whatever process fetches it. UserError for a
    file that does not decode.

    `saliency` names a third picture, of one channel: the item then has it, too, as bool (H,W).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        lut: np.ndarray,
        transform: Transform,
        seed: int,
        *,
        memory: tuple[Sequence[Sample], np.ndarray] | None = None,
        saliency: Callable[[Sample], Path] | None = None,
    ) -> None:
        remembered, self.memory_lut = memory or ((), lut)
        self.samples = (*samples, *remembered)
        self.size_of_step = len(samples)
        self.lut = lut
        self.transform = transform
        self.seed = seed
        self.saliency = saliency

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = key
        sample = self.samples[index]
        image, mask = read_image(sample.image), torch.from_numpy(sample.labels())
        if self.saliency:
            mask = torch.stack([mask, _salient(self.saliency(sample), mask)])
        with fixed_randomness(derive_seed(self.seed, epoch, index)):
            image, mask = self.transform(image, mask)
        mask, *salient = mask if self.saliency else (mask,)
        lut = self.lut if index < self.size_of_step else self.memory_lut
        labels = torch.from_numpy(map_labels(mask.numpy(), lut))
        return image, labels, *(of_it.bool() for of_it in salient)


def _salient(path: Path, mask: Tensor) -> Tensor:
    """The picture at `path`, 1 where it is not 0. UserError where it has another size than `mask`."""
    salient = torch.from_numpy(read_mask(path))
    if salient.shape != mask.shape:
        (height, width), (needed_height, needed_width) = salient.shape, mask.shape
        raise UserError(
            f"{path} has {width} x {height} pixels, its picture {needed_width} x {needed_height}: make it anew"
        )
    return (salient > 0).to(mask.dtype)
