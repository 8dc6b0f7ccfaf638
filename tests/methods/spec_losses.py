"""SPEC 5 written out as loops over pixels, channels and windows, to compare the losses with."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
POOL_SIZES = (4, 8, 12, 16, 20, 24)


def log_sum_exp(values: Sequence[float]) -> float:
    return math.log(sum(math.exp(value) for value in values))


def pixels(logits: Tensor) -> Iterator[list[float]]:
    """(B, C, H, W) -> the C numbers of each pixel."""
    yield from logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).tolist()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for q, label in zip(pixels(logits), labels.flatten().tolist(), strict=True):
        if label != IGNORED:
            total -= q[label] - log_sum_exp(q)
    return total / labels.numel()


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, num_old: int) -> float:
    total = 0.0
    for q, label in zip(pixels(logits), labels.flatten().tolist(), strict=True):
        if label == IGNORED:
            continue
        score = log_sum_exp(q[:num_old]) if label < num_old else q[label]
        total -= score - log_sum_exp(q)
    return total / labels.numel()


def distillation(student: Tensor, teacher: Tensor) -> float:
    """LwF: the student's softmax over the old channels only."""
    num_old, total = teacher.shape[1], 0.0
    for q, q_old in zip(pixels(student), pixels(teacher), strict=True):
        for c in range(num_old):
            p_old = math.exp(q_old[c] - log_sum_exp(q_old))
            total -= p_old * (q[c] - log_sum_exp(q[:num_old])) / num_old
    return total / (teacher.numel() / num_old)


def unbiased_distillation(student: Tensor, teacher: Tensor) -> float:
    num_old, total = teacher.shape[1], 0.0
    for q, q_old in zip(pixels(student), pixels(teacher), strict=True):
        scores = [log_sum_exp([q[0], *q[num_old:]]), *q[1:num_old]]
        for score, old in zip(scores, q_old, strict=True):
            p_old = math.exp(old - log_sum_exp(q_old))
            total -= p_old * (score - log_sum_exp(q)) / num_old
    return total / (teacher.numel() / num_old)


def folded(student: Tensor, num_old: int) -> Tensor:
    """The student's small logits with the teacher's channels."""
    channels = [student[:, c] for c in range(num_old)]
    for c in range(num_old, student.shape[1]):
        channels[0] = channels[0] + student[:, c]
    return torch.stack(channels, dim=1)


def mean_norm(difference: Tensor) -> float:
    """Frobenius norm of each sample, mean over the batch."""
    return sum(math.sqrt(float((sample**2).sum())) for sample in difference) / len(difference)


def spatial(a: Tensor, b: Tensor, pool_sizes: Sequence[int] = POOL_SIZES) -> float:
    total = 0.0
    for k in pool_sizes:
        pooled = [F.avg_pool2d(x**2, k, stride=1, padding=k // 2, count_include_pad=True) for x in (a, b)]
        total += mean_norm(pooled[0] - pooled[1])
    return total / len(pool_sizes)


def channel(a: Tensor, b: Tensor) -> float:
    def pooled(x: Tensor) -> Tensor:
        count = x.shape[1]
        windows = [[c for c in (middle - 1, middle, middle + 1) if 0 <= c < count] for middle in range(count)]
        return torch.stack([sum(x[:, c] ** 2 for c in window) / 3 for window in windows], dim=1)

    return mean_norm(pooled(a) - pooled(b))
