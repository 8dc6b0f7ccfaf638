"""The optimiser's groups, and the learning rate of every iteration (SPEC 7)."""

import pytest
import torch
from torch import nn

from config import OptimConfig
from utils.errors import UserError
from utils.optim import build_optimizer, build_schedule, load_optimizer_, rate_factor

N = 40


def parameters(count: int, *, frozen: int = 0) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.randn(2, 3)) for _ in range(count + frozen)]
    for parameter in made[count:]:
        parameter.requires_grad_(False)
    return made


def groups(frozen: int = 0) -> dict[str, list[nn.Parameter]]:
    names = ("body", "head", "old_classifiers", "classifiers")
    return {name: parameters(2, frozen=frozen) for name in names}


def rates(config: OptimConfig, lr: float = 0.2) -> list[float]:
    """The rate of each of N iterations, as a training loop sees them."""
    optimizer = build_optimizer({"body": parameters(1)}, config, lr)
    schedule = build_schedule(optimizer, config, iterations=N)
    seen = []
    for _ in range(N):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_poly_falls_to_zero():
    made = rates(OptimConfig(lr_policy="poly", lr_power=0.9))
    assert made == pytest.approx([0.2 * (1 - i / N) ** 0.9 for i in range(N)], rel=1e-12)
    assert rate_factor(OptimConfig(), N)(N) == 0
    assert rate_factor(OptimConfig(), N)(N + 3) == 0  # and is no complex number after it


def test_steps_fall_by_a_factor():
    made = rates(OptimConfig(lr_policy="step", lr_decay_step=15, lr_decay_factor=0.5))
    assert made == pytest.approx([0.2] * 15 + [0.1] * 15 + [0.05] * 10, rel=1e-12)


def test_none_is_constant():
    assert rates(OptimConfig(lr_policy="none")) == [0.2] * N


@pytest.mark.parametrize("policy", ["poly", "step", "none"])
def test_warmup_rises_in_a_line_to_the_schedule(policy):
    with_warmup = rates(OptimConfig(lr_policy=policy, warmup=4))
    without = rates(OptimConfig(lr_policy=policy))
    factors = [0.2, 0.4, 0.6, 0.8] + [1.0] * (N - 4)
    assert with_warmup == pytest.approx([f * rate for f, rate in zip(factors, without, strict=True)], rel=1e-12)


def test_old_classifiers_have_a_rate_of_their_own():
    parts, config = groups(), OptimConfig(lr_old=0.25)
    optimizer = build_optimizer(parts, config, 0.2)
    by_rate = {group["lr"]: group["params"] for group in optimizer.param_groups}
    assert set(by_rate) == {0.2, 0.05}
    assert [id(p) for p in by_rate[0.05]] == [id(p) for p in parts["old_classifiers"]]
    schedule = build_schedule(optimizer, config, N)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert {round(group["lr"] / (1 - 10 / N) ** 0.9, 12) for group in optimizer.param_groups} == {0.2, 0.05}


def test_settings_of_the_spec():
    (first, *_) = build_optimizer(groups(), OptimConfig(), 0.2).param_groups
    assert (first["momentum"], first["nesterov"], first["weight_decay"]) == (0.9, True, 1e-4)
    (first, *_) = build_optimizer(groups(), OptimConfig(momentum=0.0), 0.2).param_groups
    assert not first["nesterov"]


def test_frozen_parameters_are_in_no_group():
    parts = groups(frozen=1)
    optimizer = build_optimizer(parts, OptimConfig(weight_decay=0.5), 0.2)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for group in parts.values():
        assert [id(parameter) in held for parameter in group] == [True, True, False]
    before = {id(parameter): parameter.clone() for group in parts.values() for parameter in group}
    for group in parts.values():
        for parameter in group:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for group in parts.values():
        assert [torch.equal(parameter, before[id(parameter)]) for parameter in group] == [False, False, True]


def test_empty_groups_vanish_and_nothing_to_train_is_an_error():
    parts = {"body": parameters(0, frozen=2), "old_classifiers": [], "classifiers": parameters(1)}
    assert len(build_optimizer(parts, OptimConfig(), 0.2).param_groups) == 1
    with pytest.raises(UserError, match="--freeze"):
        build_optimizer({"body": parameters(0, frozen=2)}, OptimConfig(), 0.2)


def test_steps_equal_sgd_by_hand():
    """v = 0.9 v + g + wd w; w -= lr (g + wd w + 0.9 v)."""
    (weight,) = parameters(1)
    w, v = weight.detach().double(), torch.zeros(2, 3, dtype=torch.float64)
    optimizer = build_optimizer({"body": [weight]}, OptimConfig(weight_decay=0.01), 0.2)
    for _ in range(3):
        weight.grad = torch.randn(2, 3)
        gradient = weight.grad.double() + 0.01 * w
        v = 0.9 * v + gradient
        w = w - 0.2 * (gradient + 0.9 * v)
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), w, atol=1e-6, rtol=1e-6)


def test_a_state_goes_on_though_it_lies_otherwise_in_memory():
    """As one from a checkpoint of a network in another layout does."""
    start, gradients = torch.randn(4, 3, 5, 5), [torch.randn(4, 3, 5, 5) for _ in range(2)]
    results = []
    for layout, saved_layout in ((torch.contiguous_format,) * 2, (torch.channels_last, torch.contiguous_format)):
        parameter = nn.Parameter(start.clone(memory_format=layout))
        optimizer = build_optimizer({"body": [parameter]}, OptimConfig(), 0.1)
        parameter.grad = gradients[0].contiguous(memory_format=layout)
        optimizer.step()
        state = optimizer.state_dict()
        buffers = state["state"][0]
        buffers["momentum_buffer"] = buffers["momentum_buffer"].contiguous(memory_format=saved_layout)
        load_optimizer_(optimizer, state)
        parameter.grad = gradients[1].contiguous(memory_format=layout)
        optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)
