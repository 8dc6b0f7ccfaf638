"""Each loss is the formula of SPEC 5, and its gradient that of the formula."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.losses import (
    adaptive_cross_entropy,
    binary_cross_entropy,
    binary_distillation,
    cross_entropy,
    disjoint_binary_cross_entropy,
    distillation,
    entropy,
    fold_new_into_background,
    foreground_binary_cross_entropy,
    label_guided_distillation,
    labels_at,
    local_pod_distance,
    mean_squared_difference,
    negative_binary_cross_entropy,
    unbiased_cross_entropy,
    unbiased_distillation,
    valid_binary_cross_entropy,
)
from methods.pooled_cube import channel_cube_distance, difference_of_squares, spatial_cube_distance
from tests.methods import spec_losses as spec
from tests.methods.spec_losses import IGNORED, POOL_SIZES

NUM_OLD, NUM_SEEN = 3, 5
LABELS = {
    "all kinds": [0, 1, 2, 3, 4, IGNORED],
    "no ignored pixel": [0, 1, 2, 3, 4],
    "no new class": [0, 1, 2, IGNORED],
    "only new classes": [3, 4],
    "only background": [0],
    "only ignored pixels": [IGNORED],
}

LOSSES = {
    "ce": lambda q, y, old: cross_entropy(q, y),
    "entropy": lambda q, y, old: entropy(q),
    "unbiased ce": lambda q, y, old: unbiased_cross_entropy(q, y, NUM_OLD),
    "kd": lambda q, y, old: distillation(q, old),
    "unbiased kd": lambda q, y, old: unbiased_distillation(q, old),
    "adaptive ce": lambda q, y, old: adaptive_cross_entropy(q, y, torch.tensor([0.25, 2.0])),
    "bce": lambda q, y, old: binary_cross_entropy(q, y),
    "bce of valid pixels": lambda q, y, old: valid_binary_cross_entropy(q, y),
    "binary kd": lambda q, y, old: binary_distillation(q, old),
    "disjoint bce": lambda q, y, old: disjoint_binary_cross_entropy(q, old, y, true_background=False),
    "disjoint bce, true background": lambda q, y, old: disjoint_binary_cross_entropy(q, old, y, true_background=True),
    "label-guided kd": lambda q, y, old: label_guided_distillation(q, old, y, (2.0, 3.0)),
    "foreground bce": lambda q, y, old: foreground_binary_cross_entropy(q, y, NUM_OLD, 3.0),
    "foreground bce, step 0": lambda q, y, old: foreground_binary_cross_entropy(q, y, 0, 0.5),
    "negative bce": lambda q, y, old: negative_binary_cross_entropy(q),
    "mse": lambda q, y, old: mean_squared_difference(old, q[:, :NUM_OLD]),
    "local pod": lambda q, y, old: local_pod_distance(difference_of_squares(old, q[:, :NUM_OLD]), (1, 2, 4)),
    "spatial cube": lambda q, y, old: spatial_cube_distance(difference_of_squares(old, q[:, :NUM_OLD]), POOL_SIZES),
    "channel cube": lambda q, y, old: channel_cube_distance(difference_of_squares(old, q[:, :NUM_OLD])),
    "folded cube": lambda q, y, old: channel_cube_distance(
        difference_of_squares(old, fold_new_into_background(q, NUM_OLD))
    ),
}
of_every_kind = pytest.mark.parametrize("kinds", LABELS.values(), ids=LABELS.keys())
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def random(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits() -> Tensor:
    return random(2, NUM_SEEN, 4, 6, seed=1)


def old_logits() -> Tensor:
    return random(2, NUM_OLD, 4, 6, seed=2)


def labels(kinds: list[int]) -> Tensor:
    picks = torch.randint(len(kinds), (2, 4, 6), generator=torch.Generator().manual_seed(3))
    return torch.tensor(kinds)[picks]


def close(value: Tensor, expected: float) -> None:
    assert value.shape == () and float(value) == pytest.approx(expected, rel=1e-10, abs=1e-14)


@of_every_kind
def test_losses_of_labels(kinds: list[int]):
    q, y, old = logits(), labels(kinds), old_logits()
    close(cross_entropy(q, y), spec.cross_entropy(q, y))
    for num_old in (1, NUM_OLD, NUM_SEEN - 1):
        close(unbiased_cross_entropy(q, y, num_old), spec.unbiased_cross_entropy(q, y, num_old))
    factors = torch.tensor([0.0, 0.7])
    close(adaptive_cross_entropy(q, y, factors), spec.adaptive_cross_entropy(q, y, factors))
    close(adaptive_cross_entropy(q, y, torch.ones(2)), spec.cross_entropy(q, y))
    for weights in ((2.0, 3.0), (1.0, 0.0)):
        close(label_guided_distillation(q, old, y, weights), spec.label_guided_distillation(q, old, y, *weights))
    close(binary_cross_entropy(q, y), spec.binary_cross_entropy(q, y))
    for num_old, weight in ((0, 2.0), (1, 1.0), (NUM_OLD, 35.0)):
        expected = spec.foreground_binary_cross_entropy(q, y, num_old, weight)
        close(foreground_binary_cross_entropy(q, y, num_old, weight), expected)
    close(valid_binary_cross_entropy(q, y), spec.valid_binary_cross_entropy(q, y))
    for background in (False, True):
        close(
            disjoint_binary_cross_entropy(q, old, y, true_background=background),
            spec.disjoint_binary_cross_entropy(q, old, y, true_background=background),
        )


def test_the_background_may_be_any_old_class():
    one_old_class_is_certain = torch.zeros(1, NUM_SEEN, 2, 2, dtype=torch.float64)
    one_old_class_is_certain[:, 1] = 50
    background = torch.zeros(1, 2, 2, dtype=torch.long)
    assert float(unbiased_cross_entropy(one_old_class_is_certain, background, NUM_OLD)) < 1e-9
    assert float(cross_entropy(one_old_class_is_certain, background)) > 49


@pytest.mark.parametrize("num_old", [1, NUM_OLD, NUM_SEEN])
def test_distillations(num_old: int):
    teacher = random(2, num_old, 4, 6, seed=4)
    close(unbiased_distillation(logits(), teacher), spec.unbiased_distillation(logits(), teacher))
    close(distillation(logits(), teacher), spec.distillation(logits(), teacher))
    close(binary_distillation(logits(), teacher), spec.binary_distillation(logits(), teacher))


def test_labels_at_a_map_are_those_of_the_first_pixel_of_each_block():
    y = labels(LABELS["all kinds"])
    assert torch.equal(labels_at(torch.zeros(2, 1, 2, 3), y), y[:, ::2, ::2])


def test_entropy():
    close(entropy(logits()), spec.entropy(logits()))
    close(entropy(0 * logits()), math.log(NUM_SEEN))
    assert abs(float(entropy(1e6 * logits()))) < 1e-6


def test_alpha_sharpens_the_teacher():
    teacher = random(2, NUM_OLD, 4, 6, seed=4)
    close(distillation(logits(), teacher, alpha=3.0), spec.distillation(logits(), 3 * teacher))
    close(unbiased_distillation(logits(), teacher, alpha=0.5), spec.unbiased_distillation(logits(), teacher / 2))


def test_mean_squared_difference():
    a, b = random(2, 3, 4, 5, seed=5), random(2, 3, 4, 5, seed=6)
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    close(mean_squared_difference(a, b), sum((x - y) ** 2 for x, y in pairs) / a.numel())


@pytest.mark.parametrize("shape", [(2, 7, 13, 9), (1, 4, 32, 32), (3, 5, 4, 6), (2, 3, 3, 8), (2, 1, 1, 1)], ids=str)
def test_local_pod_is_that_of_strips_on_maps_of_any_shape(shape: tuple[int, ...]):
    a, b = random(*shape, seed=5), random(*shape, seed=6)
    for scales in ((1, 2, 4), (1,), (3,) if min(shape[2:]) >= 3 else (1,)):
        close(local_pod_distance(difference_of_squares(a, b), scales), spec.local_pod(a, b, scales))


def test_fold():
    torch.testing.assert_close(fold_new_into_background(logits(), NUM_OLD), spec.folded(logits(), NUM_OLD))
    assert torch.equal(fold_new_into_background(logits(), NUM_SEEN), logits())  # domains: nothing to fold


MAPS = [(2, 7, 13, 9), (1, 4, 32, 32), (3, 5, 4, 6), (2, 3, 1, 2), (2, 1, 5, 40)]


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_both_cubes_are_the_average_pooling_of_both_maps(shape: tuple[int, ...]):
    a, b = random(*shape, seed=5), random(*shape, seed=6)
    difference = difference_of_squares(a, b)
    close(spatial_cube_distance(difference, POOL_SIZES), spec.spatial(a, b))
    for size in (1, 2, 3, 5):
        close(spatial_cube_distance(difference, (size,)), spec.spatial(a, b, (size,)))
    close(channel_cube_distance(difference), spec.channel(a, b))


@every_loss
def test_gradient(loss: Callable[..., Tensor]):
    for kinds in LABELS.values():
        student = logits()[:, :, :3, :2].clone().requires_grad_()
        y, old = labels(kinds)[:, :3, :2], old_logits()[:, :, :3, :2]
        assert torch.autograd.gradcheck(lambda q, y=y, old=old: loss(q, y, old), student), kinds


@pytest.mark.parametrize(
    "distance",
    [
        lambda d: spatial_cube_distance(d, POOL_SIZES),
        channel_cube_distance,
        lambda d: local_pod_distance(d, (1, 2, 4)),
    ],
)
def test_a_sample_without_a_difference_has_a_zero_gradient(distance: Callable[[Tensor], Tensor]):
    teacher = random(2, 3, 5, 4, seed=7)
    student = teacher.clone()
    student[1] += 1
    student.requires_grad_()
    distance(difference_of_squares(teacher, student)).backward()
    assert torch.count_nonzero(student.grad[0]) == 0
    assert student.grad.isfinite().all() and student.grad[1].abs().max() > 0


@every_loss
def test_mixed_precision_takes_nothing_from_a_loss(loss: Callable[..., Tensor]):
    y = torch.randint(NUM_SEEN, (2, 40, 50), generator=torch.Generator().manual_seed(3))
    for kind, autocast in ((torch.bfloat16, False), (torch.float32, True)):
        q = random(2, NUM_SEEN, 40, 50, seed=8).to(kind)
        old = random(2, NUM_OLD, 40, 50, seed=9).to(kind)
        expected = loss(q.float(), y, old.float())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(q, y, old)
        assert value.dtype == torch.float32 and torch.equal(value, expected), kind


@every_loss
def test_no_loss_changes_its_inputs(loss: Callable[..., Tensor]):
    q, y, old = logits(), labels(LABELS["all kinds"]), old_logits()
    loss(q, y, old)
    assert torch.equal(q, logits()) and torch.equal(old, old_logits()) and torch.equal(y, labels(LABELS["all kinds"]))
