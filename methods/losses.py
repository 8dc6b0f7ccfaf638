"""The losses, as pure functions: tensors and numbers in, one 0-d float32 tensor out (SPEC 5).

B batch, C channels, H x W pixels, h x w feature pixels; `num_old` counts the background. Means over pixels divide by
all pixels: an ignored one counts as zero loss but stays in the mean, as in the code behind the published figures.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.constants import IGNORE_INDEX


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Plain cross entropy. logits (B, C, H, W), labels (B, H, W) int64 in [0, C) or 255 -> nats, mean over pixels."""
    total = F.cross_entropy(_full(logits), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / labels.numel()


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, num_old: int) -> Tensor:
    """Cross entropy in which background means "background or any old class" (MiB, arXiv 2002.00718, eq. 5).

    logits (B, C, H, W), labels (B, H, W) int64 in [0, C) or 255 -> nats, mean over all pixels. Labels below `num_old`
    count as background: log p = logsumexp(logits[:num_old]) - Z with Z = logsumexp(logits).
    """
    logits = _full(logits)
    background = logits[:, :num_old].logsumexp(1, keepdim=True)
    merged = torch.cat([background, logits[:, num_old:]], dim=1)
    new = (labels >= num_old) & (labels != IGNORE_INDEX)
    targets = torch.where(new, labels - num_old + 1, labels.where(labels == IGNORE_INDEX, 0))
    return cross_entropy(merged, targets)


def distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Plain distillation: the student's softmax is taken over the old classes only (LwF, arXiv 1606.09282, T = 1).

    student_logits (B, C, H, W), teacher_logits (B, num_old, H, W), num_old <= C -> nats,
    -1/num_old sum_c p_teacher,c log p_student,c, mean over all pixels.
    """
    num_old = teacher_logits.shape[1]
    return unbiased_distillation(student_logits[:, :num_old], teacher_logits)


def unbiased_distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Distillation in which the student's background takes in its new classes (MiB, eq. 8 and 9).

    student_logits (B, C, H, W), teacher_logits (B, num_old, H, W), num_old <= C -> nats,
    -1/num_old sum_c p_teacher,c log p_student,c, mean over all pixels.
    """
    student_logits, teacher_logits = _full(student_logits), _full(teacher_logits)
    num_old = teacher_logits.shape[1]
    background = torch.cat([student_logits[:, :1], student_logits[:, num_old:]], dim=1).logsumexp(1, keepdim=True)
    merged = torch.cat([background, student_logits[:, 1:num_old]], dim=1)
    # The merged logits keep the normaliser Z of all channels: softmax over them is the student's p.
    per_pixel = (teacher_logits.softmax(1) * merged.log_softmax(1)).sum(1) / num_old
    return -per_pixel.mean()


def fold_new_into_background(student_logits: Tensor, num_old: int) -> Tensor:
    """(B, C, h, w) -> (B, num_old, h, w): the new classes' logits added to channel 0, in float32 (SPEC 5)."""
    student_logits = _full(student_logits)
    background = student_logits[:, :1] + student_logits[:, num_old:].sum(1, keepdim=True)
    return torch.cat([background, student_logits[:, 1:num_old]], dim=1)


def squared_difference(teacher: Tensor, student: Tensor) -> Tensor:
    """teacher^2 - student^2 element-wise, in float32: what both pooled cube losses pool, since pooling is linear."""
    return _full(teacher).square() - _full(student).square()


def spatial_cube_distance(difference: Tensor, pool_sizes: Sequence[int]) -> Tensor:
    """Spatial part of the pooled cube loss for one map (RCIL, arXiv 2203.05402, section 3.3).

    difference (B, C, h, w) from `squared_difference`. For each k: average over k x k windows, stride 1, zero padding
    k // 2 counted in the average; Frobenius norm per sample; mean over the batch; then the mean over the k.
    """
    distances = []
    with torch.autocast(difference.device.type, enabled=False):  # which would take the products in half precision
        for size in pool_sizes:
            rows = _window_sums(difference.shape[-2], size, difference)
            columns = _window_sums(difference.shape[-1], size, difference)
            pooled = rows @ difference @ columns.T / size**2
            distances.append(_norm_per_sample(pooled).mean())
    return torch.stack(distances).mean()


def channel_cube_distance(difference: Tensor) -> Tensor:
    """Channel part of the pooled cube loss for one map: as the spatial one with windows of 3 neighbouring channels.

    difference (B, C, h, w); stride 1, zero padding 1, counted in the average.
    """
    padded = F.pad(difference, (0, 0, 0, 0, 1, 1))
    pooled = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    return _norm_per_sample(pooled).mean()


def _full(tensor: Tensor) -> Tensor:
    """At least float32: norms and logarithms do not survive half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _norm_per_sample(pooled: Tensor) -> Tensor:
    """(B, ...) -> (B,) Frobenius norms; where a sample has no difference the gradient is zero."""
    return torch.linalg.vector_norm(pooled.flatten(1), dim=1)


def _window_sums(length: int, size: int, like: Tensor) -> Tensor:
    """(length + 2 (size // 2) - size + 1, length) matrix of ones and zeros: row i sums the window that starts at
    i - size // 2. Box sums as a product with a banded matrix cost the same for every window size."""
    starts = torch.arange(length + 2 * (size // 2) - size + 1, device=like.device)[:, None] - size // 2
    positions = torch.arange(length, device=like.device)
    return ((positions >= starts) & (positions < starts + size)).to(like.dtype)
