"""Pseudo labels: what the teacher is sure of, where nothing is labelled (PLOP, arXiv 2011.11390, section 3.3).

All are pure functions. B batch, H x W pixels, `num_old` classes of the teacher; `exact` is the rule of the paper,
without it that of the public code, whose figures were published.
"""

import math

import torch
from torch import Tensor

from utils.constants import IGNORE_INDEX

TINY = 1e-8


def uncertainty(probabilities: Tensor, num_seen: int, *, exact: bool) -> Tensor:
    """Entropy of the teacher's softmax (B, num_old, H, W) in 0..1 -> (B, H, W).

    The public code takes the mean over the classes in the place of the sum, and divides by log(num_seen) once more.
    """
    num_old = probabilities.shape[1]
    if exact:
        return -torch.xlogy(probabilities, probabilities).sum(1) / math.log(num_old)
    entropy = -(probabilities * (probabilities + TINY).log()).mean(1)
    return entropy / math.log(num_old) / math.log(num_seen)


def histogram(values: Tensor, classes: Tensor, num_classes: int, bins: int) -> Tensor:
    """Counts (num_classes, bins) int64 of `values` (N,) in 0..1 by `classes` (N,) int64."""
    places = (values * bins).long().clamp_(max=bins - 1)
    return torch.bincount(classes * bins + places, minlength=num_classes * bins).view(num_classes, bins)


def medians(counts: Tensor, *, exact: bool) -> list[float]:
    """Median of each row of a histogram (C, bins) over 0..1; NaN for an empty one.

    The public code adds the number of a bin where it means to add what is in it, so that it stops elsewhere, or never:
    then the result may be infinite.
    """
    return [_median(row, exact=exact) for row in counts.tolist()]


def _median(row: list[int], *, exact: bool) -> float:
    half, before, place = sum(row) / 2, 0, 0
    if half == 0:
        return math.nan
    for place, count in enumerate(row):
        if before <= half <= before + count:
            break
        before += count if exact else place
    rest = half - before
    inside = rest / row[place] if row[place] else math.copysign(math.inf, rest) if rest else 0.0
    return (place + inside) / len(row)


def relabel(labels: Tensor, pseudo: Tensor, sure: Tensor, num_old: int, *, exact: bool) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W) int64 with the background replaced, and the share of it (B,) that was replaced.

    Where the label is below `num_old`: `pseudo` (B, H, W) where the teacher is `sure` (bool), else 255. The share of an
    image without such pixels is 0 in the public code, so that nothing of it is learnt, and 1 with `exact`.
    """
    background = labels < num_old
    replaced = background & sure
    relabelled = torch.where(replaced, pseudo, labels.masked_fill(background, IGNORE_INDEX))
    count = background.sum((1, 2))
    share = replaced.sum((1, 2)) / (count + 1e-6)
    return relabelled, torch.where(count == 0, 1.0, share) if exact else share
