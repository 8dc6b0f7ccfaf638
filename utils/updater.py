"""One update of the weights against a sum of losses: optimiser, schedule and loss scaling (SPEC 7)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from config import OptimConfig
from utils.optim import Group, build_optimizer, build_schedule, load_optimizer_, load_schedule_
from utils.precision import Precision

GRADIENT = "gradient"
"""The term that is the norm of the gradient, which is judged and not reported."""


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
        self.schedule = build_schedule(self.optimizer, config, iterations)
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
        self, losses: dict[str, Tensor], penalties: Callable[[], dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """One update against the sum of `losses`.

        `penalties` is called once the gradients are there, finite and not scaled; it may read them and add to them.
        Returns the terms of both by name, 0-d, and as "gradient" the norm of the gradient; none where losses are
        scaled, which may make it infinite once in a while.
        """
        scaler = self.precision.scaler
        total = sum(losses.values())
        scaler.scale(total).backward()
        finite, norm_before = total.detach().isfinite(), None
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
        load_schedule_(self.schedule, saved["scheduler_state"])
        self.precision.scaler.load_state_dict(saved["trainer_state"]["scaler"])
