"""How much each weight matters, and the penalty on moving it: what EWC, RW and PI share (METHODS 5 to 7).

    L = L_ce + reg_importance sum_i Omega_i (theta_i - theta*_i)^2

over the weights that the network of the step before had, theta* being their values there. The gradient of the penalty
is added by hand: no second backward pass.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy
from modules.authors_names import authors_tensor
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step

TINY = 1e-8
Weights = dict[str, Tensor]
"""A tensor for each weight of the student, by its name."""


class PerWeight(nn.Module):
    """A buffer for each weight, by the weight's name, whose dots are slashes there; `persistent` ones are saved."""

    def __init__(self, values: Mapping[str, Tensor], *, persistent: bool = True) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name.replace(".", "/"), value, persistent=persistent)

    def __getitem__(self, name: str) -> Tensor:
        return self._buffers[name.replace(".", "/")]

    def __contains__(self, name: str) -> bool:
        return name.replace(".", "/") in self._buffers

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """(name of the weight, tensor)."""
        return ((name.replace("/", "."), value) for name, value in self._buffers.items())


@dataclass(frozen=True, kw_only=True)
class ImportanceConfig(MethodConfig):
    """Weight of the penalty."""

    reg_importance: float = option(100.0, "weight of the penalty on moving important weights")
    reg_no_normalize: bool = option(False, "do not scale the importances of each tensor to 0..1")


class ImportanceMethod(Method):
    """Fine-tuning with a penalty. A subclass says how importances grow.

    `carries`: what it leaves to the next step, a PerWeight under each name. Omega is the sum of these, normalised.
    """

    carries: ClassVar[tuple[str, ...]]

    def __init__(self, config: ImportanceConfig, step: Step) -> None:
        super().__init__(config, step)
        self.count = 0  # iterations of the step; not a tensor, for which the host would wait

    def get_extra_state(self) -> dict[str, int]:
        """What the state dict holds beside tensors."""
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Resume from what `get_extra_state` gave."""
        self.count = int(state["count"])

    @property
    def needs_teacher(self) -> bool:
        """Only for `--pod`."""
        return self.config.pod != "none"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Make ready to collect; where there is a step before, its weights are those to stay near to."""
        super().shape(student, previous)
        self.weights = {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
        old = self._of_student(dict(previous.named_parameters())) if previous is not None else {}
        self.anchors = PerWeight(old, persistent=False)
        self.omegas = PerWeight({}, persistent=False)
        self.start(old)

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Take over the importances. UserError where there are none: another method trained the step before."""
        carried: dict[str, Weights] = {}
        for entry in self.carries:
            found = {n.split(".", 1)[1].replace("/", "."): t for n, t in state.items() if n.startswith(f"{entry}.")}
            if not found:
                raise self.lacking(entry)
            carried[entry] = self._of_student(found)
        terms = [self.normalised(values) for values in carried.values()]
        names = [name for name, _ in self.anchors.items() if all(name in term for term in terms)]
        omegas = {name: reduce(torch.add, (term[name] for term in terms)) for name in names}
        self.omegas = PerWeight(omegas, persistent=False)
        self.carry(carried)

    def start(self, old: Weights) -> None:
        """Make the buffers to collect in; `old`: the weights of the network of the step before."""
        raise NotImplementedError

    def carry(self, carried: Mapping[str, Weights]) -> None:
        """Keep what is needed of `carried` after `start`."""
        raise NotImplementedError

    def observe(self, gradients: Weights) -> None:
        """Collect from iteration number `count`; the weights have not moved yet."""
        raise NotImplementedError

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce"}; the penalty comes with `after_backward`."""
        return {"ce": cross_entropy(student.logits, batch.labels)}

    @torch.no_grad()
    def after_backward(self) -> dict[str, Tensor]:
        """{"penalty"}, at steps >= 1."""
        self.observe({name: weight.grad for name, weight in self.weights.items() if weight.grad is not None})
        self.count += 1
        importance, penalties = self.config.reg_importance, []
        # Tensor by tensor, so that no second copy of the network lies in memory.
        for name, omega in self.omegas.items():
            weight = self.weights[name]
            moved = weight - self.anchors[name]
            pull = omega * moved
            penalties.append(torch.sum(pull * moved))
            pull *= 2 * importance
            weight.grad = pull if weight.grad is None else weight.grad.add_(pull)
        return {"penalty": importance * torch.stack(penalties).sum()} if penalties else {}

    def normalised(self, values: Weights) -> Weights:
        """Each tensor of the authors' network scaled to 0..1, unless `reg_no_normalize`."""
        if self.config.reg_no_normalize:
            return copies(values)
        extremes: dict[str, list[Tensor]] = defaultdict(list)
        for name, value in values.items():
            extremes[authors_tensor(name)] += value.aminmax()
        scaled = {}
        for name, value in values.items():
            of_whole = torch.stack(extremes[authors_tensor(name)])
            low, high = of_whole.min(), of_whole.max()
            scaled[name] = (value - low) / (high - low + TINY)
        return scaled

    def _of_student(self, values: Mapping[str, Tensor]) -> Weights:
        """Copies of those that are of the student's weights."""
        return copies({n: values[n] for n, w in self.weights.items() if n in values and values[n].shape == w.shape})


def zeros_like(weights: Weights) -> Weights:
    """Zeros of the shape of each weight, without gradient."""
    return {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}


def copies(weights: Weights) -> Weights:
    """The weights as they are now."""
    return {name: weight.detach().clone() for name, weight in weights.items()}
