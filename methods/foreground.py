"""Sigmoid classifiers of the foreground alone: the common ground of DKD and STAR (METHODS2 17).

Each class has a classifier for itself, and the background has none: it is where no sigmoid is above 1/2. That is the
argmax beside a background whose logit is always 0, so channel 0 stays at 0, and all that reads logits reads these, too.
New classes learn by binary cross entropy against everything else, ignored pixels included, as in the public code of
both. Old ones learn from the teacher.

`--lr` is the rate of the body; the head and the classifiers learn faster. In steps >= 1 all norms stay as they are.
The published runs have another network: --head concat, --norm_act std, ReLU, torchvision's ImageNet weights, and a
momentum of 0.01 in the norms of the body.

DKD-M and STAR-M see `mem_size` images of earlier steps again, appended to those of the step. Their labels are those of
the step, as those of any image: so they act through the teacher, and as negatives (METHODS2 18.6). Each class of the
steps before takes its turn in the choice. What is on an image of step t-1 are its labels in a random crop and, from t-1
= 1 on, what the network of step t-1 is sure of there, with a sigmoid of 0.9 (the public code asks an untrained one). It
knows what it has kept longer from then.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from config import option
from dataset.memory import MemoryRule
from methods.base import Batch, Method, MethodConfig
from methods.losses import foreground_binary_cross_entropy
from segmentation_module import SegmentationNet, SegOutput, freeze_parts_
from utils.optim import Group

CERTAIN = 0.9
"""Sigmoid of an old class from which on an image counts as showing it, in the choice of the memory (METHODS2 18.6)."""


@dataclass(frozen=True, kw_only=True)
class ForegroundConfig(MethodConfig):
    """How often a pixel of a new class counts, and what learns how fast."""

    pos_weight_first: float = option(1.0, "in the binary cross entropy of step 0, weight of the pixels of a class")
    pos_weight: float = option(1.0, "the same in later steps")
    freeze_norms: bool = option(True, "keep all norms as they are in later steps")
    head_rate: float = option(10.0, "factor on the learning rate of the head and the old classifiers")
    classifier_rate: float = option(10.0, "factor on the learning rate of the new classifier")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "leave it out, the classifier of the background stays at 0"
        self.require(not self.init_balanced, "init_balanced", allowed)


class ForegroundMethod(Method):
    """Base of both. A subclass adds what keeps the old classes."""

    config: ForegroundConfig
    memory_rule = MemoryRule(mixed=False, all_labels=False, centred=False)

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Keep the background's logit at 0, and in steps >= 1 the norms as they are."""
        super().shape(student, previous)
        student.fix_background_()
        if previous is not None and self.config.freeze_norms:
            freeze_parts_(student, body=False, norms=True)

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """New classifiers start at random, none from the background."""
        new = student.classifiers[-1]
        nn.init.kaiming_normal_(new.weight)
        if previous is None:
            new.weight[0] = 0

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """Those of every method, with their rates; layers of the method's own learn as the head does."""
        head, new = self.config.head_rate, self.config.classifier_rate
        rates = {"head": head, "old_classifiers": head, "method": head, "classifiers": new}
        groups = super().groups(student)
        return groups | {name: groups[name]._replace(rate=rate) for name, rate in rates.items()}

    def confident(self, output: SegOutput) -> Tensor:
        """The class of the largest sigmoid, if that is `CERTAIN` or more."""
        logits, classes = output.logits.max(1)
        return torch.where(logits.sigmoid() >= CERTAIN, classes, 0)

    def new_classes(self, batch: Batch, student: SegOutput) -> Tensor:
        """Binary cross entropy of the new classes."""
        weight = self.config.pos_weight if self.step.number else self.config.pos_weight_first
        return foreground_binary_cross_entropy(student.logits, batch.labels, self.num_old, weight)
