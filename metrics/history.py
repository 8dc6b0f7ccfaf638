"""What a network says of the same test images after every step: kept as files, and drawn as one strip (SPEC 9).

In a folder, for sample K and step T: `K_image.png`, and as palette pictures `K_truth.png` and `K_stepT.png`, whose
values are the positions of the classes in their order of arrival, 255 for what is not labelled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, UnidentifiedImageError

from metrics.pictures import colour_mask, draw_samples, save_picture
from utils.errors import UserError

STRIP_SIDE = 128
"""Longer side of a picture in a strip, in pixels."""


class DrawnSample(NamedTuple):
    """A test image after a step, uint8."""

    image: np.ndarray  # (3,h,w)
    truth: np.ndarray  # (h,w), 255 is not labelled
    prediction: np.ndarray  # (h,w)


class History(NamedTuple):
    """A test image over the steps, uint8."""

    image: np.ndarray  # (3,h,w)
    truth: np.ndarray  # (h,w), 255 is not labelled
    predictions: dict[int, np.ndarray]  # step -> (h,w)


def save_samples(folder: Path, step: int, samples: Sequence[DrawnSample], palette: ArrayLike) -> None:
    """Put what is seen after `step` into `folder`, empty until now or with the same samples after other steps.

    `palette` as `colour_mask` takes it. Of other samples, say of another `--sample_num`, nothing is kept.
    """
    before = [history.image for history in read_history(folder)]
    same = len(before) == len(samples) and all(map(np.array_equal, before, [sample.image for sample in samples]))
    for path in () if same else folder.glob("[0-9]*_*.png"):
        path.unlink()
    for number, sample in enumerate(samples):
        save_picture(Image.fromarray(sample.image.transpose(1, 2, 0)), folder / f"{number}_image.png")
        save_picture(colour_mask(sample.truth, palette), folder / f"{number}_truth.png")
        save_picture(colour_mask(sample.prediction, palette), folder / f"{number}_step{step}.png")


def read_history(folder: Path) -> list[History]:
    """The samples in `folder`, none where there is no such folder. UserError for a file that is no picture."""
    histories: list[History] = []
    while (image := folder / f"{len(histories)}_image.png").is_file():
        number = len(histories)
        steps = {path: path.stem.rpartition("step")[2] for path in folder.glob(f"{number}_step*.png")}
        predictions = {int(step): _read(path) for path, step in steps.items() if step.isdecimal()}
        histories.append(History(_read(image).transpose(2, 0, 1), _read(folder / f"{number}_truth.png"), predictions))
    return histories


def draw_strip(runs: Mapping[str, Sequence[History]], palette: ArrayLike, class_names: Sequence[str]) -> Image.Image:
    """A block of rows per sample, a row per run: image | ground truth | run | step 0 | ... ; below, the classes that
    occur.

    `runs`: the same samples by name of the run. `palette` (up to 256,3): colours in label order, as `class_names`.
    """
    steps = sorted({step for samples in runs.values() for sample in samples for step in sample.predictions})
    rows = []
    for of_runs in zip(*runs.values(), strict=False):
        for number, (name, sample) in enumerate(zip(runs, of_runs, strict=True)):
            shared = [sample.image, sample.truth] if number == 0 else [None, None]
            rows.append([*shared, name, *map(sample.predictions.get, steps)])
    titles = ["image", "ground truth", "", *(f"step {step}" for step in steps)]
    return draw_samples(rows, titles, palette, class_names, side=STRIP_SIDE)


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.array(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path} is no picture of a run: {error}; delete its folder, and test the run again") from None
