"""EWC: Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796), online.

    L = L_ce + reg_importance sum_i Omega_i (theta_i - theta*_i)^2                                  (METHODS 5)
    Omega = F, scaled to 0..1 over each tensor
    F <- reg_alpha g^2 + (1 - reg_alpha) F, every iteration, g the gradient of L_ce

The weight is 100 and reg_alpha 0.9 on all data sets. F collects in step 0, too. Between steps: the network as FT; F is
carried, and new weights start with F = 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from config import option
from methods.importance import ImportanceConfig, ImportanceMethod, PerWeight, Weights


@dataclass(frozen=True, kw_only=True)
class EWCConfig(ImportanceConfig):
    """How fast the Fisher information forgets."""

    reg_alpha: float = option(0.9, "weight of the newest squared gradient in the Fisher information")


class EWC(ImportanceMethod):
    """`paper_exact`: F is the mean over the iterations of a step."""

    Config = EWCConfig
    serves = ("classes", "domains", "images")
    by_image = True
    carries: ClassVar = ("fisher",)

    def start(self, old: Weights) -> None:
        """F = 1."""
        self.fisher = PerWeight({n: torch.ones_like(w, requires_grad=False) for n, w in self.weights.items()})

    def carry(self, carried: Mapping[str, Weights]) -> None:
        """F grows on."""
        for name, value in carried["fisher"].items():
            self.fisher[name].copy_(value)

    def observe(self, gradients: Weights) -> None:
        """F grows."""
        share = 1 / (self.count + 1) if self.config.paper_exact else self.config.reg_alpha
        for name, gradient in gradients.items():
            self.fisher[name].mul_(1 - share).addcmul_(gradient, gradient, value=share)
