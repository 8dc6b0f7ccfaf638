"""PI: the path integral of Synaptic Intelligence (Zenke et al., ICML 2017, arXiv 1703.04200).

    L = L_ce + reg_importance sum_i Omega_i (theta_i - theta*_i)^2                                  (METHODS 7)
    Omega = S, scaled to 0..1 over each tensor
    W <- W + g (theta_before - theta), every iteration, g the gradient of L_ce after the move
    S <- S + max(W / ((theta - theta_start)^2 + 1e-20), 0), after the last epoch

The weight is 100 on all data sets. Between steps: the network as FT; S is carried, and W starts from 0.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from methods.base import Batch
from methods.importance import ImportanceConfig, ImportanceMethod, PerWeight, Weights, copies, zeros_like
from segmentation_module import SegmentationNet

DAMPING, EXACT_DAMPING = 1e-20, 1e-3
"""Added to the squared distance that a weight has moved: that of the public code, and that of the paper."""


class PI(ImportanceMethod):
    """`paper_exact`: the gradient is the one before the move, and the damping 1e-3 in the place of 1e-20.

    With 1e-20 a weight that hardly moved counts more than all others.
    """

    Config = ImportanceConfig
    serves = ("classes", "domains", "images")
    by_image = True
    carries: ClassVar = ("path_score",)

    def start(self, old: Weights) -> None:
        """W = 0. Old weights are measured from where the step before left them."""
        self.path, self.snapshot = PerWeight(zeros_like(self.weights)), PerWeight(zeros_like(self.weights))
        self.origin = PerWeight(copies(self.weights) | copies(old))
        if self.config.paper_exact:
            self.gradients = PerWeight(zeros_like(self.weights))
        self.old_score = PerWeight({}, persistent=False)

    def carry(self, carried: Mapping[str, Weights]) -> None:
        """S is kept until the end."""
        self.old_score = PerWeight(carried["path_score"], persistent=False)

    def observe(self, gradients: Weights) -> None:
        """W grows, from the second iteration on; in the first, new weights are where they start."""
        if self.count == 0:
            for name, weight in self.weights.items():
                if name not in self.anchors:
                    self.origin[name].copy_(weight)
        else:
            for name, gradient in self.gradients.items() if self.config.paper_exact else gradients.items():
                self.path[name].add_(gradient * (self.snapshot[name] - self.weights[name]))
        for name, weight in self.weights.items():
            self.snapshot[name].copy_(weight)
        if self.config.paper_exact:
            for name, gradient in gradients.items():
                self.gradients[name].copy_(gradient)

    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """S, in the place of what it grew from."""
        damping = EXACT_DAMPING if self.config.paper_exact else DAMPING
        scores = {}
        for name, path in self.path.items():
            distance = (self.weights[name].detach() - self.origin[name]).square() + damping
            score = (path / distance).clamp(min=0)
            scores[name] = score + self.old_score[name] if name in self.old_score else score
        self.path_score = PerWeight(scores)
        del self.path, self.snapshot, self.origin
        if self.config.paper_exact:
            del self.gradients
