"""Distillation of feature maps, which any method may add to its losses: RCIL's pooled cube, PLOP's local POD (SPEC 5).

Which maps, with which weights; the arithmetic is in methods/losses.py and methods/pooled_cube.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from config import Checked, option
from methods.losses import (
    channel_cube_distance,
    fold_new_into_background,
    local_pod_distance,
    spatial_cube_distance,
    squared_difference,
)
from modules.norm import before_leaky_relu
from segmentation_module import SegOutput

SMALL = "logits_small"
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(Checked):
    """Options of the distillation of features."""

    pod: str = option(
        "none",
        "distillation of the features: pooled cube (RCIL), local POD (PLOP) or none",
        choices=("cube", "local", "none"),
    )
    pod_logits: bool = option(True, "distillation of the features takes in the small logits")
    no_pod_schedule: bool = option(False, "do not weigh it by the square root of classes seen over new classes")
    pod_factor: float = option(0.01, "local: weight of all maps but the small logits")
    pod_logits_factor: float = option(0.0005, "local: weight of the small logits")
    pool_sizes: tuple[int, ...] = option((4, 8, 12, 16, 20, 24), "cube: windows of the spatial pooling")
    spatial_factors: tuple[float, ...] = option(
        (0.01, 0.0005), "cube: weights, spatial pooling: all but the last; last"
    )
    channel_factors: tuple[float, ...] = option(
        (0.01, 0.0005), "cube: weights, channel pooling: all but the last; last"
    )
    spp_scales: tuple[int, ...] = option((1, 2, 4), "local: blocks a side")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("spatial_factors", "channel_factors"):
            self.require(len(getattr(self, name)) == 2, name, "two numbers, for all maps but the last and for the last")
        for name in ("pool_sizes", "spp_scales"):
            sizes = getattr(self, name)
            self.require(bool(sizes) and min(sizes) >= 1, name, "one or more numbers above 0")


# SPEC 5 (cube); METHODS 9 (local). What is not here is the default: that of VOC.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "cube": {
        "ade": {"spatial_factors": (5e-6, 5e-7), "channel_factors": (5e-6, 5e-7)},
        "cityscapes_domain": {"spatial_factors": (5e-4, 1e-4), "channel_factors": (1e-4, 0.0)},
    },
    "local": {
        "ade": {"pod_factor": 1e-3, "pod_logits_factor": 1e-5},
        "cityscapes_domain": {"pod_factor": 1e-4, "pod_logits_factor": 1e-4},
    },
    "none": {},
}
TASK_PRESETS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("local", "cityscapes_domain", "1-1"): {"pod_factor": 1e-4, "pod_logits_factor": 1e-3},
}


def feature_preset(pod: str, dataset: str, task: str) -> dict[str, Any]:
    """The factors that the published runs used with `pod` on a data set, by option name."""
    return PRESETS.get(pod, {}).get(dataset, {}) | TASK_PRESETS.get((pod, dataset, task), {})


def feature_losses(
    config: FeatureConfig, student: SegOutput, teacher: SegOutput, *, num_old: int, num_seen: int
) -> dict[str, Tensor]:
    """The weighted terms by name: {"cube_spatial", "cube_channel"}, {"pod"} or none.

    `num_old` and `num_seen` classes, the background counted; equal where domains arrive and all classes are new.
    """
    if config.pod == "none":
        return {}
    num_new = num_seen - num_old or num_seen
    adaptive = 1.0 if config.no_pod_schedule else math.sqrt(num_seen / num_new)
    distil = _cube if config.pod == "cube" else _local
    terms = distil(config, student, teacher, num_old)
    return {name: adaptive * term for name, term in terms.items()}


def _cube(config: FeatureConfig, student: SegOutput, teacher: SegOutput, num_old: int) -> dict[str, Tensor]:
    """Both parts of the pooled cube distillation. The small logits take part in the spatial one only."""
    spatial, channel = [], []
    for name, seen in student.features.items():
        seen = fold_new_into_background(seen, num_old) if name == SMALL else seen
        # One map at a time: the difference of a large one is as large, and not needed any more after this.
        difference = squared_difference(teacher.features[name], seen)
        if config.pod_logits or name != SMALL:
            spatial.append(spatial_cube_distance(difference, config.pool_sizes))
        if name != SMALL:
            channel.append(channel_cube_distance(difference))
    return {
        "cube_spatial": _weighted_mean(spatial, config.spatial_factors),
        "cube_channel": _weighted_mean(channel, config.channel_factors),
    }


def _local(config: FeatureConfig, student: SegOutput, teacher: SegOutput, num_old: int) -> dict[str, Tensor]:
    """Local POD of the stages before their last activation, of the head and of the small logits (METHODS 9c)."""
    distances = []
    for name, seen in student.features.items():
        known = teacher.features[name]
        if name == SMALL:
            if not config.pod_logits:
                continue
            seen = fold_new_into_background(seen, num_old)
        elif name in STAGES:
            seen, known = before_leaky_relu(seen), before_leaky_relu(known)
        distance = local_pod_distance(squared_difference(known, seen), config.spp_scales)
        distances.append((config.pod_logits_factor if name == SMALL else config.pod_factor) * distance)
    return {"pod": torch.stack(distances).mean()}


def _weighted_mean(distances: Sequence[Tensor], factors: tuple[float, ...]) -> Tensor:
    """Mean of the distances, all times the first factor but the last, which has the second."""
    usual, last = factors
    weighted = [usual * distance for distance in distances[:-1]] + [last * distances[-1]]
    return torch.stack(weighted).mean()
