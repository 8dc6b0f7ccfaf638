"""RCIL: Representation Compensation Networks (Zhang et al., CVPR 2022, arXiv 2203.05402). SPEC 4 to 6.

    L = L_ce + loss_kd L_kd + L_pckd                                                                (SPEC 5)
    L_ce    unbiased cross entropy                                                                  (MiB, eq. 5)
    L_kd    unbiased distillation of the logits                                                     (MiB, eq. 8, 9)
    L_pckd  pooled cube: distances of squared features, pooled over space and over channels         (section 3.3)

Step 0: plain cross entropy. Where domains arrive there is no background and no L_kd. Classes of whole images have no
background either: plain cross entropy and distillation, and a cube of the four stages alone (METHODS2 24, design).

The network (section 3.2, modules/parallel_conv.py): two branches in every block, mixed channel by channel with random
weights. Between steps both merge into one convolution, which is frozen; beside it the second branch trains on. The
student at first is half merged, half new. Inference merges both: the network of a plain DeepLabV3.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from config import option, with_default
from methods.base import Batch, Method, MethodConfig
from methods.features import pooled_cube
from methods.losses import cross_entropy, distillation, unbiased_cross_entropy, unbiased_distillation
from segmentation_module import SegmentationNet, SegOutput


@dataclass(frozen=True, kw_only=True)
class RCILConfig(MethodConfig):
    """Each part of the objective, and the weights of the published runs."""

    branches: int = with_default(MethodConfig, "branches", 2)
    init_balanced: bool = with_default(MethodConfig, "init_balanced", True)
    pod: str = with_default(MethodConfig, "pod", "cube")
    loss_kd: float = option(100.0, "weight of the distillation of the logits; 0 leaves it out")
    alpha: float = option(1.0, "factor on the teacher's logits in their distillation")
    unce: bool = option(True, "unbiased cross entropy: background may be any old class")
    unkd: bool = option(True, "unbiased distillation: the student's background takes in its new classes")

    presets: ClassVar = {
        "voc": {
            "lr": (0.02, 0.001),
            "epochs": (30,),
            "spatial_factors": (0.01, 0.0005),
            "channel_factors": (0.01, 0.0005),
        },
        "voc 10-1": {"epochs": (30,)},
        "ade": {
            "lr": (0.01, 0.001),
            "epochs": (60,),
            "spatial_factors": (5e-6, 5e-7),
            "channel_factors": (5e-6, 5e-7),
        },
        "cityscapes_domain": {
            "lr": (0.02, 0.002),
            "epochs": (50,),
            "spatial_factors": (5e-4, 1e-4),
            "channel_factors": (1e-4, 0.0),
            "loss_kd": 0.0,
        },
        "cityscapes_domain 11-1": {"lr": (0.02, 0.004)},
        "cityscape": {"lr": (0.02, 0.001), "epochs": (50,)},
    }


class RCIL(Method):
    """`paper_exact`: new classifiers start from the background's bias, too."""

    Config = RCILConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Steps >= 1: what both branches of `previous` learnt is merged and frozen, beside the branch that trains."""
        if previous is not None and self.config.branches == 2:
            student.freeze_merged_(previous)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "kd", "cube_spatial", "cube_channel"}, those that apply."""
        config, has_background = self.config, self.step.has_background
        if teacher is None:
            return {"ce": cross_entropy(student.logits, batch.labels)}
        if config.unce and has_background:
            terms = {"ce": unbiased_cross_entropy(student.logits, batch.labels, self.num_old)}
        else:
            terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if config.loss_kd:
            distil = unbiased_distillation if config.unkd and has_background else distillation
            terms["kd"] = config.loss_kd * distil(student.logits, teacher.logits, config.alpha)
        if config.pod == "cube":
            terms |= pooled_cube(student, teacher, self.step, config)
        return terms
