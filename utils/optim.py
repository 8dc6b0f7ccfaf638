"""One update of the weights against a sum of losses: SGD, learning rate, precision (SPEC 7)."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.sgd import sgd

from config import OptimConfig
from utils.errors import UserError

GRADIENT = "gradient"
"""The term that is the norm of the gradient, which is judged and not reported."""
WARMUP_START = 0.001
"""Factor on the rate where the warm-up of `--warmup_share` starts."""


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


class _SGD(torch.optim.SGD):
    """torch.optim.SGD, fused. On a CPU its kernel copies each gradient that is channels last, and takes twice as long:
    there it is shown the tensors as they lie in memory."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        if any(group["params"][0].is_cuda for group in self.param_groups):
            return super().step(closure)
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [_laid_out_as(weight, weight.grad) for weight in weights]
            momenta = [self.state[weight]["momentum_buffer"] if group["momentum"] else None for weight in weights]
            settings = {name: group[name] for name in ("lr", "momentum", "weight_decay", "dampening", "nesterov")}
            tensors = ([_as_it_lies(tensor) for tensor in row] for row in (weights, gradients, momenta))
            sgd(*tensors, **settings, maximize=False, fused=True, found_inf=getattr(self, "found_inf", None))
        return None


def _as_it_lies(tensor: Tensor | None) -> Tensor | None:
    """The same memory, contiguous."""
    return tensor if tensor is None or tensor.is_contiguous() else tensor.permute(0, 2, 3, 1)


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


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
    momentum = config.momentum
    optimizer = _SGD(trainable, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum > 0:
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


def rate_factor(config: OptimConfig, iterations: int) -> Callable[[int], float]:
    """Iteration -> factor: poly (1 - i/N)^power, step, or none; times that of a linear warm-up over `warmup`
    iterations, or over `warmup_share` of all."""
    share = config.warmup_share * iterations

    def factor(iteration: int) -> float:
        warm = min(1.0, (iteration + 1) / (config.warmup + 1))
        if iteration < share:
            warm *= WARMUP_START + (1 - WARMUP_START) * iteration / share
        if config.lr_policy == "poly":
            return warm * max(0.0, 1 - iteration / iterations) ** config.lr_power
        if config.lr_policy == "step":
            return warm * config.lr_decay_factor ** (iteration // config.lr_decay_step)
        return warm

    return factor


class Precision:
    """fp32, or mixed precision: bfloat16 where the device has it, else float16 with loss scaling."""

    def __init__(self, device: torch.device, *, mixed: bool) -> None:
        # Emulated it would be slower than float32.
        brain = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        self.device_type = device.type
        self.mixed = mixed
        self.dtype = torch.bfloat16 if brain else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=mixed and not brain)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.mixed)

    @property
    def activations(self) -> torch.dtype:
        """What the activations of a forward pass have."""
        return self.dtype if self.mixed else torch.float32


def in_fp32(work: Callable[..., Any]) -> Callable[..., Any]:
    """Without gradients, and on a GPU with the same figures each time: no TF32, no choice of kernels by their speed."""

    @wraps(work)
    def repeatable(*values: Any, **named: Any) -> Any:
        flags = {"benchmark": False, "deterministic": True, "allow_tf32": False}
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, **flags):
            return work(*values, **named)

    return repeatable


class Updater:
    """Updates the weights of `groups` for `iterations` iterations, from the learning rate `lr` on.

    An update whose gradient is not finite is left out, on the device, so that the host need not wait. `undo`: buffers,
    statistics of norms, that are then put back, too.
    """

    def __init__(
        self,
        groups: dict[str, Group],
        config: OptimConfig,
        precision: Precision,
        *,
        lr: float,
        iterations: int,
        undo: list[Tensor],
    ) -> None:
        self.optimizer = build_optimizer(groups, config, lr)
        self.schedule = LambdaLR(self.optimizer, rate_factor(config, iterations))
        self.precision = precision
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.undo = undo
        self._kept: list[Tensor] = []

    @property
    def count(self) -> int:
        """Updates so far."""
        return self.schedule.last_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next update, of the first group."""
        return self.schedule.get_last_lr()[0]

    def clear(self) -> None:
        """Let go of all gradients: before the forward pass, whose activations would lie beside them."""
        self.optimizer.zero_grad(set_to_none=True)
        self._kept = [buffer.clone() for buffer in self.undo]

    def update(
        self, parts: Iterable[dict[str, Tensor]], penalties: Callable[[], dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """One update against the sum of all losses of all `parts`, whose graphs are let go one after another.

        `penalties` is called once the gradients are there, finite and not scaled; it may read them and add to them.
        Returns the terms of both by name, 0-d, and as "gradient" the norm of the gradient; none where losses are
        scaled, which may make it infinite once in a while.
        """
        scaler, losses, norm_before = self.precision.scaler, {}, None
        for of_part in parts:
            scaler.scale(sum(of_part.values())).backward()
            losses = {name: losses.get(name, 0) + value.detach() for name, value in of_part.items()}
        finite = sum(losses.values()).isfinite()
        if penalties:
            scaler.unscale_(self.optimizer)
            if scaler.is_enabled() or self.undo:
                # Such an update is left out all the same: the scaler has seen it, or `norm_before` tells.
                norm_before = self._gradient_norm()
                for weight in self.weights:
                    if weight.grad is not None:
                        weight.grad.nan_to_num_(0, 0, 0)
            losses = losses | penalties()
        if not scaler.is_enabled():
            norm = self._gradient_norm()
            if norm_before is not None:
                norm = torch.where(norm_before.isfinite(), norm, norm_before)
            finite = finite & norm.isfinite()
            # As a scaler tells it; fused optimisers look there, and leave the weights alone.
            self.optimizer.found_inf = (~finite).float()
            losses = losses | {GRADIENT: norm}
        for buffer, kept in zip(self.undo, self._kept, strict=True):
            buffer.copy_(torch.where(finite, buffer, kept))
        scaler.step(self.optimizer)
        scaler.update()
        self.schedule.step()
        return losses

    @torch.no_grad()
    def _gradient_norm(self) -> Tensor:
        """The norm of all gradients, 0-d. Not their largest value, which takes several times as long on CPUs."""
        return nn.utils.get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])

    def state_dict(self) -> dict[str, Any]:
        """The entries of a checkpoint that `load_state_dict` reads (SPEC 9)."""
        return {
            "optimizer_state": self.optimizer.state_dict(),
            "scheduler_state": self.schedule.state_dict(),
            "trainer_state": {"scaler": self.precision.scaler.state_dict()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from where `saved` was written. ValueError where it is of another optimiser or schedule."""
        load_optimizer_(self.optimizer, saved["optimizer_state"])
        schedule = saved["scheduler_state"]
        if not isinstance(schedule, dict) or schedule.keys() != self.schedule.state_dict().keys():
            raise ValueError("other entries of the schedule")  # load_state_dict would take over anything
        self.schedule.load_state_dict(schedule)
        self.precision.scaler.load_state_dict(saved["trainer_state"]["scaler"])
