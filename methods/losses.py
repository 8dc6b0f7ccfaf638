"""The losses, as pure functions: tensors and numbers in, one 0-d float32 tensor out (SPEC 5).

`logits` and `student_logits` (B, C, H, W), `teacher_logits` (B, num_old, H, W), num_old <= C; `labels` (B, H, W) int64
in [0, C), or 255 where ignored. B batch, C channels, H x W pixels, h x w feature pixels; `num_old` counts the
background. Results are in nats. Means over pixels divide by all pixels: an ignored one counts as zero loss but stays in
the mean, as in the code behind the published figures.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.by_samples import by_samples
from methods.pooled_cube import at_least_float32
from utils.constants import IGNORE_INDEX
from utils.distributed import all_reduce_sum, world_size


@by_samples
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Plain cross entropy, mean over pixels."""
    if torch.are_deterministic_algorithms_enabled():
        return _pixel_losses(logits, labels).sum() / labels.numel()
    total = F.cross_entropy(at_least_float32(logits), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / labels.numel()


@by_samples
def adaptive_cross_entropy(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    """As `cross_entropy`; every pixel of an image counts `factors` (B,) times (PLOP, arXiv 2011.11390, eq. 10)."""
    return (_pixel_losses(logits, labels).sum((1, 2)) * factors).sum() / labels.numel()


def _pixel_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each pixel (B, H, W), 0 where it is ignored."""
    logits = at_least_float32(logits)
    if not torch.are_deterministic_algorithms_enabled():
        return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    # Its kernel for maps on a GPU sums in any order.
    kept = labels != IGNORE_INDEX
    chosen = logits.gather(1, labels.where(kept, 0)[:, None])[:, 0]
    return (logits.logsumexp(1) - chosen) * kept


@by_samples
def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, mean over all pixels."""
    logits = at_least_float32(logits)
    # -sum_c p_c log p_c = Z - sum_c p_c q_c: no map of all the log p has to be kept.
    return (logits.logsumexp(1) - (logits.softmax(1) * logits).sum(1)).mean()


@by_samples
def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One classifier per class, each for itself: summed over classes, mean over pixels (LwF-MC, METHODS 3)."""
    logits = at_least_float32(logits)
    pixels = F.binary_cross_entropy_with_logits(logits, _one_hot(labels, logits), reduction="none").sum(1)
    return (pixels * (labels != IGNORE_INDEX)).sum() / labels.numel()


def valid_binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """As `binary_cross_entropy`; mean over the pixels that are not ignored, 0 where there are none (METHODS 13.2)."""
    total = binary_cross_entropy(logits, labels) * labels.numel()
    return mean_over_all(total, labels != IGNORE_INDEX)


@by_samples
def binary_distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What the teacher says of each old class, taken for its truth (LwF-MC, METHODS 3).

    Summed over the old classes, mean over all pixels, ignored ones included.
    """
    num_old = teacher_logits.shape[1]
    old_logits = at_least_float32(_split(student_logits, num_old)[0])
    targets = at_least_float32(teacher_logits).sigmoid()
    total = F.binary_cross_entropy_with_logits(old_logits, targets, reduction="sum")
    return total * num_old / old_logits.numel()


@by_samples
def foreground_binary_cross_entropy(logits: Tensor, labels: Tensor, num_old: int, pos_weight: float) -> Tensor:
    """One classifier per new class, each for itself, and none for the background (METHODS2 17).

    Summed over the new classes, mean over all pixels. A pixel of its class counts `pos_weight` times. An ignored pixel
    is none of any class.
    """
    first = max(num_old, 1)
    new_logits = at_least_float32(_split(logits, first)[1])
    new = (labels >= first) & (labels != IGNORE_INDEX)
    own = new_logits.gather(1, labels.where(new, first)[:, None] - first)[:, 0]
    # -ln(1 - s(z)) = softplus(z) everywhere; where a class is, p times -ln s(z) = softplus(z) - z takes its place. No
    # map of all classes has to be made of the labels.
    change = (pos_weight - 1) * F.softplus(own) - pos_weight * own
    return (F.softplus(new_logits).sum() + (change * new).sum()) / labels.numel()


def negative_binary_cross_entropy(logits: Tensor) -> Tensor:
    """Binary cross entropy against "not this class" everywhere, its mean."""
    return F.softplus(at_least_float32(logits)).mean()


@by_samples
def disjoint_binary_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, true_background: bool
) -> Tensor:
    """Old classes learn from the teacher alone, new ones from the labels (iCaRL, arXiv 1611.07725; METHODS 3).

    Nothing is ignored. `true_background`: class 0 learns from the labels, too.
    """
    logits = at_least_float32(student_logits)
    targets = _one_hot(labels, logits)
    kept = 1 if true_background else 0
    targets[:, kept : teacher_logits.shape[1]] = at_least_float32(teacher_logits)[:, kept:].sigmoid()
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / labels.numel()


def mean_squared_difference(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean of (teacher - student)^2 over all of two maps (B, C, h, w) (ILT, arXiv 1907.13372, eq. 5)."""
    return F.mse_loss(at_least_float32(student), at_least_float32(teacher))


@by_samples
def unbiased_cross_entropy(logits: Tensor, labels: Tensor, num_old: int) -> Tensor:
    """Cross entropy in which background means "background or any old class" (MiB, arXiv 2002.00718, eq. 5).

    Mean over pixels. Labels below `num_old` count as background: log p = logsumexp(logits[:num_old]) - Z with
    Z = logsumexp(logits).
    """
    logits = at_least_float32(logits)
    old_logits, new_logits = _split(logits, num_old)
    merged = torch.cat([old_logits.logsumexp(1, keepdim=True), new_logits], dim=1)
    new = (labels >= num_old) & (labels != IGNORE_INDEX)
    targets = torch.where(new, labels - num_old + 1, labels.where(labels == IGNORE_INDEX, 0))
    return cross_entropy(merged, targets)


def distillation(student_logits: Tensor, teacher_logits: Tensor, alpha: float = 1.0) -> Tensor:
    """As `unbiased_distillation`; the student's softmax is over the old classes (LwF, arXiv 1606.09282, T = 1)."""
    return unbiased_distillation(_split(student_logits, teacher_logits.shape[1])[0], teacher_logits, alpha)


@by_samples
def unbiased_distillation(student_logits: Tensor, teacher_logits: Tensor, alpha: float = 1.0) -> Tensor:
    """Distillation in which the student's background takes in its new classes (MiB, eq. 8 and 9).

    -1/num_old sum_c p_teacher,c log p_student,c, mean over pixels. `alpha` sharpens the teacher's softmax.
    """
    student_logits, teacher_logits = at_least_float32(student_logits), at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    background, old_classes, new_classes = _split(student_logits, 1, num_old)
    background = torch.cat([background, new_classes], dim=1).logsumexp(1)
    # sum_c p_c (Z - q_c) = Z - sum_c p_c q_c, with Z of all channels: no map of all the student's log p has to be kept.
    p_background, p_old_classes = _split((alpha * teacher_logits).softmax(1), 1)
    expected = p_background[:, 0] * background + (p_old_classes * old_classes).sum(1)
    return (student_logits.logsumexp(1) - expected).mean() / num_old


def labels_at(features: Tensor, labels: Tensor) -> Tensor:
    """Labels (B, H, W) at the size of `features` (B, C, h, w): of the first pixel of each block."""
    return F.interpolate(labels[:, None].float(), size=features.shape[-2:], mode="nearest")[:, 0].long()


def label_guided_distillation(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, weights: tuple[float, float]
) -> Tensor:
    """Distillation in which the teacher's background is the label on pixels of new classes (LGKD, METHODS2 21).

    `weights`: of pixels of old classes, with the background, and of new ones. Mean over the pixels that are not
    ignored, 0 where there are none.
    """
    log_p = at_least_float32(student_logits).log_softmax(1)
    q_background, q_old_classes = _split(at_least_float32(teacher_logits).softmax(1), 1)
    num_old = teacher_logits.shape[1]
    valid = labels != IGNORE_INDEX
    new = valid & (labels >= num_old)
    meant = log_p.gather(1, labels.where(new, 0)[:, None])
    agreement = (q_background * meant).sum(1) + (q_old_classes * log_p[:, 1:num_old]).sum(1)
    weight_old, weight_new = weights
    weighted = torch.where(new, weight_new, weight_old) * agreement * valid
    return mean_over_all(-weighted.sum(), valid)


def mean_over_all(total: Tensor, counts: Tensor) -> Tensor:
    """`total` of the pixels that `counts` (B, H, W) bool, divided by their number; 0 where there are none.

    The mean over the processes of a run of what this gives is that over the pixels of all of them: the number is the
    mean one of a process.
    """
    return total * world_size() / all_reduce_sum(counts.sum()).clamp(min=1)


def fold_new_into_background(student_logits: Tensor, num_old: int) -> Tensor:
    """(B, C, h, w) -> (B, num_old, h, w): the new classes' logits added to channel 0, in float32 (SPEC 5)."""
    student_logits = at_least_float32(student_logits)
    background, old_classes, new_classes = _split(student_logits, 1, num_old)
    return torch.cat([background + new_classes.sum(1, keepdim=True), old_classes], dim=1)


def local_pod_distance(difference: Tensor, scales: Sequence[int]) -> Tensor:
    """Local POD for one map (PLOP, arXiv 2011.11390, eq. 5): strips of blocks instead of square windows.

    difference (B, C, h, w) from `difference_of_squares`, since the means are linear. For each s of `scales` that the
    map is large enough for: s x s blocks of h // s x w // s; the mean over the columns and over the rows of each. L2
    norm per sample of all these together; mean over the batch.
    """
    height, width = difference.shape[2:]
    strips = []
    for scale in scales:
        tall, wide = height // scale, width // scale
        if min(tall, wide) == 0:
            continue
        blocks = difference[..., : scale * tall, : scale * wide].unflatten(3, (scale, wide)).unflatten(2, (scale, tall))
        strips += [blocks.mean(5).flatten(2), blocks.mean(3).flatten(2)]
    # Channel by channel first: one norm over a million numbers loses digits in float32.
    return torch.cat(strips, dim=2).norm(dim=2).norm(dim=1).mean()


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """(B, C, H, W) in the dtype of `logits`: 1 at the class of each pixel, 0 elsewhere and where it is ignored."""
    classes = torch.arange(logits.shape[1], device=labels.device)
    return (labels[:, None] == classes[:, None, None]).to(logits.dtype)


def _split(logits: Tensor, *ends: int) -> tuple[Tensor, ...]:
    """The channels before, between and after `ends`. The gradients of slices would each fill all channels anew."""
    bounds = (0, *ends, logits.shape[1])
    return logits.split([end - start for start, end in pairwise(bounds)], dim=1)
