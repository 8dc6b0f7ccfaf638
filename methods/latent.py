"""Where the features of classes lie: the four losses of SDR (METHODS 10.2), as pure functions.

features (B, D, h, w), of any precision; `labels` (B, h, w) int64, the class of each or 255 where it counts for none;
`prototypes` (num_classes, D), which get no gradient. Each result is 0-d, and 0 where a batch has nothing for it. All
sums, means and largest numbers are over the images of all processes; the mean of what the processes get is the loss.
"""

import torch
from torch import Tensor

from methods.losses import mean_over_all
from methods.pooled_cube import at_least_float32
from methods.prototypes import LEAST_DISTANCE, of_classes
from utils.constants import IGNORE_INDEX
from utils.distributed import all_gather, all_reduce_sum, differentiable_sum, world_size

BACKGROUND = 0
TINY = 1e-15


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The sum (num_classes, D) over the own features of each class, and how many there are (num_classes,)."""
    rows = _rows(features)
    members = of_classes(labels, num_classes).to(rows.dtype)
    with torch.autocast(rows.device.type, enabled=False):
        return members @ rows, members.sum(1)


def match(features: Tensor, labels: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """Squared distance of the mean feature of a class to its prototype: mean over channels, then over classes.

    `known` (num_classes,) bool: which classes have a prototype. The others do not count.
    """
    means, counts = _class_means(features, labels, len(prototypes))
    return _mean((means - prototypes).square().mean(1), known & (counts > 0))


def attract(features: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
    """Squared distance of each feature to the prototype of its class: mean over those of a class, then over classes."""
    rows, (places, valid) = _rows(features), _places(labels)
    counts = all_reduce_sum(of_classes(labels, len(prototypes)).to(rows.dtype).sum(1))
    shares = 1 / (counts * (counts > 0).sum()).clamp(min=1)
    return ((rows - prototypes[places]).square().mean(1) * shares[places] * valid).sum() * world_size()


def repel(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """1 / distance of the mean features of two classes, mean over all pairs of classes that are there."""
    means, counts = _class_means(features, labels, num_classes)
    there = counts > 0
    pairs = there[:, None] & there & ~torch.eye(num_classes, dtype=torch.bool, device=labels.device)
    # Differences, not products of matrices: those leave classes that lie together at a distance that is not 0.
    distances = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    return _mean(1 / distances.clamp(min=LEAST_DISTANCE), pairs)


def sparsity(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """sum_d exp(e_d) / sum_d e_d, mean over pixels, e a feature divided by the largest number of its class.

    Negative numbers count as 0, and a feature without a positive one not at all. 0 where only background is there.
    """
    rows, (places, valid) = _rows(features).clamp(min=0), _places(labels)
    members = of_classes(labels, num_classes)
    largest = _largest_of_all(rows.amax(1).expand_as(members).masked_fill(~members, 0).amax(1))
    scaled = rows * (valid / (largest[places] + TINY))[:, None]
    totals = scaled.sum(1)
    ratios = scaled.exp().sum(1) / torch.where(totals > 0, totals, 1)
    classified = all_reduce_sum((valid & (places != BACKGROUND)).sum())
    return mean_over_all((ratios * (totals > 0)).sum(), totals > 0) * (classified > 0)


def _rows(features: Tensor) -> Tensor:
    """(B, D, h, w) -> (B h w, D)."""
    return at_least_float32(features).movedim(1, -1).flatten(0, -2)


def _places(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B h w,) each: the class, 0 where there is none, and whether there is one."""
    flat = labels.flatten()
    valid = flat != IGNORE_INDEX
    return flat.where(valid, 0), valid


def _class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The mean feature of each class, 0 where it is not there, and how many there are: the same in all processes."""
    sums, counts = class_sums(features, labels, num_classes)
    sums, counts = differentiable_sum(sums), all_reduce_sum(counts)
    return sums / counts.clamp(min=1)[:, None], counts


def _largest_of_all(own: Tensor) -> Tensor:
    """The largest of each number of the processes; its gradient goes to where it is."""
    there = own == all_gather(own.detach()).amax(0)
    return differentiable_sum(own * there) / all_reduce_sum(there.to(own.dtype))


def _mean(values: Tensor, counting: Tensor) -> Tensor:
    """Mean of the values that count, 0 where there are none."""
    return (values * counting).sum() / counting.sum().clamp(min=1)
