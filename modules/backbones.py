"""The bodies by name. A new one is a file beside this one and a line in BACKBONES (docs/ARCHITECTURE.md)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from modules.resnet import BasicBlock, Bottleneck, ResNet


class Backbone(NamedTuple):
    """How to build a body, and where its ImageNet weights come from.

    `build(output_stride=, width=, norm=, branches=, drop_path=, stem_activation=)` gives a module that maps images
    (B, 3, H, W) to {"layer1", ..., "layer4"}, each map deeper and at most as large as the one before, and whose
    `out_channels` are those of layer4. Its ParallelConv are what may have two branches.
    `pretrained`: the name of its weights for pretrained/download.sh; "" where none are published.
    """

    build: Callable[..., nn.Module]
    pretrained: str = ""


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(partial(ResNet, BasicBlock, (2, 2, 2, 2)), "resnet18_v1"),
    "resnet34": Backbone(partial(ResNet, BasicBlock, (3, 4, 6, 3)), "resnet34_v1"),
    "resnet14": Backbone(partial(ResNet, Bottleneck, (1, 1, 1, 1))),  # the smallest: for tests and first trials
    "resnet26": Backbone(partial(ResNet, Bottleneck, (2, 2, 2, 2))),
    "resnet50": Backbone(partial(ResNet, Bottleneck, (3, 4, 6, 3)), "resnet50_iabn_sync"),
    "resnet101": Backbone(partial(ResNet, Bottleneck, (3, 4, 23, 3)), "resnet101_iabn_sync"),
    "resnet152": Backbone(partial(ResNet, Bottleneck, (3, 8, 36, 3)), "resnet152_v2"),
}


def resnet_name(block: type[nn.Module], depths: tuple[int, ...]) -> str | None:
    """The ResNet of the table that has such blocks, so many in each stage; None where there is none."""
    shape = block, depths
    return next((name for name, body in BACKBONES.items() if getattr(body.build, "args", None) == shape), None)
