"""RCIL: Representation Compensation Networks (Zhang et al., CVPR 2022, arXiv 2203.05402). SPEC 4 to 6.

Two branches per convolution, merged and frozen after each step; MiB's unbiased losses; pooled cube distillation from
the network of the step before. The arithmetic is in methods/losses.py and modules/parallel_conv.py.
"""

from dataclasses import dataclass
from typing import Any

from config import with_default
from methods.mib import MiB, MiBConfig
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class RCILConfig(MiBConfig):
    """The parts of MiB with RCIL's weights, on the RC network, and the pooled cube."""

    branches: int = with_default(MiBConfig, "branches", 2)
    loss_kd: float = with_default(MiBConfig, "loss_kd", 100.0)
    init_bias: bool = with_default(MiBConfig, "init_bias", False)
    pod: str = with_default(MiBConfig, "pod", "cube")


PRESETS: dict[str, dict[str, Any]] = {
    "voc": {"lr": (0.02, 0.001), "epochs": (30,)},
    "ade": {"lr": (0.01, 0.001), "epochs": (60,)},
    # No distillation of the logits where domains arrive.
    "cityscapes_domain": {"lr": (0.02, 0.002), "epochs": (50,), "loss_kd": 0.0},
    "cityscape": {"lr": (0.02, 0.001), "epochs": (50,)},
}
TASK_PRESETS: dict[tuple[str, str], dict[str, Any]] = {("cityscapes_domain", "11-1"): {"lr": (0.02, 0.004)}}


class RCIL(MiB):
    """L = L_ce + loss_kd * L_kd + L_pckd (SPEC 5); in domain-incremental steps L_ce + L_pckd.

    `paper_exact`: new classifiers start from the background's bias, too.
    """

    Config = RCILConfig

    @classmethod
    def preset(cls, dataset: str, task: Task) -> dict[str, Any]:
        """SPEC 5 and 7."""
        return PRESETS.get(dataset, {}) | TASK_PRESETS.get((dataset, task.name), {})

    @property
    def kd_weight(self) -> float:
        """SPEC 5: the mean over the old classes is what the weight was chosen for."""
        return self.config.loss_kd
