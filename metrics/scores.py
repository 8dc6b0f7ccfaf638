"""The figures of one evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

IOU_EPSILON = 1e-6
"""Added to the union (SPEC 8)."""


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
    overall_accuracy: float  # pixels that are right, over all pixels that are not ignored
    fw_iou: float  # frequency-weighted: the IoU of each class, weighted by its part of the ground truth
    matrix: np.ndarray  # (C,C) int64 counts: rows are ground truth, columns predictions

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> Scores:
        """Scores of a confusion matrix (C,C); rows are ground truth, ignored pixels are not in it."""
        matrix = np.asarray(matrix, dtype=np.int64)
        true_positive = matrix.diagonal().astype(np.float64)
        ground_truth, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
        total = ground_truth.sum()
        occurs = ground_truth > 0
        iou = np.where(occurs, true_positive / (ground_truth + predicted - true_positive + IOU_EPSILON), np.nan)
        return cls(
            iou=iou,
            accuracy=np.where(occurs, true_positive / np.maximum(ground_truth, 1), np.nan),
            overall_accuracy=float(true_positive.sum() / total) if total else float("nan"),
            fw_iou=float((ground_truth[occurs] / total * iou[occurs]).sum()) if total else float("nan"),
            matrix=matrix,
        )

    @property
    def num_classes(self) -> int:
        """C, the classes seen so far."""
        return len(self.iou)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in the ground truth."""
        return present_mean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the classes that occur in the ground truth."""
        return present_mean(self.accuracy)

    def mean_over(self, positions: Iterable[int]) -> float:
        """Mean IoU over the classes at `positions` that occur in the ground truth; NaN if none does."""
        return present_mean(self.iou[list(positions)])
