"""RW: Riemannian Walk (Chaudhry et al., ECCV 2018, arXiv 1801.10112).

    L = L_ce + reg_importance sum_i Omega_i (theta_i - theta*_i)^2                                  (METHODS 6)
    Omega = F + S, each scaled to 0..1 over each tensor
    F as in EWC; S, how much the loss fell per distance: max(s, 0), averaged with the S of the step before
    s <- s + g (theta_before - theta) / (F / 2 (theta - theta_before)^2 + 1e-8), every reg_iterations iterations

The weight is 100 and reg_iterations 10 on all data sets. Between steps: the network as FT; F and S are carried, and s
starts from 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from config import option
from methods.base import Batch
from methods.ewc import EWC, EWCConfig
from methods.importance import TINY, PerWeight, Weights, zeros_like
from segmentation_module import SegmentationNet


@dataclass(frozen=True, kw_only=True)
class RWConfig(EWCConfig):
    """How often the score grows."""

    reg_iterations: int = option(10, "iterations between two looks at how far the weights have moved", least=1)


class RW(EWC):
    """`paper_exact`: F as in EWC, and s grows every iteration."""

    Config = RWConfig
    serves = ("classes", "domains", "images")
    by_image = True
    carries: ClassVar = ("fisher", "score")

    def start(self, old: Weights) -> None:
        """F = 1, s = 0."""
        super().start(old)
        self.grown, self.snapshot = PerWeight(zeros_like(self.weights)), PerWeight(zeros_like(self.weights))
        self.old_score = PerWeight({}, persistent=False)

    def carry(self, carried: Mapping[str, Weights]) -> None:
        """F grows on, S is kept until the end."""
        super().carry(carried)
        self.old_score = PerWeight(carried["score"], persistent=False)

    def observe(self, gradients: Weights) -> None:
        """s grows, with F as it was; then F does."""
        every = 1 if self.config.paper_exact else self.config.reg_iterations
        if self.count % every == 0:
            for name, gradient in gradients.items() if self.count else ():
                moved = self.snapshot[name] - self.weights[name]
                distance = 0.5 * self.fisher[name] * moved.square() + TINY
                self.grown[name].addcdiv_(gradient * moved, distance)
            for name, weight in self.weights.items():
                self.snapshot[name].copy_(weight)
        super().observe(gradients)

    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """S, in the place of what it grew from."""
        scores = {}
        for name, grown in self.grown.items():
            positive = grown.clamp(min=0)
            scores[name] = (positive + self.old_score[name]) / 2 if name in self.old_score else positive
        self.score = PerWeight(scores)
        del self.grown, self.snapshot
