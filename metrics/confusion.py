"""Counts of (ground truth, prediction) pairs, kept on the device and summed over processes once."""

import torch
from torch import Tensor

from metrics.scores import Scores
from utils.constants import IGNORE_INDEX
from utils.distributed import all_reduce_sum


class ConfusionMatrix:
    """Confusion matrix of `num_classes` classes: rows are ground truth, columns predictions."""

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
        """Sum over all processes. Call it once, after the last batch, in every process."""
        all_reduce_sum(self._counts)

    def scores(self) -> Scores:
        """What the counts amount to; waits for the device."""
        return Scores.from_matrix(self.matrix.cpu().numpy())
