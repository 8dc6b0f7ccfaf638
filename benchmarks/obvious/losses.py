"""The objective of RCIL, formula by formula (SPEC 5)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

POOL_SIZES = (4, 8, 12, 16, 20, 24)
SPATIAL_FACTORS = CHANNEL_FACTORS = (0.01, 0.0005)
LOSS_KD = 100.0


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, num_old: int) -> Tensor:
    """logits (B, C, H, W), labels (B, H, W) -> mean over all pixels."""
    denominator = torch.logsumexp(logits, dim=1)
    outputs = torch.zeros_like(logits)
    outputs[:, 0] = torch.logsumexp(logits[:, :num_old], dim=1) - denominator
    outputs[:, num_old:] = logits[:, num_old:] - denominator.unsqueeze(1)
    labels = labels.clone()
    labels[labels < num_old] = 0
    return F.nll_loss(outputs, labels, ignore_index=255, reduction="none").mean()


def unbiased_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Logits of the student (B, C, H, W) and of the teacher (B, num_old, H, W)."""
    num_old = teacher.shape[1]
    denominator = torch.logsumexp(student, dim=1)
    background = torch.cat([student[:, :1], student[:, num_old:]], dim=1)
    log_background = torch.logsumexp(background, dim=1) - denominator
    log_old = student[:, 1:num_old] - denominator.unsqueeze(1)
    probabilities = torch.softmax(teacher, dim=1)
    loss = (probabilities[:, 0] * log_background + (probabilities[:, 1:] * log_old).sum(dim=1)) / num_old
    return -loss.mean()


def pooled_cube(teacher: Sequence[Tensor], student: Sequence[Tensor], num_old: int, num_new: int) -> Tensor:
    """Both parts of the pooled cube distillation; the last of the six maps are the small logits."""
    adaptive = math.sqrt((num_old + num_new) / num_new)
    folded = student[-1][:, :num_old].clone()
    folded[:, 0] = folded[:, 0] + student[-1][:, num_old:].sum(dim=1)
    student = [*student[:-1], folded]
    spatial, channel = 0.0, 0.0
    for i, (a, b) in enumerate(zip(teacher, student, strict=True)):
        a, b = a**2, b**2
        spatial = spatial + SPATIAL_FACTORS[i == 5] * adaptive * spatial_distance(a, b)
        if i < 5:
            channel = channel + CHANNEL_FACTORS[i == 4] * adaptive * channel_distance(a, b)
    return spatial / 6 + channel / 5


def spatial_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the windows of the distance between both squared maps (B, C, h, w), pooled."""
    distances = []
    for size in POOL_SIZES:
        pooled_a = F.avg_pool2d(a, kernel_size=size, stride=1, padding=size // 2)
        pooled_b = F.avg_pool2d(b, kernel_size=size, stride=1, padding=size // 2)
        distances.append(_distance(pooled_a, pooled_b))
    return torch.stack(distances).mean()


def channel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance between both squared maps (B, C, h, w), pooled over three neighbouring channels."""
    batch, channels, height, width = a.shape
    pooled = []
    for map_ in (a, b):
        rows = map_.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        pooled.append(F.avg_pool1d(rows, kernel_size=3, stride=1, padding=1))
    return _distance(*pooled)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm((a - b).flatten(1), dim=1).mean()
