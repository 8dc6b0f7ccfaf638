"""The contact sheet: for each step a row of its training images, with their labels as the step sees them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dataset.base import DatasetSpec, Sample
from dataset.labels import map_labels, training_lut
from dataset.reading import read_image, read_mask
from dataset.splits import StepSets
from metrics.pictures import SheetRow, draw_sheet
from tasks import Task

PER_STEP = 4
CELL = (150, 112)
"""Width and height that pictures are fitted into, in pixels."""


def contact_sheet(spec: DatasetSpec, task: Task, sets: Sequence[StepSets]) -> Image.Image:
    """A picture of all steps; images are spread evenly over the training set of each."""
    rows = []
    for step, of_step in enumerate(sets):
        lut = training_lut(task, step, data_masking="current", class_of=spec.class_of)
        count = len(of_step.train)
        picked = [of_step.train[count * i // PER_STEP] for i in range(min(PER_STEP, count))]
        title = f"step {step}: {count:,} training images; new: {', '.join(spec.arriving(task, step))}"
        rows.append(SheetRow(title, [_cell(sample, lut) for sample in picked]))
    order = task.order(task.num_steps - 1)
    return draw_sheet(rows, [spec.palette[label] for label in order], [spec.class_names[label] for label in order])


def _cell(sample: Sample, lut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image (h,w,3) and labels (h,w), uint8, small enough for a cell."""
    image = Image.fromarray(read_image(sample.image).permute(1, 2, 0).numpy())
    labels = Image.fromarray(map_labels(read_mask(sample.mask), lut))
    scale = min(CELL[0] / image.width, CELL[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    return np.asarray(small), np.asarray(labels.resize(size, Image.Resampling.NEAREST))
