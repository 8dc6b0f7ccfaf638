"""EWC: Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796), online. METHODS 5."""

from dataclasses import dataclass
from typing import ClassVar

from config import option
from methods.base import State
from methods.importance import Fisher, ImportanceConfig, ImportanceMethod, Weights, state_of


@dataclass(frozen=True, kw_only=True)
class EWCConfig(ImportanceConfig):
    """How fast the Fisher information forgets."""

    reg_alpha: float = option(0.9, "weight of the newest squared gradient in the Fisher information")


class EWC(ImportanceMethod):
    """Omega = F, min-max normalised per tensor. `paper_exact`: F is the mean over the iterations of a step."""

    Config = EWCConfig
    carries: ClassVar = {"fisher": ("reg_alpha", "paper_exact")}

    def importances(self) -> Weights:
        """Omega: see ImportanceMethod."""
        return self.normalised(self.carried.get("fisher", {}))

    def start(self, old: Weights) -> None:
        """Go on from the carried Fisher information."""
        options = {"alpha": self.config.reg_alpha, "exact": self.config.paper_exact}
        self.fisher = Fisher(self.weights, self.carried.get("fisher", {}), **options)

    def observe(self, gradients: Weights) -> None:
        """F <- alpha g^2 + (1 - alpha) F."""
        self.fisher.add(gradients)

    def state(self, *, finished: bool) -> State:
        """{"fisher", "count"}: F is kept as it is, not normalised."""
        return state_of({"fisher": self.fisher.values, "count": self.fisher.count})

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.fisher.values = self._placed(state["fisher"])
        self.fisher.count = state["count"]
