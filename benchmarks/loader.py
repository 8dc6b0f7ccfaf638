"""Reading one training sample, mapping its labels, and whole loaders, on generated files of VOC size.

    python -m benchmarks.loader

The obvious way: PIL images through torchvision's functions for them, and one Python call for every pixel of a mask.
Whole images: torchvision's ImageFolder with its recipe.
One thread, as in a worker of a loader.
"""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.harness import Action, Comparison, check, compare, device, machine, median_seconds, parser, report
from benchmarks.obvious import data as obvious
from benchmarks.pictures import draw_variants, make_samples
from config import DataConfig
from dataset import labels
from dataset.base import StepDataset
from dataset.sampler import TrainSampler
from dataset.transform import crop_and_scale, crop_image, normalise
from dataset.voc import SPEC
from tasks import get_task

CROP, WHOLE_CROP = 512, 224
IN_A_ROW = 16
STEP = get_task(SPEC.facts, "15-1").step(1)
LUT = labels.training_lut(STEP, data_masking="current", class_of=SPEC.class_of)


def in_a_row(action: Action) -> Action:
    """A number of calls, as a worker of a loader makes them."""

    def actions() -> None:
        for _ in range(IN_A_ROW):
            action()

    return actions


def per_call(row: Comparison) -> Comparison:
    """The times of one of the calls."""
    return replace(row, obvious=row.obvious / IN_A_ROW, ours=row.ours / IN_A_ROW)


def map_labels() -> tuple:
    """Both ways to map a mask of 512 x 512, and their largest difference."""
    mask = np.random.default_rng(0).integers(0, 22, (CROP, CROP)).astype(np.uint8)
    mask[mask == 21] = 255

    def spelled_out() -> np.ndarray:
        return obvious.map_labels(mask, STEP.order, STEP.new_classes)

    def by_table() -> np.ndarray:
        return labels.map_labels(mask, LUT)

    difference = check("labels", float((spelled_out() != by_table()).sum()), 0)
    return in_a_row(spelled_out), in_a_row(by_table), difference


def load_one(folder: Path) -> tuple:
    """Both ways to load a sample: decode, augment, map, and normalise, which ours leaves to the device."""
    samples = draw_variants(folder)
    dataset = StepDataset(samples, LUT, crop_and_scale(DataConfig(crop_size=CROP)), seed=0)
    turn = iter(range(10**9))

    def spelled_out() -> object:
        sample = samples[next(turn) % len(samples)]
        return obvious.load_sample(sample.image, sample.mask, CROP, STEP.order, STEP.new_classes)

    def ours() -> object:
        return dataset[0, next(turn) % len(samples)]

    return in_a_row(spelled_out), in_a_row(ours)


def load_one_image(folder: Path) -> tuple:
    """Both ways to load a whole image; again, ours leaves the normalisation to the device."""
    samples = [sample._replace(mask=None, label=0) for sample in draw_variants(folder)]
    dataset = StepDataset(samples, LUT, crop_image(DataConfig(crop_size=WHOLE_CROP)), seed=0)
    turn, transform = iter(range(10**9)), obvious.image_transform(WHOLE_CROP)

    def torchvision() -> object:
        return obvious.load_image(samples[next(turn) % len(samples)].image, transform)

    def ours() -> object:
        return dataset[0, next(turn) % len(samples)]

    return in_a_row(torchvision), in_a_row(ours)


def loader_rates(folder: Path, count: int, repeats: int) -> dict[str, float]:
    """Samples per second of loaders with workers, ready on the device, from the second pass on."""
    samples = make_samples(folder, count)
    rates = {}
    for num_workers in {1, machine()["cores"]}:
        dataset = StepDataset(samples, LUT, crop_and_scale(DataConfig(crop_size=CROP)), seed=0)
        sampler = TrainSampler(count, batch_size=8, rank=0, world_size=1, seed=0)
        loader = DataLoader(
            dataset,
            batch_size=8,
            sampler=sampler,
            num_workers=num_workers,
            persistent_workers=True,
            pin_memory=device().type == "cuda",
        )

        def one_pass(loader=loader) -> None:
            for images, targets in loader:
                normalise(images.to(device(), non_blocking=True))
                targets.to(device(), non_blocking=True).long()

        rates[f"{num_workers} worker(s)"] = count / median_seconds(one_pass, repeats=repeats)
    return rates


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0], repeats=9)
    options.add_argument("--samples", type=int, default=400, help="files of the loaders that are timed whole")
    options = options.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        *both, difference = map_labels()
        mapping = compare(
            f"label mapping, {CROP} x {CROP}", *both, repeats=options.repeats, warmup=2, difference=difference
        )
        usual = {"repeats": options.repeats, "warmup": 2}
        sample = compare(f"one sample to {CROP}", *load_one(Path(folder)), **usual)
        whole = compare(f"one whole image to {WHOLE_CROP}", *load_one_image(Path(folder)), **usual)
        torch.set_num_threads(threads)
        rates = loader_rates(Path(folder), options.samples, min(options.repeats, 3))
    report("loader", options.out, [*map(per_call, (mapping, sample, whole))], samples_per_second=rates)


if __name__ == "__main__":
    main()
