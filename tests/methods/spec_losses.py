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


def entropy(logits: Tensor) -> float:
    """METHODS2 22, point C."""
    logs = [[value - log_sum_exp(q) for value in q] for q in pixels(logits)]
    return -sum(math.exp(log_p) * log_p for of_pixel in logs for log_p in of_pixel) / len(logs)


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


def label_guided_distillation(student: Tensor, teacher: Tensor, labels: Tensor, of_old: float, of_new: float) -> float:
    """METHODS2 21, point 2."""
    num_old, total, count = teacher.shape[1], 0.0, 0
    for q, q_old, label in zip(pixels(student), pixels(teacher), labels.flatten().tolist(), strict=True):
        if label == IGNORED:
            continue
        count += 1
        is_new = label >= num_old
        for c in range(num_old):
            meant = label if is_new and c == 0 else c
            p_old = math.exp(q_old[c] - log_sum_exp(q_old))
            total -= (of_new if is_new else of_old) * p_old * (q[meant] - log_sum_exp(q))
    return total / count if count else 0.0


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


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def binary(value: float, target: float) -> float:
    """Binary cross entropy of one logit."""
    return -target * math.log(sigmoid(value)) - (1 - target) * math.log(1 - sigmoid(value))


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for q, label in zip(pixels(logits), labels.flatten().tolist(), strict=True):
        if label != IGNORED:
            total += sum(binary(value, float(c == label)) for c, value in enumerate(q))
    return total / labels.numel()


def valid_binary_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total, count = 0.0, 0
    for q, label in zip(pixels(logits), labels.flatten().tolist(), strict=True):
        if label != IGNORED:
            total += sum(binary(value, float(c == label)) for c, value in enumerate(q))
            count += 1
    return total / count if count else 0.0


def binary_distillation(student: Tensor, teacher: Tensor) -> float:
    pairs = zip(pixels(student), pixels(teacher), strict=True)
    total = sum(binary(q[c], sigmoid(old)) for q, q_old in pairs for c, old in enumerate(q_old))
    return total / (teacher.numel() / teacher.shape[1])


def disjoint_binary_cross_entropy(student: Tensor, teacher: Tensor, labels: Tensor, *, true_background: bool) -> float:
    total = 0.0
    for q, q_old, label in zip(pixels(student), pixels(teacher), labels.flatten().tolist(), strict=True):
        for c, value in enumerate(q):
            from_teacher = c < len(q_old) and not (c == 0 and true_background)
            total += binary(value, sigmoid(q_old[c]) if from_teacher else float(c == label))
    return total / labels.numel()


def foreground_binary_cross_entropy(logits: Tensor, labels: Tensor, num_old: int, pos_weight: float) -> float:
    """METHODS2 17: all pixels count, the ignored ones as negatives."""
    total = 0.0
    for q, label in zip(pixels(logits), labels.flatten().tolist(), strict=True):
        for c in range(max(num_old, 1), len(q)):
            total += pos_weight * binary(q[c], 1.0) if label == c else binary(q[c], 0.0)
    return total / labels.numel()


def adaptive_cross_entropy(logits: Tensor, labels: Tensor, factors: Sequence[float]) -> float:
    parts = [cross_entropy(q[None], y[None]) for q, y in zip(logits, labels, strict=True)]
    return sum(part * float(factor) for part, factor in zip(parts, factors, strict=True)) / len(logits)


def local_pod(a: Tensor, b: Tensor, scales: Sequence[int] = (1, 2, 4)) -> float:
    """METHODS 9c; blocks have the map's own height and width, which the public code takes to be equal."""

    def embedding(x: Tensor) -> list[float]:
        numbers: list[float] = []
        for s in scales:
            tall, wide = x.shape[1] // s, x.shape[2] // s
            if not tall or not wide:
                continue
            for i in range(s):
                for j in range(s):
                    block = x[:, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide]
                    for channel_of_block in block.tolist():
                        numbers += [sum(row) / wide for row in channel_of_block]
                        numbers += [sum(column) / tall for column in zip(*channel_of_block, strict=True)]
        return numbers

    total = 0.0
    for old, new in zip(a**2, b**2, strict=True):
        pairs = zip(embedding(old), embedding(new), strict=True)
        total += math.sqrt(sum((one - other) ** 2 for one, other in pairs))
    return total / len(a)


Row = tuple[list[float], int, bool, list[float], int, float]
"""Of a pixel: its features, of length 1, class, whether that is a label, teacher's probabilities, number, weight."""


def uncertainty_contrast(student: Tensor, known: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> float:
    """METHODS 11, point 2, over all pixels."""
    num_old, anchors, of_teacher = teacher.shape[1], [], []
    both = zip(pixels(student), pixels(known), pixels(teacher), labels.flatten().tolist(), strict=True)
    for place, (seen, remembered, q_old, label) in enumerate(both):
        labelled = num_old <= label != IGNORED
        value = label if labelled else q_old.index(max(q_old))
        if label == IGNORED or value == 0:
            continue
        beliefs = [math.exp(q - log_sum_exp(q_old)) for q in q_old]
        anchors.append((of_length_1(seen), value, labelled, beliefs, place, 1.0))
        if not labelled:
            of_teacher.append((of_length_1(remembered), value, labelled, beliefs, -1, 1.0))
    return contrast(anchors, anchors + of_teacher, temperature)


def of_length_1(vector: list[float]) -> list[float]:
    return [value / math.sqrt(sum(x * x for x in vector)) for value in vector]


def contrast(anchors: Sequence[Row], keys: Sequence[Row], temperature: float) -> float:
    """The mean over anchors by their weights; negatives count by their weights."""

    def dot(one: list[float], other: list[float]) -> float:
        return sum(x * y for x, y in zip(one, other, strict=True))

    total, count = 0.0, 0.0
    for features, value, labelled, beliefs, place, weight in anchors:
        scores = [dot(features, key[0]) / temperature for key in keys]
        away = sum(key[5] * math.exp(score) for key, score in zip(keys, scores, strict=True) if key[1] != value)
        terms = []
        for key, score in zip(keys, scores, strict=True):
            if key[1] == value and key[4] != place:
                alike = 1.0 if labelled and key[2] else dot(beliefs, key[3])
                terms.append(-alike * math.log(math.exp(score) / (math.exp(score) + away)))
        if terms:
            total += weight * sum(terms) / len(terms)
            count += weight
    return total / count if count else 0.0
