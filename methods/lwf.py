"""LWF: Learning without Forgetting (Li and Hoiem, ECCV 2016, arXiv 1606.09282).

METHODS 2, as ported to segmentation by MiB's authors. The student's softmax over the old classes is held to the
teacher's; old objects train as background.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.base import MethodConfig
from methods.finetune import FT
from methods.losses import distillation
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class LWFConfig(MethodConfig):
    """Weight and temperature of the distillation."""

    loss_kd: float = option(100.0, "weight of the distillation of the logits; 0 leaves it out")
    alpha: float = option(1.0, "factor on the teacher's logits in their distillation")


class LWF(FT):
    """Cross entropy + loss_kd * distillation. `paper_exact`: summed over the classes, not their mean."""

    Config = LWFConfig
    teaches = True

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce", "kd"}, those that apply: see Method.losses."""
        terms = super().own_losses(student, None, labels)
        if teacher is not None and self.config.loss_kd:
            terms["kd"] = self.kd_weight * distillation(student.logits, teacher.logits, self.config.alpha)
        return terms

    @property
    def kd_weight(self) -> float:
        """Factor on the distillation, which is a mean over the old classes."""
        return self.config.loss_kd * (self.num_old if self.config.paper_exact else 1)
