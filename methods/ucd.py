"""UCD: Uncertainty-aware Contrastive Distillation for Incremental Semantic Segmentation (Yang et al., TPAMI 2022).

    L = the objective of the base, MiB or PLOP, unchanged + loss_ucd L_ucd                          (METHODS 11)
    L_ucd = mean_i 1/|Pos(i)| sum_{j in Pos(i)} -P_ij log(e_ij / (e_ij + sum_{k in Neg(i)} e_ik))
    e_ij  = exp(cosine of the features of the head at i and j / ucd_temperature)

i runs over pixels of the student, j and k over pixels of student and teacher. A pixel of a new class has its label, any
other one the class that the teacher sees; background and ignored pixels, and the teacher's pixels of new classes, are
left out. Pos(i) are of the class of i, Neg(i) of another. P_ij = sum_c r_ic r_jc, r the teacher's probabilities, is how
likely both are of one class; it is 1 where both are labelled. See methods/contrast.py.

Not all pixels fit into memory: of a batch at most `ucd_anchors` i are drawn in each process, and `ucd_keys` j and k of
the images of all, of every class at least one; the sum over Neg(i) is scaled to all negatives [design, METHODS2 27.2].
Where nothing has to be drawn, several processes compute what one does with all images; else they have more anchors. The
first classifier does not train from step 1 on, as in the public code. Step 0: the base. Between steps: as the base.

The public code does not run; of its quirks none is kept (METHODS 11, point 7). The paper has it on MiB and on PLOP.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from config import option, with_default
from methods.base import Batch
from methods.contrast import uncertainty_contrast
from methods.losses import labels_at
from methods.mib import MiBConfig
from methods.on_base import BaseOption, OnBase
from methods.plop import PLOPConfig
from segmentation_module import SegmentationNet, SegOutput


@dataclass(frozen=True, kw_only=True)
class UCDOptions(BaseOption):
    """The base, and the contrast."""

    loss_ucd: float = option(0.01, "weight of the contrast between pixels; 0 leaves it out")
    ucd_temperature: float = option(0.07, "in it, what the cosines are divided by")
    ucd_anchors: int = option(2048, "in it, most anchors of a batch and process", least=256)
    ucd_keys: int = option(4096, "in it, most pixels that an anchor is compared with", least=512)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.ucd_temperature > 0, "ucd_temperature", "above 0")


@dataclass(frozen=True, kw_only=True)
class UCDOnMiB(UCDOptions, MiBConfig):
    """MiB's options, too."""


@dataclass(frozen=True, kw_only=True)
class UCDOnPLOP(UCDOptions, PLOPConfig):
    """PLOP's options, too."""

    base: str = with_default(UCDOptions, "base", "PLOP")


class UCD(OnBase):
    """`paper_exact`: as in the base."""

    Config = UCDOnMiB
    bases: ClassVar = {"MiB": UCDOnMiB, "PLOP": UCDOnPLOP}
    serves = ("classes",)
    reason = "it contrasts the pixels of new classes with what the teacher sees in their background, and there is none"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Steps >= 1: the first classifier does not train."""
        super().shape(student, previous)
        if previous is not None:
            student.classifiers[0].requires_grad_(False)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """Those of the base, and "ucd" where it applies."""
        config, terms = self.config, super().losses(batch, student, teacher)
        if teacher is not None and config.loss_ucd:
            features = student.features["pre_logits"]
            terms["ucd"] = config.loss_ucd * uncertainty_contrast(
                features,
                teacher.features["pre_logits"],
                teacher.features["logits_small"],
                labels_at(features, batch.labels),
                temperature=config.ucd_temperature,
                sizes=(config.ucd_anchors, config.ucd_keys),
            )
        return terms
