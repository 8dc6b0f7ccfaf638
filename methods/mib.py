"""MiB: Modeling the Background (Cermelli et al., CVPR 2020, arXiv 2002.00718).

    L = L_ce + loss_kd L_kd                                                                         (METHODS 8)
    L_ce: cross entropy in which the probability of the background is that of "background or any old class"  (eq. 5)
    L_kd: distillation in which the student's background takes in its new classes                   (eq. 8, 9)

What is labelled background may be any old class, and what the teacher calls background may be a new one. The weight is
10 on all data sets. Step 0, and domains and classes of whole images, which have no background: plain cross entropy and
distillation. Between steps: the new classes start as copies of the background, their probability split evenly (eq. 10,
11).
"""

from dataclasses import dataclass

from torch import Tensor

from config import option, with_default
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy, distillation, unbiased_cross_entropy, unbiased_distillation
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class MiBConfig(MethodConfig):
    """Each part of the objective."""

    init_balanced: bool = with_default(MethodConfig, "init_balanced", True)
    init_bias: bool = with_default(MethodConfig, "init_bias", True)
    loss_kd: float = option(10.0, "weight of the distillation of the logits; 0 leaves it out")
    alpha: float = option(1.0, "factor on the teacher's logits in their distillation")
    unce: bool = option(True, "unbiased cross entropy: background may be any old class")
    unkd: bool = option(True, "unbiased distillation: the student's background takes in its new classes")


class MiB(Method):
    """`paper_exact`: the distillation is summed over the classes, it is not their mean."""

    Config = MiBConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "kd"}, those that apply."""
        config, has_background = self.config, self.step.has_background
        if teacher is None:
            return {"ce": cross_entropy(student.logits, batch.labels)}
        if config.unce and has_background:
            terms = {"ce": unbiased_cross_entropy(student.logits, batch.labels, self.num_old)}
        else:
            terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if config.loss_kd:
            distil = unbiased_distillation if config.unkd and has_background else distillation
            weight = config.loss_kd * (self.num_old if config.paper_exact else 1)
            terms["kd"] = weight * distil(student.logits, teacher.logits, config.alpha)
        return terms
