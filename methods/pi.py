"""PI: the path integral of Synaptic Intelligence (Zenke et al., ICML 2017, arXiv 1703.04200). METHODS 7."""

from typing import ClassVar

import torch

from methods.base import State
from methods.importance import ImportanceMethod, Weights, copies, state_of, zeros_like

DAMPING, EXACT_DAMPING = 1e-20, 1e-3
"""Added to the squared distance that a weight has moved: that of the public code, and that of the paper."""


class PI(ImportanceMethod):
    """Omega = S: what each weight did for the loss, over how far it moved; summed over the steps.

    `paper_exact`: the gradient is the one before the move, and the damping 1e-3 in the place of 1e-20, with which a
    weight that hardly moved counts more than all others.
    """

    carries: ClassVar = {"path_score": ("paper_exact",)}

    def importances(self) -> Weights:
        """Omega: see ImportanceMethod."""
        return self.normalised(self.carried.get("path_score", {}))

    def start(self, old: Weights) -> None:
        """W = 0; new weights are measured from where they start."""
        self.path, self.before, self.gradients = zeros_like(self.weights), {}, {}
        self.origin = copies(self.weights) | old

    def observe(self, gradients: Weights) -> None:
        """W += g (theta_before - theta), from the second iteration on."""
        exact = self.config.paper_exact
        used = self.gradients if exact else gradients
        for name, gradient in used.items() if self.before else ():
            self.path[name] += gradient * (self.before[name] - self.weights[name])
        self.before = copies(self.weights)
        if exact:
            self.gradients = copies(gradients)

    def state(self, *, finished: bool) -> State:
        """{"path_score"}, and what going on needs."""
        score = {name: self._score(name) for name in self.weights}
        if finished:
            return state_of({"path_score": score})
        kept = {"path": self.path, "before": self.before, "gradients": self.gradients, "origin": self.origin}
        return state_of({"path_score": score} | kept)

    def _score(self, name: str) -> torch.Tensor:
        """S = S_carried + max(W / ((theta - theta_start)^2 + damping), 0)."""
        damping = EXACT_DAMPING if self.config.paper_exact else DAMPING
        distance = (self.weights[name].detach() - self.origin[name]).square() + damping
        score = (self.path[name] / distance).clamp(min=0)
        carried = self.carried.get("path_score", {})
        return score + carried[name] if name in carried else score

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.path, self.before = self._placed(state["path"]), self._placed(state["before"])
        self.gradients, self.origin = self._placed(state["gradients"]), self._placed(state["origin"])
