"""SGD and the learning rate schedules (SPEC 7)."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from config import OptimConfig
from utils.errors import UserError


class Group(NamedTuple):
    """Parameters that train at `rate` times the learning rate and `decay` times the weight decay of a run."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    decay: float = 1.0


def require_all_grouped(groups: dict[str, Group], *modules: nn.Module) -> None:
    """ValueError, naming it, unless each parameter of `modules` that trains is in exactly one group."""
    grouped = Counter(id(parameter) for group in groups.values() for parameter in group.parameters)
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and grouped[id(parameter)] != 1:
                count = grouped[id(parameter)]
                raise ValueError(f"{type(module).__name__}.{name} is in {count} parameter groups, not in one")


def build_optimizer(groups: dict[str, Group], config: OptimConfig, lr: float) -> torch.optim.SGD:
    """SGD over `groups` by name; the group `old_classifiers` learns at `lr_old` times the rate.

    Parameters without gradient are left out, so that weight decay cannot touch them.
    """
    trainable = [
        {
            "params": kept,
            "lr": lr * (config.lr_old if name == "old_classifiers" else 1.0) * group.rate,
            "weight_decay": config.weight_decay * group.decay,
        }
        for name, group in groups.items()
        if (kept := [parameter for parameter in group.parameters if parameter.requires_grad])
    ]
    if not trainable:
        raise UserError("nothing is left to train; take back --freeze or --fix_bn")
    optimizer = torch.optim.SGD(
        trainable,
        lr=lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=True,
    )
    if config.momentum > 0:
        # From zeros the first update is the same. Left to itself the optimiser takes memory as it finds it for them,
        # which stays so where the first gradient is not finite and the update is left out.
        for group in trainable:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def load_optimizer_(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """optimizer.load_state_dict, but for what would make the fused kernel go wrong in silence, or crash.

    Every buffer is laid out in memory as its parameter is. ValueError where one has another shape, or where the file
    has other settings than the optimiser.
    """
    own = [{name: group[name] for name in group if name not in ("params", "lr")} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        if {name: group.get(name) for name in settings} != settings or not isinstance(group["lr"], float):
            raise ValueError("other settings of the optimiser")
    for parameter, buffers in optimizer.state.items():
        for name, buffer in buffers.items():
            if not isinstance(buffer, torch.Tensor) or buffer.shape != parameter.shape:
                raise ValueError(f"{name} of the optimiser does not fit a weight of shape {tuple(parameter.shape)}")
            buffers[name] = torch.empty_like(parameter).copy_(buffer)


def load_schedule_(schedule: LambdaLR, state: dict[str, Any]) -> None:
    """schedule.load_state_dict, which would take over anything. ValueError where `state` is none of such a schedule."""
    if not isinstance(state, dict) or state.keys() != schedule.state_dict().keys():
        raise ValueError("other entries of the schedule")
    schedule.load_state_dict(state)


def build_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, iterations: int) -> LambdaLR:
    """The learning rate of each of `iterations` iterations, as a factor on that of the group."""
    return LambdaLR(optimizer, rate_factor(config, iterations))


def rate_factor(config: OptimConfig, iterations: int) -> Callable[[int], float]:
    """Iteration -> factor: poly (1 - i/N)^power, step, or none; after a linear warm-up over `warmup` iterations."""

    def factor(iteration: int) -> float:
        warm = min(1.0, (iteration + 1) / (config.warmup + 1))
        if config.lr_policy == "poly":
            return warm * max(0.0, 1 - iteration / iterations) ** config.lr_power
        if config.lr_policy == "step":
            return warm * config.lr_decay_factor ** (iteration // config.lr_decay_step)
        return warm

    return factor
