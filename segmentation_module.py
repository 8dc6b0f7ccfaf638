"""The segmentation network, and how a step's student and teacher are made from the step before (SPEC 3, 4, 6)."""

import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import ModelConfig
from modules.deeplab import RATES, DeepLabHead
from modules.imagenet import load_imagenet_, mend
from modules.norm import Norm
from modules.parallel_conv import Form, ParallelConv
from modules.public_names import branch_form, from_public
from modules.resnet import ConvNorm, ResNet
from utils.errors import UserError


class SegOutput(NamedTuple):
    """What a forward pass returns, in training and in evaluation.

    logits (B, C, H, W) at the size of the input; features: layer1..layer4 (stage outputs after their last
    activation), pre_logits (B, D, h, w) and logits_small (B, C, h, w), the logits before upsampling.
    """

    logits: Tensor
    features: dict[str, Tensor]


class SegmentationNet(nn.Module):
    """DeepLabV3 with one 1x1 classifier per step; `classes_per_head` gives their outputs."""

    def __init__(self, body: ResNet, head: DeepLabHead, channels: int, classes_per_head: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.classifiers = nn.ModuleList(nn.Conv2d(channels, classes, 1) for classes in classes_per_head)
        self.layout = torch.channels_last

    def forward(self, images: Tensor) -> SegOutput:
        """Images (B, 3, H, W), normalised -> SegOutput."""
        features = self.body(images.contiguous(memory_format=self.layout))
        features["pre_logits"] = self.head(features["layer4"])
        small = torch.cat([classifier(features["pre_logits"]) for classifier in self.classifiers], dim=1)
        features["logits_small"] = small
        logits = F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return SegOutput(logits, features)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the part they belong to; the last classifier is the new one."""
        *old, new = self.classifiers
        return {
            "body": list(self.body.parameters()),
            "head": list(self.head.parameters()),
            "old_classifiers": [parameter for classifier in old for parameter in classifier.parameters()],
            "classifiers": list(new.parameters()),
        }

    def sites(self) -> list[ParallelConv]:
        """Every convolution that has, or had, two branches."""
        return [module for module in self.modules() if isinstance(module, ParallelConv)]

    @property
    def form(self) -> Form:
        """The form of all sites; see ParallelConv."""
        return self.sites()[0].form

    def to_form_(self, form: Form) -> None:
        """Give every site the parameters of `form`, ready to load weights."""
        for site in self.sites():
            site.to_form_(form)

    def freeze_merged_(self) -> None:
        """Merge both branches of every site and freeze the result beside the branch that goes on (SPEC 4)."""
        for site in self.sites():
            site.freeze_merged_()

    def merged(self) -> "SegmentationNet":
        """A frozen copy in eval mode with one convolution per site and the parameters of a plain DeepLabV3."""
        network = copy.deepcopy(self)
        for site in network.sites():
            site.merge_()
        return network.eval().requires_grad_(False)

    def for_inference(self) -> "SegmentationNet":
        """As `merged`, with the norms of the body folded into its convolutions: a teacher, or the network to test."""
        network = self.merged()
        for module in network.body.modules():
            if isinstance(module, ConvNorm):
                module.fold_()
        network.layout = torch.channels_last
        return network.to(memory_format=network.layout)

    def share_frozen_(self, student: "SegmentationNet") -> None:
        """Take over the frozen convolutions of `student` that equal one's own: a teacher's do when both networks were
        made from the same one, and then lie in memory once."""
        for own, other in zip(self.sites(), student.sites(), strict=True):
            if (own.form, other.form) == ("merged", "frozen"):
                same = torch.equal(own.conv.weight, other.conv.weight) and torch.equal(own.conv.bias, other.conv.bias)
                own.conv = other.conv if same else own.conv

    def place_(self, device: torch.device, dtype: torch.dtype) -> "SegmentationNet":
        """Move to `device` to be trained, weights and activations in the layout that is fast there. Returns itself.

        `dtype`: what the activations will have, under autocast another than that of the weights. Weights in another
        layout than their input would be copied at every call.
        """
        self.layout = self.body.stem.norm.memory_format(device.type, dtype)
        return self.to(device, memory_format=self.layout)


def build_network(config: ModelConfig, *, branches: int, classes_per_head: tuple[int, ...]) -> SegmentationNet:
    """A network with fresh weights: plain (`branches` 1) or dual (2)."""
    shared = {"norm": config.norm_act, "branches": branches, "drop_path": config.drop_path}
    body = ResNet(
        config.backbone,
        output_stride=config.output_stride,
        width=config.width,
        stem_activation=config.activates_stem(branches),
        **shared,
    )
    rates = RATES[config.output_stride]
    head = DeepLabHead(body.out_channels, config.head_channels, rates=rates, pooling=config.pooling, **shared)
    return SegmentationNet(body, head, config.head_channels, classes_per_head)


def load_network(
    config: ModelConfig, weights: dict[str, Tensor], *, branches: int, classes_per_head: tuple[int, ...]
) -> SegmentationNet:
    """The network that a checkpoint's `weights` (public names) describe, in the form that they have.

    Raises UserError if they are of another network: other branches, body, width or classes.
    """
    form = branch_form(weights)
    if (form in ("dual", "frozen")) != (branches == 2):
        found = "two-branch" if branches == 1 else "single-branch"
        raise UserError(f"it holds a {found} network, and --branches is {branches}: use the method that it is of")
    network = build_network(config, branches=branches, classes_per_head=classes_per_head)
    network.to_form_(form)
    state = from_public(weights)
    expected = network.state_dict()
    wrong = sorted(name for name in expected.keys() | state.keys() if _shape(expected, name) != _shape(state, name))
    if wrong:
        name = wrong[0]
        raise UserError(
            f"it is of another network: {len(wrong)} tensors differ, first {name}: the file has "
            f"{_shape(state, name)}, the network {_shape(expected, name)}; "
            "check --task, --step, --backbone, --width and --head_channels"
        )
    network.load_state_dict(state)
    return network


def build_first_student(config: ModelConfig, *, branches: int, classes_per_head: tuple[int, ...]) -> SegmentationNet:
    """The student of step 0: fresh weights, the body's from ImageNet unless `no_pretrained`.

    Logs where the body comes from. UserError where the file is missing or does not fit it to the last tensor.
    """
    network = build_network(config, branches=branches, classes_per_head=classes_per_head)
    if not config.no_pretrained:
        load_imagenet_(network.body, find_pretrained(config), backbone=config.backbone, branches=branches)
    return network


def build_student(
    previous: SegmentationNet, *, new_classes: int, init_weights: bool, init_bias: bool
) -> SegmentationNet:
    """The student of a step >= 1: the network of the step before and a classifier for `new_classes` (0: none).

    `init_weights`: the new weights are copies of the background's (channel 0); `init_bias`: both biases become the
    background's minus ln(new_classes + 1), as in MiB (SPEC 6). Otherwise they keep their random start.
    """
    student = copy.deepcopy(previous)
    if new_classes:
        background = student.classifiers[0]
        classifier = nn.Conv2d(background.in_channels, new_classes, 1)
        with torch.no_grad():
            if init_weights:
                classifier.weight.copy_(background.weight[:1].expand_as(classifier.weight))
            if init_bias:
                background.bias[0] -= math.log(new_classes + 1)
                classifier.bias.fill_(background.bias[0])
        student.classifiers.append(classifier)
    return student


def freeze_parts_(student: SegmentationNet, *, body: bool, norms: bool) -> None:
    """Keep the body (`--freeze`) or all norms (`--fix_bn`) as they are: no gradient, no new statistics."""
    if body:
        student.body.requires_grad_(False)
    for module in student.body.modules() if body and not norms else student.modules():
        if isinstance(module, Norm) and (body or norms):
            module.freeze_()


def find_pretrained(config: ModelConfig) -> Path:
    """The file of ImageNet weights that `config` means. Raises UserError if there is none."""
    if config.pretrained:
        if config.pretrained.is_file():
            return config.pretrained
        raise UserError(f"--pretrained {config.pretrained}: no such file")
    folder = Path("pretrained")
    usual = folder / f"{config.backbone}_{config.norm_act}.pth.tar"
    found = [usual] if usual.is_file() else sorted(folder.glob(f"{config.backbone}[-_.]*pth*"))
    whole = [path for path in found if path.suffix != ".part"]  # a download under way has that
    if not whole:
        raise UserError(
            f"no ImageNet weights for {config.backbone} in {folder}/: neither {usual.name} nor torchvision's "
            f"{config.backbone}-*.pth; {mend(config.backbone, config.width)}"
        )
    return whole[0]


def _shape(state: dict[str, Tensor], name: str) -> tuple[int, ...] | str:
    return tuple(state[name].shape) if name in state else "nothing"
