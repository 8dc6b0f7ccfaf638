"""Generated files of the size of VOC's, for the benchmarks that read."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dataset.base import Sample
from dataset.voc import SPEC

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
