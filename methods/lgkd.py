"""LGKD: Label-Guided Knowledge Distillation for Continual Semantic Segmentation (Yang et al., ICCV 2023).

    L = nu L_ce + L_pod + loss_lgkd L_lg                                                        (METHODS2 21)
    nu L_ce + L_pod   the objective of PLOP, unchanged                                          (methods/plop.py)
    L_lg              distillation of the small logits, in which the teacher's background goes to the labelled class

The teacher calls a pixel of a new class background. Distilled as it is, that pulls the new class down. The label says
where the probability belongs: on a pixel of new class k, it is k's. `lgkd_old` and `lgkd_new` weigh the pixels of old
and of new classes; the published ones were chosen per task, on the test images. Labels count as they were before PLOP
fills in pseudo labels. Step 0: plain cross entropy. Between steps: as PLOP.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from config import option
from methods.base import Batch, Method
from methods.losses import label_guided_distillation, labels_at
from methods.plop import PLOP, PLOPConfig
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step


@dataclass(frozen=True, kw_only=True)
class LGKDConfig(PLOPConfig):
    """PLOP's options, and the weights of the label-guided distillation."""

    loss_lgkd: float = option(1.0, "weight of the label-guided distillation; 0 leaves it out")
    lgkd_old: float = option(10.0, "in it, weight of the pixels of old classes and the background")
    lgkd_new: float = option(2.0, "in it, weight of the pixels of new classes")

    presets: ClassVar = {
        "voc 19-1": {"lgkd_old": 5.0, "lgkd_new": 0.5},
        "voc 15-5": {"lgkd_old": 5.0, "lgkd_new": 1.0},
        "voc 15-1": {"lgkd_old": 1.0, "lgkd_new": 0.0},
        "ade": {"lr": (0.02, 0.002)},
        "ade 100-50": {"lgkd_old": 1.0, "lgkd_new": 20.0},
        "ade 100-10": {"lgkd_old": 1.0, "lgkd_new": 1.0},
        "ade 50-50": {"lgkd_old": 2.0, "lgkd_new": 10.0},
    }


class LGKD(Method):
    """`paper_exact`: as in PLOP."""

    Config = LGKDConfig
    serves = ("classes",)
    reason = "it distils what the teacher calls background into new classes, and there is none"

    def __init__(self, config: LGKDConfig, step: Step) -> None:
        super().__init__(config, step)
        self.plop = PLOP(config, step)

    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Find the bounds of PLOP's pseudo labels."""
        self.plop.before(student, teacher, batches)

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "pod", "lgkd"}, those that apply."""
        config, terms = self.config, self.plop.losses(batch, student, teacher)
        if teacher is not None and config.loss_lgkd:
            small = student.features["logits_small"]
            terms["lgkd"] = config.loss_lgkd * label_guided_distillation(
                small,
                teacher.features["logits_small"],
                labels_at(small, batch.labels),
                (config.lgkd_old, config.lgkd_new),
            )
        return terms
