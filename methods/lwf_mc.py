"""LWF-MC: the distillation of iCaRL (Rebuffi et al., CVPR 2017, arXiv 1611.07725), as ported to segmentation by MiB.

    L = L_bce + icarl_importance L_kd                                                               (METHODS 3)
    L_bce = mean_pixels sum_c BCE(student_c, 1(label = c))
    L_kd = mean_pixels sum_{c < n_old} BCE(student_c, sigmoid(teacher_c))

One binary classifier per class, in step 0 too: its first step is not that of the other methods. The weight is 10 on all
data sets. Between steps: as FT.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import binary_cross_entropy, binary_distillation, disjoint_binary_cross_entropy
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class LWFMCConfig(MethodConfig):
    """How the labels and what the teacher says go together."""

    icarl_importance: float = option(10.0, "weight of the binary distillation beside the labels")
    icarl_disjoint: bool = option(False, "old classes learn from the teacher alone, new ones from the labels alone")
    icarl_bkg: bool = option(False, "with it, the background learns from the labels")


class LWFMC(Method):
    """`paper_exact`: the disjoint form, in which no class is pulled two ways."""

    Config = LWFMCConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"bce", "kd"}, those that apply."""
        config = self.config
        if teacher is None:
            return {"bce": binary_cross_entropy(student.logits, batch.labels)}
        if config.icarl_disjoint or config.paper_exact:
            labels, true_background = batch.labels, config.icarl_bkg and self.step.has_background
            logits = student.logits, teacher.logits
            return {"bce": disjoint_binary_cross_entropy(*logits, labels, true_background=true_background)}
        return {
            "bce": binary_cross_entropy(student.logits, batch.labels),
            "kd": config.icarl_importance * binary_distillation(student.logits, teacher.logits),
        }
