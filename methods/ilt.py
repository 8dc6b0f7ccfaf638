"""ILT: Incremental Learning Techniques for Semantic Segmentation (Michieli, Zanuttigh, ICCVW 2019, arXiv 1907.13372).

    L = L_ce + loss_kd L_kd + loss_de L_de                                                          (METHODS 4)
    L_kd = -1/n_old mean_pixels sum_{c < n_old} p_teacher,c log softmax(student[0:n_old])_c
    L_de = mean (teacher - student)^2 of layer4, after its last activation                          (paper, eq. 5)

Both weights are 100 on all data sets. Between steps: as FT.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy, distillation, mean_squared_difference
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class ILTConfig(MethodConfig):
    """Weights of both distillations."""

    loss_kd: float = option(100.0, "weight of the distillation of the logits; 0 leaves it out")
    alpha: float = option(1.0, "factor on the teacher's logits in their distillation")
    loss_de: float = option(100.0, "weight of the squared difference of the body's features; 0 leaves it out")


class ILT(Method):
    """`paper_exact`: the distillation of the logits is summed over the classes, it is not their mean."""

    Config = ILTConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "kd", "de"}, those that apply."""
        config = self.config
        terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if teacher is not None and config.loss_kd:
            weight = config.loss_kd * (self.num_old if config.paper_exact else 1)
            terms["kd"] = weight * distillation(student.logits, teacher.logits, config.alpha)
        if teacher is not None and config.loss_de:
            distance = mean_squared_difference(teacher.features["layer4"], student.features["layer4"])
            terms["de"] = config.loss_de * distance
        return terms
