"""DKD: Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (Baek et al., NeurIPS 2022).

arXiv 2210.05941.

    L = L_mbce + L_ac + loss_kd L_kd + loss_dkd (L_pos + L_neg)                                 (METHODS2 18)
    L_mbce  binary cross entropy of the new classes, over all pixels                            (methods/foreground.py)
    L_ac    loss_ac times that of an auxiliary classifier a, which says no to all that it sees  (features detached)
    L_kd    old classes: binary cross entropy against the teacher's sigmoids
    L_pos   the same of the positive part of each small logit, sum_d max(w_cd, 0) x_d, without the bias
    L_neg   the same of the negative part, sum_d min(w_cd, 0) x_d

A logit may stay the same while both its parts move; so they are held apart. In step 0: L_mbce + L_ac. Pixels that are
ignored count in every term. Between steps: the classifier a of the step before has learnt to say no to all old classes,
so each new class starts from it, and a itself trains on. What was there before does not decay in steps >= 1.
DKD-M has a memory (methods/foreground.py).

The step 0 of another method has no a, and other classifiers: it cannot be built upon. Learning rates are those of the
published runs, which had a batch of 32 (VOC) or 24 (ADE).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import option, with_default
from methods.base import Batch
from methods.foreground import ForegroundConfig, ForegroundMethod
from methods.losses import binary_distillation, negative_binary_cross_entropy
from methods.pooled_cube import at_least_float32
from segmentation_module import SegmentationNet, SegOutput
from utils.optim import Group

PARTS = {"pos": {"min": 0}, "neg": {"max": 0}}
"""How weights are clamped for each part of a logit."""


@dataclass(frozen=True, kw_only=True)
class DKDConfig(ForegroundConfig):
    """Weights of the terms, and what decays."""

    loss_kd: float = option(5.0, "weight of the distillation of the logits; 0 leaves it out")
    loss_dkd: float = option(5.0, "weight of that of their positive and of their negative parts; 0 leaves both out")
    loss_ac: float = option(1.0, "weight of the auxiliary classifier's loss; 0 leaves it untrained")
    decay_old: float = option(0.0, "in later steps, factor on the weight decay of all but the new classifier")

    presets: ClassVar = {
        "voc": {"lr": (0.001, 0.0001), "epochs": (60,), "pos_weight_first": 2.0},
        "ade": {
            "lr": (0.0025, 0.00025),
            "epochs": (100,),
            "warmup_share": 0.2,
            "pos_weight_first": 35.0,
            "pos_weight": 35.0,
        },
        "cityscape": {"lr": (0.001, 0.0001)},
    }


class DKD(ForegroundMethod):
    """A binary classifier for each class, and the parts of its logit distilled one by one."""

    Config = DKDConfig
    serves = ("classes",)
    reason = "its background is where no class is found, and there is none"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Make the auxiliary classifier."""
        super().shape(student, previous)
        self.aux = nn.Conv2d(student.classifiers[0].in_channels, 1, 1)
        self.aux.requires_grad_(bool(self.config.loss_ac))

    @torch.no_grad()
    def inherit(self, state: dict[str, Tensor]) -> None:
        """Start from the auxiliary classifier of the step before. UserError where there is none."""
        for name, parameter in self.aux.named_parameters():
            if f"aux.{name}" not in state:
                raise self.lacking("aux")
            parameter.copy_(state[f"aux.{name}"])

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """New classes start from the auxiliary classifier, which starts at random in step 0."""
        super().initialise(student, previous)
        if previous is None:
            nn.init.kaiming_normal_(self.aux.weight)
        else:
            student.classifiers[-1].weight.copy_(self.aux.weight.expand_as(student.classifiers[-1].weight))
            student.classifiers[-1].bias.copy_(self.aux.bias.expand_as(student.classifiers[-1].bias))

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """As in `ForegroundMethod`; in steps >= 1 what is not new does not decay."""
        groups = super().groups(student)
        if self.step.number == 0:
            return groups
        old = groups.keys() - {"classifiers"}
        return groups | {name: groups[name]._replace(decay=self.config.decay_old) for name in old}

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"bce", "ac", "kd", "pos", "neg"}, those that apply."""
        config, old = self.config, slice(1, self.num_old)
        terms = {"bce": self.new_classes(batch, student)}
        if config.loss_ac:
            small = self.aux(at_least_float32(student.features["pre_logits"]).detach())
            detected = F.interpolate(small, size=batch.labels.shape[-2:], mode="bilinear", align_corners=False)
            terms["ac"] = config.loss_ac * negative_binary_cross_entropy(detected)
        if teacher is None:
            return terms
        if config.loss_kd:
            terms["kd"] = config.loss_kd * binary_distillation(student.logits[:, old], teacher.logits[:, old])
        if config.loss_dkd:
            for name, bounds in PARTS.items():
                seen, known = (logit_part(output, old, bounds) for output in (student, teacher))
                terms[name] = config.loss_dkd * binary_distillation(seen, known)
        return terms


@dataclass(frozen=True, kw_only=True)
class DKDMConfig(DKDConfig):
    """A memory of the published size."""

    mem_size: int = with_default(DKDConfig, "mem_size", 100)

    presets: ClassVar = {"ade": {"mem_size": 300}}


class DKD_M(DKD):
    """DKD with a memory."""

    Config = DKDMConfig
    serves = ("classes",)
    reason = DKD.reason


def logit_part(output: SegOutput, classes: slice, bounds: dict[str, float]) -> Tensor:
    """(B, C, h, w): what the weights within `bounds` say of `classes`; both parts and the bias are the small logits."""
    return F.conv2d(at_least_float32(output.features["pre_logits"]), output.weight[classes].clamp(**bounds))
