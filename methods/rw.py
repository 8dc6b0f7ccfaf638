"""RW: Riemannian Walk (Chaudhry et al., ECCV 2018, arXiv 1801.10112). METHODS 6."""

from dataclasses import dataclass

import torch

from config import option
from methods.base import State
from methods.ewc import EWC, EWCConfig
from methods.importance import TINY, Weights, copies, state_of, zeros_like


@dataclass(frozen=True, kw_only=True)
class RWConfig(EWCConfig):
    """How often the score grows."""

    reg_iterations: int = option(10, "iterations between two looks at how far the weights have moved")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.reg_iterations >= 1, "reg_iterations", "at least 1")


class RW(EWC):
    """Omega = F + S, each normalised: the Fisher information, and a score of how much the loss fell per distance.

    `paper_exact`: F as in EWC, and the score grows every iteration.
    """

    Config = RWConfig
    carries = EWC.carries | {"score": ("reg_alpha", "paper_exact", "reg_iterations")}

    def importances(self) -> Weights:
        """Omega: see ImportanceMethod."""
        scores = self.normalised(self.carried.get("score", {}))
        return {name: value + scores[name] for name, value in super().importances().items() if name in scores}

    def start(self, old: Weights) -> None:
        """F goes on; the score of this step starts from nothing."""
        super().start(old)
        self.grown, self.before, self.calls = zeros_like(self.weights), {}, 0

    def observe(self, gradients: Weights) -> None:
        """Every reg_iterations-th time s += g (theta_before - theta) / (F / 2 (theta - theta_before)^2 + 1e-8).

        After that F grows.
        """
        every = 1 if self.config.paper_exact else self.config.reg_iterations
        if self.calls % every == 0:
            for name, gradient in gradients.items() if self.before else ():
                moved = self.before[name] - self.weights[name]
                distance = 0.5 * self.fisher.values[name] * moved.square() + TINY
                self.grown[name].addcdiv_(gradient * moved, distance)
            self.before = copies(self.weights)
        self.calls += 1
        super().observe(gradients)

    def state(self, *, finished: bool) -> State:
        """{"fisher", "count", "score"}, and what going on needs."""
        score = {name: self._score(name) for name in self.weights}
        state = super().state(finished=finished) | state_of({"score": score})
        if finished:
            return state
        return state | state_of({"grown": self.grown, "before": self.before, "calls": self.calls})

    def _score(self, name: str) -> torch.Tensor:
        """S = max(s, 0), or its mean with what was carried."""
        positive = self.grown[name].clamp(min=0)
        carried = self.carried.get("score", {})
        return (positive + carried[name]) / 2 if name in carried else positive

    def load(self, state: State) -> None:
        """Go on from `state`."""
        super().load(state)
        self.grown, self.before = self._placed(state["grown"]), self._placed(state["before"])
        self.calls = state["calls"]
