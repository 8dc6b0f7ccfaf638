"""MiB: Modeling the Background (Cermelli et al., CVPR 2020, arXiv 2002.00718). METHODS 8.

What is labelled background may be any old class, and what the teacher calls background may be a new one.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option, with_default
from methods.losses import cross_entropy, distillation, unbiased_cross_entropy, unbiased_distillation
from methods.lwf import LWF, LWFConfig
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class MiBConfig(LWFConfig):
    """Each part of the objective."""

    loss_kd: float = with_default(LWFConfig, "loss_kd", 10.0)
    init_balanced: bool = with_default(LWFConfig, "init_balanced", True)
    init_bias: bool = with_default(LWFConfig, "init_bias", True)
    unce: bool = option(True, "unbiased cross entropy: background may be any old class")
    unkd: bool = option(True, "unbiased distillation: the student's background takes in its new classes")


class MiB(LWF):
    """Unbiased cross entropy + loss_kd * unbiased distillation; plain ones where domains arrive: no background there.

    `paper_exact`: the distillation is summed over the classes, not their mean.
    """

    Config = MiBConfig

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce", "kd"}, those that apply: see Method.losses."""
        config = self.config
        if teacher is None:
            return {"ce": cross_entropy(student.logits, labels)}
        if config.unce and self.new_classes_arrive:
            terms = {"ce": unbiased_cross_entropy(student.logits, labels, self.num_old)}
        else:
            terms = {"ce": cross_entropy(student.logits, labels)}
        if config.loss_kd:
            distil = unbiased_distillation if config.unkd and self.new_classes_arrive else distillation
            terms["kd"] = self.kd_weight * distil(student.logits, teacher.logits, config.alpha)
        return terms
