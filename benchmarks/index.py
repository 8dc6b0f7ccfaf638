"""How long the class index takes to build and to read, on generated files of VOC size.

    python -m benchmarks.index                # as many masks as VOC has; about 350 MB in a temporary folder
    python -m benchmarks.index --masks 1000   # a quick look

Prints a table and writes it, with what machine it was measured on, to a JSON file.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageDraw

from dataset.base import Sample
from dataset.index import fingerprint, load_index
from dataset.voc import SPEC
from utils.files import atomic_write

NUM_MASKS = 10_582 + 1_449
"""train_aug and val of VOC."""

SIZE = (500, 375)
NUM_VARIANTS = 32


def draw_variants(folder: Path) -> list[Sample]:
    """A few pairs of image and mask of VOC's size and, roughly, of its file sizes, in `folder`."""
    rng = np.random.default_rng(0)
    variants = []
    for number in range(NUM_VARIANTS):
        sample = Sample(folder / f"variant{number}.jpg", folder / f"variant{number}.png")
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(sample.image, quality=90)
        mask = Image.new("P", SIZE)
        mask.putpalette([channel for colour in SPEC.palette for channel in colour])
        draw = ImageDraw.Draw(mask)
        for _ in range(rng.integers(1, 5)):
            left, top, width, height = rng.integers((0, 0, 50, 50), (400, 300, 250, 200)).tolist()
            box = (left, top, left + width, top + height)
            draw.ellipse(box, fill=int(rng.integers(1, 21)), outline=255, width=5)
        mask.save(sample.mask)
        variants.append(sample)
    return variants


def make_samples(root: Path, count: int) -> list[Sample]:
    """`count` pairs of files in `root`: copies of the variants, each a file of its own."""
    variants = draw_variants(root)
    samples = [Sample(root / f"{number}.jpg", root / f"{number}.png") for number in range(count)]
    for number, sample in enumerate(samples):
        shutil.copyfile(variants[number % NUM_VARIANTS].image, sample.image)
        shutil.copyfile(variants[number % NUM_VARIANTS].mask, sample.mask)
    return samples


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(count: int) -> dict[str, float]:
    """Seconds of each part, for `count` masks."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        samples = make_samples(root, count)

        def load() -> None:
            load_index(samples, root=root, name="benchmark", label_values=SPEC.label_values)

        return {
            "build": seconds(load),
            "read": min(seconds(load) for _ in range(3)),
            "of which fingerprint": min(
                seconds(lambda: fingerprint(samples, root, SPEC.label_values)) for _ in range(3)
            ),
        }


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    return {
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }


def main() -> None:
    """Parse the options, measure, print, write."""
    parser = argparse.ArgumentParser(description="time the class index")
    parser.add_argument("--masks", type=int, default=NUM_MASKS, help="number of masks (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/index.json"), help="JSON file")
    options = parser.parse_args()
    info, times = machine(), measure(options.masks)
    print(f"class index of {options.masks} masks, {SIZE[0]} x {SIZE[1]}")
    print(", ".join(f"{name} {value}" for name, value in info.items()))
    for name, value in times.items():
        print(f"{name:<24}{value:8.2f} s")
    report = {"machine": info, "masks": options.masks, "seconds": times}
    with atomic_write(options.out, "w") as file:
        file.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
