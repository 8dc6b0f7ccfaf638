"""Counts of (ground truth, prediction) pairs, and the scores that they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks import Task
from utils.constants import IGNORE_INDEX
from utils.distributed import all_reduce_sum


class Measure(NamedTuple):
    """What is judged by: the names of the figure of each class, and of that of all."""

    per_class: str
    overall: str


MIOU = Measure("IoU", "mIoU")
TOP_1 = Measure("accuracy", "top-1")
"""Of whole images: the part that is right."""


def measure_of(task: Task) -> Measure:
    """Which one a task is judged by."""
    return TOP_1 if task.kind == "image" else MIOU


IOU_EPSILON = 1e-6
"""Added to the union (SPEC 8)."""


class ConfusionMatrix:
    """Counts of `num_classes` classes, kept on the device: rows are ground truth, columns predictions."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        # Slot 0 takes the ignored pixels, so that they need not be picked out: picking gives a size that
        # depends on the data, for which the host would have to wait.
        self._counts = torch.zeros(1 + num_classes**2, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Add a batch: `labels` (B,H,W), any integer type, in [0,C) or 255; `predictions` (B,H,W) in [0,C).

        The host does not wait for the device: torch.bincount would, to learn its largest value. A label
        that is neither a class nor 255 points past the end of the counts, which raises.
        """
        labels = labels.flatten()
        slots = 1 + self.num_classes * labels.long() + predictions.flatten()
        slots = slots.masked_fill_(labels == IGNORE_INDEX, 0)
        self._counts.scatter_add_(0, slots, torch.ones_like(slots))

    @property
    def matrix(self) -> Tensor:
        """The counts, (C,C) int64, without the ignored pixels."""
        return self._counts[1:].view(self.num_classes, self.num_classes)

    def all_reduce(self) -> None:
        """Sum over all processes. Call it once, after the last batch, in every process.

        On the CPU, where none is hurried: images of several sizes take some processes longer than others.
        """
        self._counts = all_reduce_sum(self._counts.cpu())

    def scores(self, measure: Measure = MIOU) -> Scores:
        """What the counts amount to; waits for the device."""
        return Scores.from_matrix(self.matrix.cpu().numpy(), measure)


def present_mean(values: np.ndarray) -> float:
    """Mean of the entries that are not NaN; NaN if there is none."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores over C classes as fractions of 1 (SPEC 8); NaN for a class, or a mean, without ground truth."""

    iou: np.ndarray  # (C,) float64, in label order
    accuracy: np.ndarray  # (C,) float64: the part of a class's pixels that were found
    mean_iou: float  # over the classes that occur in the ground truth
    mean_accuracy: float  # over these, too
    overall_accuracy: float  # pixels that are right, over all pixels that are not ignored
    fw_iou: float  # frequency-weighted: the IoU of each class, weighted by its part of the ground truth
    matrix: np.ndarray  # (C,C) int64 counts: rows are ground truth, columns predictions
    measure: Measure = MIOU

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, measure: Measure = MIOU) -> Scores:
        """Scores of a confusion matrix (C,C); rows are ground truth, ignored pixels are not in it."""
        matrix = np.asarray(matrix, dtype=np.int64)
        correct = matrix.diagonal().astype(np.float64)
        ground_truth, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
        union = ground_truth + predicted - correct
        iou = np.where(ground_truth > 0, correct / (union + IOU_EPSILON), np.nan)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: no ground truth
            accuracy, overall = correct / ground_truth, correct.sum() / matrix.sum()
            fw_iou = np.nansum(ground_truth * iou) / matrix.sum()
        means = present_mean(iou), present_mean(accuracy), float(overall), float(fw_iou)
        return cls(iou, accuracy, *means, matrix, measure)

    @property
    def per_class(self) -> np.ndarray:
        """(C,): what `measure` says of each class."""
        return self.accuracy if self.measure == TOP_1 else self.iou

    @property
    def overall(self) -> float:
        """What `measure` says of all."""
        return self.overall_accuracy if self.measure == TOP_1 else self.mean_iou

    @property
    def means(self) -> dict[str, float]:
        """The figures over all classes, by the names of the journal."""
        if self.measure == TOP_1:
            return {"top_1": self.overall_accuracy, "mean_accuracy": self.mean_accuracy}
        names = ("overall_accuracy", "mean_accuracy", "fw_iou")
        return {"miou": self.mean_iou, **{name: getattr(self, name) for name in names}}
