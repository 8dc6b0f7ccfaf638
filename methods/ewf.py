"""EWF: Endpoints Weight Fusion for Class Incremental Semantic Segmentation (Xiao et al., CVPR 2023).

    L = the objective of the base, MiB or PLOP, unchanged                       (methods/mib.py, methods/plop.py)

Between steps, after the last epoch of each step >= 1, before it is scored and saved                (METHODS 12)
    theta := (1 - a) theta_before + a theta,   a = sqrt(new classes / classes seen), the background counted

theta are all weights and running statistics that the step before has, too: the classifier of the new classes stays as
it is. theta_before is what the step started from, which was fused itself. The fused network is what the next step
starts from, and its teacher. The classifiers of the old classes do not train. Where the norm scales by |gamma|, |gamma|
is fused: a sign that turned during the step must not cancel anything (METHODS2 27.3). Step 0: the base.

Both bases lower the bias of the background by ln(new classes + 1) at the start of a step. The fusion takes back 1 - a
of that, as in the public code (METHODS 12, point 7).

The public code can also fuse only those entries that moved most, off by default: left out (METHODS2 27.3).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch

from config import with_default
from methods.base import Batch
from methods.mib import MiBConfig
from methods.on_base import BaseOption, OnBase
from methods.plop import PLOPConfig
from modules.norm import Norm
from segmentation_module import SegmentationNet


@dataclass(frozen=True, kw_only=True)
class EWFOptions(BaseOption):
    """The base, and what was published on any."""

    presets: ClassVar = {"voc 10-1": {"epochs": (30,)}}

    def __post_init__(self) -> None:
        super().__post_init__()
        # The frozen convolution of a step is the merge of both branches of the step before.
        self.require(
            self.branches == 1,
            "branches",
            "EWF fuses weights of one name, which mean other things in each step of the RC network; it needs 1",
        )


@dataclass(frozen=True, kw_only=True)
class EWFOnMiB(EWFOptions, MiBConfig):
    """MiB's options, too."""

    presets: ClassVar = {"ade 100-10": {"loss_kd": 100.0}, "ade 100-5": {"loss_kd": 100.0}}


@dataclass(frozen=True, kw_only=True)
class EWFOnPLOP(EWFOptions, PLOPConfig):
    """PLOP's options, too."""

    base: str = with_default(EWFOptions, "base", "PLOP")


class EWF(OnBase):
    """`paper_exact`: as in the base."""

    Config = EWFOnMiB
    bases: ClassVar = {"MiB": EWFOnMiB, "PLOP": EWFOnPLOP}
    serves = ("classes", "images")
    by_image = True
    reason = "its fusion weighs new classes against old ones, and there are no new ones"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Steps >= 1: the classifiers of old classes do not train."""
        super().shape(student, previous)
        if previous is not None:
            student.classifiers[:-1].requires_grad_(False)

    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Fuse the network with that of the step before."""
        if previous is not None:
            fuse_(student, previous, math.sqrt(self.step.num_new / self.num_seen))


@torch.no_grad()
def fuse_(student: SegmentationNet, previous: SegmentationNet, share: float) -> None:
    """Move all that `student` shares with `previous` to (1 - share) times that of `previous` + share times its own."""
    absolute = {f"{name}.weight" for name, part in previous.named_modules() if isinstance(part, Norm) and part.absolute}
    own = student.state_dict()
    for name, before in previous.state_dict().items():
        if before.is_floating_point():
            start, end = before.to(own[name]), own[name]
            start, end = (start.abs(), end.abs()) if name in absolute else (start, end)
            own[name].copy_(start.lerp(end, share))
