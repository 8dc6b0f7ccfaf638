"""A method that uses all of the interface, for the tests of those who call it."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy
from methods.pooled_cube import at_least_float32
from segmentation_module import SegmentationNet, SegOutput
from utils.constants import IGNORE_INDEX
from utils.distributed import all_reduce_sum
from utils.optim import Group


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(MethodConfig):
    """Weight of the probe."""

    loss_probe: float = option(0.5, "weight of the probe's own loss")


class Probe(Method):
    """A classifier of its own reads the head's features; it learns ten times as fast, and does not decay.

    How rare each class is, it counts before the step. In the second phase its loss counts twice. At the end the network
    goes half the way back to the one of the step before, and the probe is kept for the next step.
    """

    Config = ProbeConfig
    serves = ("classes",)
    reason = "it counts the pixels of each class"
    phases = ("first", "second")

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """The probe, and what it counts."""
        super().shape(student, previous)
        self.probe = nn.Conv2d(student.classifiers[0].in_channels, self.num_seen, 1)
        self.register_buffer("pixels", torch.zeros(self.num_seen, dtype=torch.int64))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ends", torch.zeros((), dtype=torch.int64))
        self.register_buffer("old_weight", torch.zeros(self.num_old, self.probe.in_channels, 1, 1), persistent=False)

    def inherit(self, state: dict[str, Tensor]) -> None:
        """The old probe."""
        if state:
            self.old_weight.copy_(state["probe.weight"])

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Old classes as they were."""
        super().initialise(student, previous)
        self.probe.weight[: self.num_old] = self.old_weight

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """The probe on its own."""
        return super().groups(student) | {"method": Group(list(self.probe.parameters()), rate=10.0, decay=0.0)}

    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Count."""
        self.looks += 1
        for _, labels, *_ in batches:
            self.pixels += torch.bincount(labels[labels != IGNORE_INDEX], minlength=self.num_seen)
        all_reduce_sum(self.pixels)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "probe"}"""
        logits = F.interpolate(self.probe(at_least_float32(student.features["pre_logits"])), batch.labels.shape[1:])
        weight = self.config.loss_probe * (2 if self.phase == "second" else 1)
        rarity = (1 / (1 + self.pixels / (1 + self.pixels.sum()))).to(logits.dtype)
        own = F.cross_entropy(logits, batch.labels, rarity, ignore_index=IGNORE_INDEX, reduction="sum")
        return {"ce": cross_entropy(student.logits, batch.labels), "probe": weight * own / batch.labels.numel()}

    @torch.no_grad()
    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Half the way back. Twice would be three quarters."""
        self.ends += 1
        if previous is not None:
            old = dict(previous.named_parameters())
            for name, weight in student.named_parameters():
                if name in old:
                    weight.lerp_(old[name].to(weight), 0.5)
