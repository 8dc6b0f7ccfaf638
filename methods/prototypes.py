"""Classes remembered as prototypes, and features drawn from them: the arithmetic of STAR (METHODS2 19).

All are pure functions. B batch, D channels of the features, H x W pixels, h x w feature pixels, K classes. A direction
is a feature divided by its norm.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.pooled_cube import at_least_float32
from utils.distributed import differentiable_sum, mean_over_processes

LEAST_DISTANCE = 1e-6
SURE = 0.5
"""Logit above which the teacher sees a class. Not its sigmoid: that is 0.62 there, as in the public code."""


class Classes(NamedTuple):
    """What is remembered of the features of K classes; zeros where a class had no feature."""

    prototypes: Tensor  # (K, D) the mean direction, of length 1
    deviations: Tensor  # (K, D) root mean square difference of directions and prototype
    norm_mean: Tensor  # (K,)
    norm_std: Tensor  # (K,)


class Plan(NamedTuple):
    """What a step replays, and what it hands on."""

    replay: list[int]  # features of each old class in an iteration
    background: float  # how much a background feature counts
    counts: list[float]  # feature pixels of the background and of each class, of all steps so far


def at_centres(maps: Tensor, features: Tensor) -> Tensor:
    """(B, H, W) -> (B, h, w): the pixel in the middle of each block, label[8::16, 8::16] where blocks have 16."""
    (height, width), (rows, columns) = maps.shape[-2:], features.shape[-2:]
    row, column = (
        (2 * torch.arange(count, device=maps.device) + 1) * length // (2 * count)
        for count, length in ((rows, height), (columns, width))
    )
    return maps.index_select(1, row).index_select(2, column)


def resized(maps: Tensor, features: Tensor) -> Tensor:
    """(B, H, W) of truth values -> (B, h, w) of shares, bilinear."""
    soft = maps.to(features.dtype)[:, None]
    return F.interpolate(soft, size=features.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def seen_classes(logits: Tensor) -> Tensor:
    """(B, num_old, H, W) -> (B, H, W): the old class with the largest logit, 0 where none is above `SURE`."""
    highest, best = at_least_float32(logits)[:, 1:].max(1)
    return torch.where(highest > SURE, best + 1, 0)


def of_classes(labels: Tensor, num_classes: int) -> Tensor:
    """(num_classes, n) of truth values: which of the n labels are of which class. Other labels are of none."""
    return labels.flatten() == torch.arange(num_classes, device=labels.device)[:, None]


def sums_by_class(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(num_classes, 2 D + 3) float64: sums over the features (B, D, h, w) of each class, for `classes_of`.

    Of directions, of their squares, of norms, of their squares, and of ones. Other labels (B, h, w) count nowhere.
    """
    flat = features.movedim(1, -1).flatten(0, -2).double()
    norms = flat.norm(dim=1, keepdim=True)
    directions = F.normalize(flat, dim=1)
    rows = torch.cat([directions, directions.square(), norms, norms.square(), torch.ones_like(norms)], dim=1)
    return of_classes(labels, num_classes).double() @ rows


def classes_of(sums: Tensor) -> Classes:
    """What is remembered of the classes with these `sums_by_class`."""
    channels = (sums.shape[1] - 3) // 2
    directions, squares, norms, norms_squared, count = sums.split([channels, channels, 1, 1, 1], dim=1)
    some = count.clamp(min=1)
    prototypes = F.normalize(directions, dim=1)
    # Of u - P: the mean of u^2 - 2 P u + P^2, in one pass over the images.
    variance = squares / some - 2 * prototypes * directions / some + prototypes.square() * (count > 0)
    mean = norms / some
    norm_variance = (norms_squared - count * mean.square()) / (count - 1).clamp(min=1)
    deviations, std = variance.clamp(min=0).sqrt(), norm_variance.clamp(min=0).sqrt()
    return Classes(prototypes, deviations, mean[:, 0], std[:, 0])


def draw(known: Classes, classes: Tensor, *, exact: bool) -> Tensor:
    """(n, D): a random feature of each of `classes` (n,).

    The public code draws a norm for each channel; `exact`: one for the feature, whose direction has length 1 before.
    """
    prototypes, deviations, mean, std = (of_all[classes] for of_all in known)
    directions = prototypes + torch.randn_like(prototypes) * deviations
    if exact:
        directions = F.normalize(directions, dim=1)
    noise = torch.randn_like(directions[:, :1] if exact else directions)
    return directions * (mean[:, None] + noise * std[:, None])


def plan(before: list[float], predicted: list[int], labelled: list[int], *, iterations: int, overlapped: bool) -> Plan:
    """How much to replay, so that an epoch sees each old class as often as the epochs of the past did (5, ii and iii).

    Counts of feature pixels, the background first: `before` those that the step before handed on, `predicted` what the
    teacher sees where nothing is labelled, `labelled` the new classes. `overlapped`: images come again in later steps.
    """
    wanted = [count - (seen if overlapped else 0) for count, seen in zip(before[1:], predicted[1:], strict=True)]
    replay = [max(0, int(count / iterations)) for count in wanted]
    past = before[0] * (1 - 0.01 * len(labelled)) if overlapped else before[0]
    factor = max(0.0, past / predicted[0] - (0.5 if overlapped else 0.0)) if predicted[0] else 0.0
    background = (0.5 if overlapped else 1.0) * predicted[0] + past
    old = [count + (0 if overlapped else seen) for count, seen in zip(before[1:], predicted[1:], strict=True)]
    return Plan(replay, factor, [background, *old, *map(float, labelled)])


def masked_distillation(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of two maps (B, D, h, w), mean over channels and over the weights `mask` (B, h, w) of all
    processes; 0 where these are all 0."""
    squares = (at_least_float32(student) - at_least_float32(teacher)).square().mean(1)
    total = mean_over_processes(mask.sum())
    return (squares * mask).sum() / torch.where(total > 0, total, 1)


def contrast(features: Tensor, labels: Tensor, classes: range, prototypes: Tensor) -> Tensor:
    """How near the mean directions of new `classes` come to the old `prototypes`: mean of 1 / distance to the nearest.

    The mean direction is that over the images of all processes, which all get the same. A class that is not there
    counts as at distance 1, and has no gradient.
    """
    features = at_least_float32(features)
    shares = torch.stack([resized(labels == label, features) for label in classes], dim=1)
    sums = differentiable_sum(torch.einsum("bdhw,bnhw->nd", F.normalize(features, dim=1), shares))
    means = F.normalize(sums, dim=1)
    distances = (means[:, None] - prototypes).norm(dim=2)
    is_known = prototypes.square().sum(1) > 0
    nearest = torch.where(is_known, distances, torch.inf).amin(1)
    return (1 / nearest.clamp(min=LEAST_DISTANCE)).mean()
