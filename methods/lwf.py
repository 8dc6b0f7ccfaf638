"""LWF: Learning without Forgetting (Li and Hoiem, ECCV 2016, arXiv 1606.09282), as ported to segmentation by MiB.

    L = L_ce + loss_kd L_kd
    L_kd = -1/n_old mean_pixels sum_{c < n_old} p_teacher,c log softmax(student[0:n_old])_c         (METHODS 2)

The student's softmax over the old classes is held to the teacher's. Old objects train as background. The weight is 100
on all data sets. Between steps: as FT.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy, distillation
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class LWFConfig(MethodConfig):
    """Weight and temperature of the distillation."""

    loss_kd: float = option(100.0, "weight of the distillation of the logits; 0 leaves it out")
    alpha: float = option(1.0, "factor on the teacher's logits in their distillation")


class LWF(Method):
    """`paper_exact`: the distillation is summed over the classes, it is not their mean."""

    Config = LWFConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "kd"}, those that apply."""
        config = self.config
        terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if teacher is not None and config.loss_kd:
            weight = config.loss_kd * (self.num_old if config.paper_exact else 1)
            terms["kd"] = weight * distillation(student.logits, teacher.logits, config.alpha)
        return terms
