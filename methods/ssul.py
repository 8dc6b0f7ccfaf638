"""SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental Learning (Cha et al., NeurIPS
2021).

    L = mean_valid sum_k BCE(z_k, 1(target = k)),  k = unknown, background, all classes seen                (METHODS 13)

The target of a pixel: its label, where it has one. Background that stands out, in the saliency map of its image, is
unknown. In steps >= 1 background and unknown become the old class that the teacher is sure of: the largest sigmoid of
all outputs is of a class, and `certain` or more. Ignored pixels count neither above nor below the line. There is no
distillation.

Between steps: body, head and old classifiers stay as they are, with all norms; only the new classifier, that of the
unknown and, far more slowly, that of the background train. A new class starts from the unknown, of which it was a part.
A test counts the unknown as background: the sigmoids are added, at the size of the image.

SSUL-M has a memory: a random half of each batch are images of earlier steps. Their labels are those of all classes seen
so far, more than was labelled when they were seen, as in the public code (METHODS 13, quirk b). That code has them off
by one; ours not. Each class of the steps before takes its turn in the choice; what is on an image are its labels in the
centre and what the network of the step before is sure of there.

Saliency maps are a supervised extra in the published runs on VOC. On other data sets, and with --saliency none, the
whole background is unknown, as in the public code on ADE.

The published network has --head steps, in which each step and the unknown have a 3x3 convolution of their own, with
--norm_act std and a body with ReLU. Left out: that images are padded, and the padding is trained as background; the
floor of 1e-6 under the learning rate on VOC; that the best iteration is chosen on the test images.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from config import option, with_default
from dataset.memory import MemoryRule
from methods.base import Batch, Method, MethodConfig
from methods.losses import valid_binary_cross_entropy
from methods.pooled_cube import at_least_float32
from segmentation_module import SegmentationNet, SegOutput, freeze_parts_
from utils.constants import IGNORE_INDEX
from utils.optim import Group


@dataclass(frozen=True, kw_only=True)
class SSULConfig(MethodConfig):
    """Where the unknown is, when the teacher is believed, and what learns how fast."""

    saliency: str = option(
        "none",
        "what of the background is unknown; maps: what stands out in saliency_map/NAME.png of the data set; none: all",
        choices=("maps", "none"),
    )
    certain: float = option(0.7, "least sigmoid of an old class that makes background a pseudo label of it")
    unknown_start: bool = option(True, "start new classifiers from that of the unknown")
    body_rate: float = option(0.1, "in step 0, factor on the learning rate of the body")
    background_rate: float = option(1e-4, "in later steps, factor on the learning rate of the background's classifier")

    presets: ClassVar = {
        "voc": {"lr": (0.01,), "epochs": (50,), "saliency": "maps"},
        "ade": {"lr": (0.01, 0.05), "epochs": (100,), "warmup_share": 0.1},
        "cityscape": {"lr": (0.01,)},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.branches == 1, "branches", "nothing of the body trains after step 0; it needs 1")
        self.require(not self.init_balanced, "init_balanced", "leave it out, new classes start from the unknown")
        self.require(0 <= self.certain <= 1, "certain", "0 to 1")
        self.require(self.body_rate > 0, "body_rate", "above 0")
        self.require(self.background_rate > 0, "background_rate", "above 0")


class SSUL(Method):
    """What is not known yet has a class of its own."""

    Config = SSULConfig
    config: SSULConfig
    serves = ("classes",)
    reason = "its unknown is a part of the background, and there is none"
    heads = ("sum", "concat", "steps")
    memory_rule = MemoryRule(mixed=True, all_labels=True, centred=True)
    knows_unknown = True

    @property
    def needs_saliency(self) -> bool:
        """`--saliency maps`."""
        return self.config.saliency == "maps"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Have a classifier of the unknown; in steps >= 1 only what is said above trains."""
        super().shape(student, previous)
        if previous is not None and previous.unknown is None:
            raise self.lacking("unknown")
        student.add_unknown_()
        if previous is None:
            return
        student.requires_grad_(False)
        first = student.classifiers[0]
        parts = getattr(first, "parts", [first])
        for trains in (student.unknown, parts[0], student.classifiers[-1]):
            trains.requires_grad_(True)
        if len(parts) == 1:
            for parameter in first.parameters():
                parameter.register_hook(_of_background)
        freeze_parts_(student, body=False, norms=True)

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """New classes start from the unknown."""
        if previous is not None and self.config.unknown_start:
            unknown = student.unknown.state_dict()
            for name, own in student.classifiers[-1].state_dict().items():
                own.copy_(unknown[name].expand_as(own))

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """Those of every method, with their rates; the unknown learns as new classes do."""
        groups = super().groups(student)
        groups["classifiers"].parameters.extend(student.unknown.parameters())
        if self.step.number == 0:
            return groups | {"body": groups["body"]._replace(rate=self.config.body_rate)}
        # Without decay, which would move the old classes that share its tensors.
        background = groups["old_classifiers"]._replace(rate=self.config.background_rate, decay=0.0)
        return groups | {"old_classifiers": background}

    def confident(self, output: SegOutput) -> Tensor:
        """The old class of the largest sigmoid of all outputs, unknown included, if that is `certain` or more."""
        small = torch.cat([output.features["unknown"], output.features["logits_small"]], 1)
        size = output.logits.shape[-2:]
        logits = F.interpolate(at_least_float32(small), size=size, mode="bilinear", align_corners=False)
        logit, output_number = logits.max(1)
        return torch.where(logit.sigmoid() >= self.config.certain, output_number - 1, 0).clamp(min=0)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"bce"}."""
        size = batch.labels.shape[-2:]
        unknown = F.interpolate(student.features["unknown"], size=size, mode="bilinear", align_corners=False)
        targets = unknown_targets(batch.labels, batch.saliency, None if teacher is None else self.confident(teacher))
        return {"bce": valid_binary_cross_entropy(torch.cat([unknown, student.logits], 1), targets)}


@dataclass(frozen=True, kw_only=True)
class SSULMConfig(SSULConfig):
    """A memory of the published size."""

    mem_size: int = with_default(SSULConfig, "mem_size", 100)

    presets: ClassVar = {"ade": {"mem_size": 300}}


class SSUL_M(SSUL):
    """SSUL with a memory."""

    Config = SSULMConfig
    serves = ("classes",)
    reason = SSUL.reason


def unknown_targets(labels: Tensor, saliency: Tensor | None, found: Tensor | None) -> Tensor:
    """`labels` (B, H, W), one higher, with 0 for the unknown, and with the old classes that are `found`; 255 stays.

    `saliency` (B, H, W): what of the background is unknown, all of it if None. `found` (B, H, W): an old class where it
    is not 0.
    """
    background = labels == 0
    targets = torch.where(background, 0 if saliency is None else (~saliency).long(), labels + 1)
    if found is not None:
        targets = torch.where(background & (found > 0), found + 1, targets)
    return torch.where(labels == IGNORE_INDEX, IGNORE_INDEX, targets)


def _of_background(gradient: Tensor) -> Tensor:
    """The gradient of the first class alone. A new tensor: this one may be another's, too."""
    return torch.cat([gradient[:1], torch.zeros_like(gradient[1:])])
