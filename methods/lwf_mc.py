"""LWF-MC: the distillation of iCaRL (Rebuffi et al., CVPR 2017, arXiv 1611.07725), as ported by MiB's authors.

METHODS 3. One binary classifier per class, in step 0 too, so that its first step is not that of the other methods.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.base import MethodConfig
from methods.finetune import FT
from methods.losses import binary_cross_entropy, binary_distillation, disjoint_binary_cross_entropy
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class LWFMCConfig(MethodConfig):
    """How the labels and what the teacher says go together."""

    icarl_importance: float = option(10.0, "weight of the binary distillation beside the labels")
    icarl_disjoint: bool = option(False, "old classes learn from the teacher alone, new ones from the labels alone")
    icarl_bkg: bool = option(False, "with it, the background learns from the labels")


class LWFMC(FT):
    """Binary cross entropy + icarl_importance * binary distillation.

    `paper_exact`: the disjoint form, in which no class is pulled two ways.
    """

    Config = LWFMCConfig
    teaches = True
    first_loss = "binary cross entropy"

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"bce", "kd"}, those that apply: see Method.losses."""
        config = self.config
        if teacher is None:
            return {"bce": binary_cross_entropy(student.logits, labels)}
        if config.icarl_disjoint or config.paper_exact:
            one = disjoint_binary_cross_entropy(
                student.logits, teacher.logits, labels, true_background=config.icarl_bkg
            )
            return {"bce": one}
        return {
            "bce": binary_cross_entropy(student.logits, labels),
            "kd": config.icarl_importance * binary_distillation(student.logits, teacher.logits),
        }
