"""How much each weight matters, and the penalty on moving it: what EWC, RW and PI share (METHODS 5 to 7).

L = cross entropy + reg_importance * sum_i Omega_i (theta_i - theta*_i)^2 over the weights that the network of the step
before had, theta* being their values there. The gradient of the penalty is added by hand: no second backward pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from config import option
from methods.base import MethodConfig, State
from methods.finetune import FT
from segmentation_module import SegmentationNet
from utils.errors import UserError

TINY = 1e-8
Weights = dict[str, Tensor]
"""A tensor for each weight of the student, by its name."""


@dataclass(frozen=True, kw_only=True)
class ImportanceConfig(MethodConfig):
    """Weight of the penalty."""

    reg_importance: float = option(100.0, "weight of the penalty on moving important weights")
    reg_no_normalize: bool = option(False, "do not scale the importances of each tensor to 0..1")


class ImportanceMethod(FT):
    """Fine-tuning with a penalty. A subclass says how importances grow; what it `carries` are tensors by weight."""

    Config = ImportanceConfig
    reads_gradients = True

    def begin(self, student: SegmentationNet, previous: SegmentationNet | None, carried: State) -> None:
        """Take the weights to stay near to from `previous`, and their importances from `carried`.

        UserError where a later step has none: the step before was trained with another method.
        """
        self.weights = {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
        self.carried: dict[str, Weights] = {}
        if previous is not None:
            missing = [entry for entry in self.carries if entry not in carried]
            if missing:
                raise UserError(
                    f"the checkpoint of step {self.step - 1} holds no {missing[0]}, which --method "
                    f"{type(self).__name__} needs: train that step with it, too, or name such a file with --step_ckpt"
                )
            self.carried = {entry: self._placed(carried[entry]) for entry in self.carries}
        old = self._placed(dict(previous.named_parameters())) if previous is not None else {}
        omegas = self.importances()
        self.penalised = [name for name in self.weights if name in old and name in omegas]
        self.anchors = [old[name] for name in self.penalised]
        self.omegas = [omegas[name] for name in self.penalised]
        self.start(old)

    def importances(self) -> Weights:
        """Omega by name, of what was carried; empty in step 0."""
        raise NotImplementedError

    def start(self, old: Weights) -> None:
        """Begin to collect; `old`: the weights of the network of the step before."""
        raise NotImplementedError

    def observe(self, gradients: Weights) -> None:
        """Collect from one iteration; the weights have not moved yet."""
        raise NotImplementedError

    @torch.no_grad()
    def after_backward(self, *, may_overflow: bool) -> dict[str, Tensor]:
        """{"penalty"}, at steps >= 1: see Method.after_backward."""
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        if may_overflow:
            gradients = {name: gradient.nan_to_num(0, 0, 0) for name, gradient in gradients.items()}
        self.observe(gradients)
        if not self.penalised:
            return {}
        importance, penalties = self.config.reg_importance, []
        # Tensor by tensor, so that no second copy of the network lies in memory.
        for name, anchor, omega in zip(self.penalised, self.anchors, self.omegas, strict=True):
            weight = self.weights[name]
            moved = weight - anchor
            pull = omega * moved
            penalties.append(torch.sum(pull * moved))
            pull *= 2 * importance
            weight.grad = pull if weight.grad is None else weight.grad.add_(pull)
        return {"penalty": importance * torch.stack(penalties).sum()}

    def normalised(self, values: Weights) -> Weights:
        """Each tensor scaled to 0..1, unless `reg_no_normalize`."""
        if self.config.reg_no_normalize:
            return copies(values)
        return {name: _min_max(value) for name, value in values.items()}

    def _placed(self, values: Mapping[str, Tensor]) -> Weights:
        """Those of the student's weights, on their device and laid out in memory as they are."""
        return {
            name: torch.empty_like(weight, requires_grad=False).copy_(values[name].detach())
            for name, weight in self.weights.items()
            if name in values and values[name].shape == weight.shape
        }


def zeros_like(weights: Weights) -> Weights:
    """Zeros of the shape of each weight, without gradient."""
    return {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}


def copies(weights: Weights) -> Weights:
    """The weights as they are now."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


def on_cpu(values: Weights) -> Weights:
    """For a checkpoint."""
    return {name: value.cpu() for name, value in values.items()}


def _min_max(values: Tensor) -> Tensor:
    low, high = values.aminmax()
    return (values - low) / (high - low + TINY)


class Fisher:
    """Squared gradients of each weight: a diagonal Fisher information, as the public code estimates it (METHODS 5).

    F <- alpha g^2 + (1 - alpha) F, which weighs the newest gradient most; `exact`: the mean over all iterations of
    the step. Weights without a carried entry start from ones; the carried ones are gone on with in place.
    """

    def __init__(self, weights: Weights, carried: Weights, *, alpha: float, exact: bool) -> None:
        self.alpha = alpha
        self.exact = exact
        self.count = 0
        self.values = {
            name: carried[name] if name in carried else torch.ones_like(weight, requires_grad=False)
            for name, weight in weights.items()
        }

    def add(self, gradients: Weights) -> None:
        """One iteration."""
        self.count += 1
        share = 1 / self.count if self.exact else self.alpha
        for name, gradient in gradients.items():
            self.values[name].mul_(1 - share).addcmul_(gradient, gradient, value=share)


def state_of(entries: Mapping[str, Any]) -> State:
    """Entries of a checkpoint, tensors on the CPU."""
    return {name: on_cpu(value) if isinstance(value, dict) else value for name, value in entries.items()}
