"""ILT: Incremental Learning Techniques for Semantic Segmentation (Michieli, Zanuttigh, ICCVW 2019, arXiv 1907.13372).

METHODS 4. LWF, and the features of the body held to the teacher's.
"""

from dataclasses import dataclass

from torch import Tensor

from config import option
from methods.losses import mean_squared_difference
from methods.lwf import LWF, LWFConfig
from segmentation_module import SegOutput


@dataclass(frozen=True, kw_only=True)
class ILTConfig(LWFConfig):
    """Weight of the distillation of the body's features."""

    loss_de: float = option(100.0, "weight of the squared difference of the body's features")


class ILT(LWF):
    """LWF + loss_de * mean squared difference of layer4, after its last activation."""

    Config = ILTConfig

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce", "kd", "de"}, those that apply: see Method.losses."""
        terms = super().own_losses(student, teacher, labels)
        if teacher is not None and self.config.loss_de:
            distance = mean_squared_difference(teacher.features["layer4"], student.features["layer4"])
            terms["de"] = self.config.loss_de * distance
        return terms
