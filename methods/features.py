"""Distillation of feature maps: RCIL's pooled cube and PLOP's local POD, which any method may add (`--pod`, SPEC 5).

Which maps, with which weights; the arithmetic is in methods/losses.py and methods/pooled_cube.py, and the factors of
the published runs in methods/rcil.py and methods/plop.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from config import Checked, option
from methods.losses import fold_new_into_background, local_pod_distance
from methods.pooled_cube import cube_distances, difference_of_squares
from modules.norm import before_leaky_relu
from segmentation_module import SegOutput
from tasks import Step

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
    pod_logits: bool = option(True, "distillation of the features includes the small logits")
    no_pod_schedule: bool = option(False, "do not weigh it by the square root of classes seen over new classes")
    pod_factor: float = option(0.01, "local: weight of all maps but the small logits")
    pod_logits_factor: float = option(0.0005, "local: weight of the small logits")
    pool_sizes: tuple[int, ...] = option((4, 8, 12, 16, 20, 24), "cube: windows of the spatial pooling")
    spatial_factors: tuple[float, ...] = option(
        (0.01, 0.0005), "cube: weights, spatial pooling: all but the last map; the last"
    )
    channel_factors: tuple[float, ...] = option(
        (0.01, 0.0005), "cube: weights, channel pooling: all but the last map; the last"
    )
    spp_scales: tuple[int, ...] = option((1, 2, 4), "local: blocks a side")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("spatial_factors", "channel_factors"):
            self.require(len(getattr(self, name)) == 2, name, "two numbers, for all maps but the last and for the last")
        for name in ("pool_sizes", "spp_scales"):
            sizes = getattr(self, name)
            self.require(bool(sizes) and min(sizes) >= 1, name, "one or more numbers above 0")


def feature_distillation(
    student: SegOutput, teacher: SegOutput, step: Step, config: FeatureConfig
) -> dict[str, Tensor]:
    """The weighted terms of `--pod` by name: {"cube_spatial", "cube_channel"}, {"pod"} or none."""
    distil = {"cube": pooled_cube, "local": local_pod}.get(config.pod)
    return distil(student, teacher, step, config) if distil else {}


def pooled_cube(student: SegOutput, teacher: SegOutput, step: Step, config: FeatureConfig) -> dict[str, Tensor]:
    """Pooled cube distillation (RCIL, arXiv 2203.05402, section 3.3; SPEC 5): {"cube_spatial", "cube_channel"}.

    Spatial pooling of six maps: four stages, pre_logits, small logits. Channel pooling of the first five. Of whole
    images: the four stages alone, with the first factor, and of the windows those that fit (METHODS2 24, design).
    """
    if step.task.kind == "image":
        return _cube_of_stages(student, teacher, step, config)
    spatial, channel = [], []
    for name in (name for name in student.features if config.pod_logits or name != SMALL):
        seen = student.features[name]
        seen = fold_new_into_background(seen, step.num_old) if name == SMALL else seen
        spatial_distance, channel_distance = cube_distances(teacher.features[name], seen, config.pool_sizes)
        spatial.append(spatial_distance)
        if name != SMALL:
            channel.append(channel_distance)
    adaptive = adaptive_factor(step, config)
    return {
        "cube_spatial": adaptive * _weighted_mean(spatial, config.spatial_factors),
        "cube_channel": adaptive * _weighted_mean(channel, config.channel_factors),
    }


def _cube_of_stages(student: SegOutput, teacher: SegOutput, step: Step, config: FeatureConfig) -> dict[str, Tensor]:
    spatial, channel = [], []
    for name in STAGES:
        seen = student.features[name]
        of_map = cube_distances(teacher.features[name], seen, fitting(config.pool_sizes, seen))
        spatial.append(of_map[0])
        channel.append(of_map[1])
    adaptive = adaptive_factor(step, config)
    return {
        "cube_spatial": adaptive * config.spatial_factors[0] * torch.stack(spatial).mean(),
        "cube_channel": adaptive * config.channel_factors[0] * torch.stack(channel).mean(),
    }


def fitting(windows: Sequence[int], maps: Tensor) -> tuple[int, ...]:
    """Those that are no larger than `maps` (B, C, h, w); where none is, the whole of its shorter side."""
    side = min(maps.shape[2:])
    return tuple(size for size in windows if size <= side) or (side,)


def local_pod(student: SegOutput, teacher: SegOutput, step: Step, config: FeatureConfig) -> dict[str, Tensor]:
    """{"pod"}: local POD of the stages before their last activation, the head and the small logits (METHODS 9c)."""
    distances = []
    for name in (name for name in student.features if config.pod_logits or name != SMALL):
        seen, known, factor = student.features[name], teacher.features[name], config.pod_factor
        if name == SMALL:
            seen, factor = fold_new_into_background(seen, step.num_old), config.pod_logits_factor
        elif name in STAGES:
            seen, known = before_leaky_relu(seen), before_leaky_relu(known)
        distances.append(factor * local_pod_distance(difference_of_squares(known, seen), config.spp_scales))
    return {"pod": adaptive_factor(step, config) * torch.stack(distances).mean()}


def adaptive_factor(step: Step, config: FeatureConfig) -> float:
    """sqrt(n / |C_t|) with n classes seen, the background counted; 1 where domains arrive and all classes are new."""
    return 1.0 if config.no_pod_schedule else math.sqrt(step.num_seen / step.num_new)


def _weighted_mean(distances: Sequence[Tensor], factors: tuple[float, ...]) -> Tensor:
    """Mean of the distances, all times the first factor but the last, which has the second."""
    usual, last = factors
    weighted = [usual * distance for distance in distances[:-1]] + [last * distances[-1]]
    return torch.stack(weighted).mean()
