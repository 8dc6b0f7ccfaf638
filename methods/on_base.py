"""What adds to another method, its base, which `--base` names: the base's objective, options, presets and state.

The base is held as a module, and takes the same configuration: that of the method on a base has the options of both.
So there is one configuration a base: `class MineOnPLOP(MineOptions, PLOPConfig)`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from config import Checked, option
from methods.base import Batch, Method
from methods.mib import MiB
from methods.plop import PLOP
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step

BASES: dict[str, type[Method]] = {"MiB": MiB, "PLOP": PLOP}
"""Of the interface they have a look at the data and losses of their own; only these are passed on to them."""


@dataclass(frozen=True, kw_only=True)
class BaseOption(Checked):
    """Which base."""

    base: str = option(
        "MiB",
        "method that it adds to; its options are taken, too, and shown where this stands before --help",
        choices=tuple(BASES),
    )


class OnBase(Method):
    """Computes what its base computes. `config`: of the class that `bases` has for its base."""

    def __init__(self, config: Any, step: Step) -> None:
        super().__init__(config, step)
        self.base = BASES[config.base](config, step)

    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Let the base see the data."""
        self.base.before(student, teacher, batches)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """Those of the base."""
        return self.base.losses(batch, student, teacher)
