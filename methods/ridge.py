"""Ridge regression of classes on features, from sums over pixels that are all there is to keep (METHODS2 20).

    W = (A + ridge I)^-1 Q,   A = sum E^T E,   Q = sum E^T Y

E has a row of d features for each pixel, Y its class as a row of zeros and one 1. All in float64: A has products of all
pixels of all steps. Pure functions, but for `add_sums_`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.pooled_cube import at_least_float32
from utils.constants import IGNORE_INDEX


def add_sums_(gram: Tensor, moment: Tensor, features: Tensor, labels: Tensor) -> None:
    """Add the pixels of a batch to A, `gram` (d, d), and Q, `moment` (d, C), in place.

    `features` (B, d, h, w), `labels` (B, h, w) in [0, C), or 255 = left out. One image after the other: then the sums
    do not depend on how images come in batches, and few features lie in memory in float64.
    """
    classes = torch.arange(moment.shape[1], device=labels.device)
    for of_image, y in zip(features.flatten(2), labels.flatten(1), strict=True):
        e = of_image.to(gram.dtype) * (y != IGNORE_INDEX)
        gram.addmm_(e, e.T)
        moment.addmm_(e, (y[:, None] == classes).to(moment.dtype))


def solve(gram: Tensor, moment: Tensor, ridge: float) -> Tensor:
    """W (d, C), from A, of which only the lower triangle counts, and Q. Changes the diagonal of `gram`."""
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(moment, torch.linalg.cholesky(gram))


def packed(symmetric: Tensor) -> Tensor:
    """The lower triangle of (d, d), row after row, in d (d + 1) / 2 numbers."""
    return torch.cat([row[: i + 1] for i, row in enumerate(symmetric)])


def unpacked(triangle: Tensor, size: int) -> Tensor:
    """The inverse of `packed`, (size, size), with zeros above the diagonal."""
    square = triangle.new_zeros(size, size)
    for i, row in enumerate(triangle.split([*range(1, size + 1)])):
        square[i, : i + 1] = row
    return square


def confident_labels(scores: Tensor, labels: Tensor, least: float) -> Tensor:
    """`labels` (B, H, W), in which background becomes the old class that the small `scores` (B, num_old, h, w) name.

    That is the class of the largest sigmoid, upsampled, if it is not the background and its sigmoid is `least` or more.
    """
    size = labels.shape[-2:]
    confidences = F.interpolate(at_least_float32(scores).sigmoid(), size=size, mode="bilinear", align_corners=False)
    confidence, classes = confidences.max(1)
    return torch.where((labels == 0) & (classes > 0) & (confidence >= least), classes, labels)
