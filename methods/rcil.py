"""RCIL: Representation Compensation Networks (Zhang et al., CVPR 2022, arXiv 2203.05402). SPEC 4 to 6.

Two branches per convolution, merged and frozen after each step; MiB's unbiased losses; pooled cube distillation from
the network of the step before. The arithmetic is in methods/losses.py and modules/parallel_conv.py.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from config import option
from methods.base import Method, MethodConfig
from methods.losses import (
    channel_cube_distance,
    cross_entropy,
    distillation,
    fold_new_into_background,
    spatial_cube_distance,
    squared_difference,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from segmentation_module import SegOutput
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class RCILConfig(MethodConfig):
    """Each part of the objective and its weight."""

    branches: int = option(2, "branches per convolution: 1 plain DeepLabV3, 2 the RC network", choices=(1, 2))
    init_balanced: bool = option(True, "start new classifiers from the background's weights")
    unce: bool = option(True, "unbiased cross entropy: background may be any old class")
    unkd: bool = option(True, "unbiased distillation: the student's background takes in its new classes")
    loss_kd: float = option(100.0, "weight of the distillation of the logits; 0 leaves it out")
    pod: str = option("cube", "distillation of the features: pooled cube or none", choices=("cube", "none"))
    pod_logits: bool = option(True, "the pooled cube loss takes in the small logits")
    pool_sizes: tuple[int, ...] = option((4, 8, 12, 16, 20, 24), "windows of the spatial pooling, in feature pixels")
    spatial_factors: tuple[float, ...] = option((0.01, 0.0005), "weights, spatial pooling: all maps but the last; last")
    channel_factors: tuple[float, ...] = option((0.01, 0.0005), "weights, channel pooling: all maps but the last; last")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("spatial_factors", "channel_factors"):
            self.require(len(getattr(self, name)) == 2, name, "two numbers, for all maps but the last and for the last")
        self.require(bool(self.pool_sizes) and min(self.pool_sizes) >= 1, "pool_sizes", "one or more numbers above 0")


PRESETS: dict[str, dict[str, Any]] = {
    "voc": {"lr": (0.02, 0.001), "epochs": (30,)},
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
    },
    "cityscape": {"lr": (0.02, 0.001), "epochs": (50,)},
}
TASK_PRESETS: dict[tuple[str, str], dict[str, Any]] = {("cityscapes_domain", "11-1"): {"lr": (0.02, 0.004)}}


class RCIL(Method):
    """L = L_ce + loss_kd * L_kd + L_pckd (SPEC 5); in domain-incremental steps L_ce + L_pckd."""

    Config = RCILConfig
    needs_teacher = True

    @classmethod
    def preset(cls, dataset: str, task: Task) -> dict[str, Any]:
        """SPEC 5 and 7."""
        return PRESETS.get(dataset, {}) | TASK_PRESETS.get((dataset, task.name), {})

    def losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce", "kd", "cube_spatial", "cube_channel"}, those that apply: see Method.losses."""
        config = self.config
        if teacher is None:
            return {"ce": cross_entropy(student.logits, labels)}
        terms = {}
        if config.unce and self.new_classes_arrive:
            terms["ce"] = unbiased_cross_entropy(student.logits, labels, self.num_old)
        else:
            terms["ce"] = cross_entropy(student.logits, labels)
        if config.loss_kd and self.new_classes_arrive:
            distil = unbiased_distillation if config.unkd else distillation
            terms["kd"] = config.loss_kd * distil(student.logits, teacher.logits)
        if config.pod == "cube":
            terms |= self._pooled_cube(student, teacher)
        return terms

    def _pooled_cube(self, student: SegOutput, teacher: SegOutput) -> dict[str, Tensor]:
        """Both parts of the pooled cube distillation. The small logits take part in the spatial one only."""
        config = self.config
        num_new = self.num_seen - self.num_old if self.new_classes_arrive else self.num_seen
        adaptive = math.sqrt(self.num_seen / num_new)
        spatial, channel = [], []
        for name, seen in student.features.items():
            small = name == "logits_small"
            seen = fold_new_into_background(seen, self.num_old) if small else seen
            # One map at a time: the difference of a large one is as large, and not needed any more after this.
            difference = squared_difference(teacher.features[name], seen)
            if config.pod_logits or not small:
                spatial.append(spatial_cube_distance(difference, config.pool_sizes))
            if not small:
                channel.append(channel_cube_distance(difference))
        return {
            "cube_spatial": adaptive * _weighted_mean(spatial, config.spatial_factors),
            "cube_channel": adaptive * _weighted_mean(channel, config.channel_factors),
        }


def _weighted_mean(distances: list[Tensor], factors: tuple[float, ...]) -> Tensor:
    """Mean of the distances, all times the first factor but the last, which has the second."""
    usual, last = factors
    weighted = [usual * distance for distance in distances[:-1]] + [last * distances[-1]]
    return torch.stack(weighted).mean()
