"""The optimiser's groups, and the learning rate of every iteration (SPEC 7)."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from config import OptimConfig
from utils.errors import UserError
from utils.optim import Group, build_optimizer, load_optimizer_, rate_factor, require_all_grouped

N = 40


def parameters(count: int, *, frozen: int = 0) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.randn(2, 3)) for _ in range(count + frozen)]
    for parameter in made[count:]:
        parameter.requires_grad_(False)
    return made


def group(count: int, *, frozen: int = 0) -> Group:
    return Group(parameters(count, frozen=frozen))


def groups(frozen: int = 0) -> dict[str, Group]:
    return {name: group(2, frozen=frozen) for name in ("body", "head", "old_classifiers", "classifiers")}


def rates(config: OptimConfig, lr: float = 0.2) -> list[float]:
    """The rate of each of N iterations, as a training loop sees them."""
    optimizer = build_optimizer({"body": group(1)}, config, lr)
    schedule = LambdaLR(optimizer, rate_factor(config, N))
    seen = []
    for _ in range(N):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


SCHEDULES = {
    "poly": [0.2 * (1 - i / N) ** 0.7 for i in range(N)],
    "step": [0.2] * 15 + [0.1] * 15 + [0.05] * 10,
    "none": [0.2] * N,
}


def test_the_rates_of_every_schedule_and_of_a_warmup_in_front():
    options = {"lr_power": 0.7, "lr_decay_step": 15, "lr_decay_factor": 0.5}
    for policy, expected in SCHEDULES.items():
        assert rates(OptimConfig(lr_policy=policy, **options)) == pytest.approx(expected, rel=1e-12)
        rising = [0.2, 0.4, 0.6, 0.8] + [1.0] * (N - 4)
        expected = [factor * rate for factor, rate in zip(rising, expected, strict=True)]
        assert rates(OptimConfig(lr_policy=policy, warmup=4, **options)) == pytest.approx(expected, rel=1e-12)
        rising = [0.001 + 0.999 * i / (0.2 * N) if i < 0.2 * N else 1.0 for i in range(N)]
        expected = [factor * rate for factor, rate in zip(rising, SCHEDULES[policy], strict=True)]
        assert rates(OptimConfig(lr_policy=policy, warmup_share=0.2, **options)) == pytest.approx(expected, rel=1e-12)
    # Poly is 0 at the end, and no complex number after it.
    assert rate_factor(OptimConfig(), N)(N) == rate_factor(OptimConfig(), N)(N + 3) == 0


def test_each_group_has_its_own_rate_and_decay():
    """`--lr_old` is a factor on that of the old classifiers, and the schedule one on all."""
    parts = groups() | {"method": Group(parameters(1), rate=10, decay=0), "prompts": Group(parameters(1), rate=0.5)}
    optimizer = build_optimizer(parts, OptimConfig(lr_old=0.25, weight_decay=0.02), 0.2)
    made = {id(made["params"][0]): made for made in optimizer.param_groups}
    assert len(made) == len(parts)
    schedule = LambdaLR(optimizer, rate_factor(OptimConfig(), N))
    for iteration in (0, 1):
        factor = (1 - iteration / N) ** 0.9
        for name, rate in {"body": 0.2, "head": 0.2, "old_classifiers": 0.05, "method": 2.0, "prompts": 0.1}.items():
            of_it = made[id(parts[name].parameters[0])]
            assert list(map(id, of_it["params"])) == list(map(id, parts[name].parameters))
            assert of_it["lr"] == pytest.approx(rate * factor, rel=1e-12)
            assert of_it["weight_decay"] == (0 if name == "method" else 0.02)
        optimizer.step()
        schedule.step()


def test_a_parameter_that_trains_is_in_exactly_one_group():
    module = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2, bias=False)})
    whole = {"one": Group(list(module.first.parameters())), "two": Group(list(module.second.parameters()))}
    require_all_grouped(whole, module)
    with pytest.raises(ValueError, match=r"^ModuleDict\.second\.weight is in 0 parameter groups, not in one$"):
        require_all_grouped({"one": whole["one"]}, module)
    with pytest.raises(ValueError, match=r"^Linear\.bias is in 2 parameter groups, not in one$"):
        require_all_grouped(whole | {"three": Group([module.first.bias])}, module.second, module.first)
    # One that does not train may be anywhere.
    require_all_grouped({"one": whole["one"]}, module.requires_grad_(False))


def test_settings_of_the_spec():
    (first, *_) = build_optimizer(groups(), OptimConfig(), 0.2).param_groups
    assert (first["momentum"], first["nesterov"], first["weight_decay"]) == (0.9, True, 1e-4)
    (first, *_) = build_optimizer(groups(), OptimConfig(momentum=0.0), 0.2).param_groups
    assert not first["nesterov"]


def test_frozen_parameters_are_in_no_group():
    parts = groups(frozen=1)
    optimizer = build_optimizer(parts, OptimConfig(weight_decay=0.5), 0.2)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for part in parts.values():
        assert [id(parameter) in held for parameter in part.parameters] == [True, True, False]
        for parameter in part.parameters:
            parameter.grad = torch.ones_like(parameter)
    before = {id(parameter): parameter.clone() for part in parts.values() for parameter in part.parameters}
    optimizer.step()
    for part in parts.values():
        assert [torch.equal(p, before[id(p)]) for p in part.parameters] == [False, False, True]


def test_empty_groups_vanish_and_nothing_to_train_is_an_error():
    parts = {"body": group(0, frozen=2), "old_classifiers": Group([]), "classifiers": group(1)}
    assert len(build_optimizer(parts, OptimConfig(), 0.2).param_groups) == 1
    with pytest.raises(UserError, match="--freeze"):
        build_optimizer({"body": group(0, frozen=2)}, OptimConfig(), 0.2)


def test_steps_equal_sgd_by_hand():
    """v = 0.9 v + g + wd w; w -= lr (g + wd w + 0.9 v)."""
    (weight,) = parameters(1)
    w, v = weight.detach().double(), torch.zeros(2, 3, dtype=torch.float64)
    optimizer = build_optimizer({"body": Group([weight])}, OptimConfig(weight_decay=0.01), 0.2)
    for _ in range(3):
        weight.grad = torch.randn(2, 3)
        gradient = weight.grad.double() + 0.01 * w
        v = 0.9 * v + gradient
        w = w - 0.2 * (gradient + 0.9 * v)
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), w, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_update_is_that_of_torch_however_weights_and_gradients_lie(momentum):
    """To the last bit; one that is not finite is left out."""
    layouts = (torch.contiguous_format, torch.channels_last)
    start = [torch.randn(shape) for shape in ((37, 5, 3, 3), (16, 8, 3, 3), (9, 4, 1, 1))]
    results = []
    for layout, of_gradient in [(layouts[0], None), *product(layouts, layouts)]:
        weights = [nn.Parameter(weight.clone(memory_format=layout)) for weight in start]
        optimizer = build_optimizer({"body": Group(weights)}, OptimConfig(momentum=momentum, weight_decay=0.01), 0.1)
        random = torch.Generator().manual_seed(1)
        for number in range(4):
            for weight in weights:
                gradient = torch.randn(weight.shape, generator=random)
                weight.grad = gradient.contiguous(memory_format=of_gradient or layout)
            optimizer.found_inf = torch.tensor(float(number == 2))
            # First without what is ours.
            optimizer.step() if of_gradient else torch.optim.SGD.step(optimizer)
        results.append([weight.detach() for weight in weights])
    assert not torch.equal(results[0][0], start[0])
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


def test_a_state_is_resumed_though_it_lies_otherwise_in_memory():
    """As one from a checkpoint of a network in another layout does."""
    start, gradients = torch.randn(4, 3, 5, 5), [torch.randn(4, 3, 5, 5) for _ in range(2)]
    results = []
    for layout, saved_layout in ((torch.contiguous_format,) * 2, (torch.channels_last, torch.contiguous_format)):
        parameter = nn.Parameter(start.clone(memory_format=layout))
        optimizer = build_optimizer({"body": Group([parameter])}, OptimConfig(), 0.1)
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
