"""The network, and how a step's student and teacher are made from the step before (SPEC 3, 4, 6)."""

import copy
import re
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import ModelConfig
from modules.backbones import BACKBONES, resnet_name
from modules.deeplab import HEADS, RATES, DeepLabHead, PoolHead
from modules.imagenet import cure, load_imagenet_, torchvision_file
from modules.norm import Norm
from modules.parallel_conv import Form, ParallelConv
from modules.random_features import RandomFeatures
from modules.resnet import BasicBlock, Bottleneck, ConvNorm
from utils.errors import UserError

State = dict[str, Tensor]


class SegOutput(NamedTuple):
    """What a forward pass returns, in training and in evaluation.

    logits (B, C, H, W) at the size of the input, or, of whole images, (B, C, 1, 1); features: layer1..layer4 (stage
    outputs after their last activation), pre_logits (B, D, h, w) and logits_small (B, C, h, w), the logits before
    upsampling. weight (C, D, 1, 1) and bias (C,): of the classifiers, those of all steps in order. D is another one
    where they see random features of pre_logits. With a classifier of the unknown, features have `unknown` (B, 1, h,
    w), its small logit; and in the form for inference the logits are logarithms of sigmoids, in which unknown counts as
    background.
    """

    logits: Tensor
    features: dict[str, Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None


class SegmentationNet(nn.Module):
    """DeepLabV3, or a classification network, with one classifier per step, 1x1 with most heads; `classes_per_head`
    gives their outputs.

    The classifiers see what the head gives, or, after `expand_`, random features of it.
    """

    def __init__(self, body: nn.Module, head: DeepLabHead | PoolHead, classes_per_head: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.expand: nn.Module = nn.Identity()
        self.classifiers = nn.ModuleList(
            head.classifier(classes, is_first=step == 0) for step, classes in enumerate(classes_per_head)
        )
        self.unknown: nn.Module | None = None
        self.joins_unknown = False
        self.layout = torch.channels_last

    def forward(self, images: Tensor) -> SegOutput:
        """Images (B, 3, H, W), normalised -> SegOutput."""
        features = self.body(images.contiguous(memory_format=self.layout))
        features["pre_logits"] = self.head(features["layer4"])
        seen = self.expand(features["pre_logits"])
        small = torch.cat([classifier(seen) for classifier in self.classifiers], dim=1)
        features["logits_small"] = small
        if self.unknown is not None:
            features["unknown"] = self.unknown(seen)
            if self.joins_unknown:
                small = torch.cat([features["unknown"], small], dim=1)
        if isinstance(self.head, PoolHead):
            logits = small
        else:
            logits = F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
        if self.joins_unknown:
            logits = _joined(logits)
        weight, bias = (torch.cat([getattr(own, name) for own in self.classifiers]) for name in ("weight", "bias"))
        return SegOutput(logits, features, weight, bias)

    def fix_background_(self) -> None:
        """Keep the logit of the background at 0 from now on, whatever trains: sigmoid classifiers have no background.

        With it the largest logit is that of the background where no class has one above 0, a sigmoid above 1/2.
        """
        for parameter in self.classifiers[0].parameters():
            with torch.no_grad():
                parameter[0] = 0
            if parameter.requires_grad:
                parameter.register_hook(_without_background)

    def add_unknown_(self) -> None:
        """Have a classifier for what is no background, and no class yet (SSUL, METHODS 13). Idempotent."""
        if self.unknown is None:
            self.unknown = self.new_classifier(1).to(self.classifiers[0].weight)

    def new_classifier(self, classes: int) -> nn.Module:
        """A fresh one, of what all see."""
        if isinstance(self.expand, RandomFeatures):
            return nn.Conv2d(self.classifiers[0].weight.shape[1], classes, 1)
        return self.head.classifier(classes)

    def expand_(self, features: int) -> None:
        """Let the classifiers see so many random features of what the head gives; they start anew. Idempotent."""
        if isinstance(self.expand, RandomFeatures):
            return
        like, outputs = self.classifiers[0].weight, [classifier.out_channels for classifier in self.classifiers]
        self.expand = RandomFeatures(like.shape[1], features).to(like)
        self.classifiers = nn.ModuleList(nn.Conv2d(features, classes, 1) for classes in outputs).to(like)

    def sites(self) -> list[ParallelConv]:
        """Every convolution that has, or had, two branches."""
        return [module for module in self.modules() if isinstance(module, ParallelConv)]

    @property
    def form(self) -> Form:
        """The form of all sites; see ParallelConv."""
        return self.sites()[0].form

    def freeze_merged_(self, previous: "SegmentationNet") -> None:
        """Freeze at every site what `previous`, the network of the step before, learnt in both branches, as one
        convolution beside the own new branch, which trains (SPEC 4). Idempotent."""
        for site, before in zip(self.sites(), previous.sites(), strict=True):
            site.freeze_merged_(before)

    def merged(self) -> "SegmentationNet":
        """A frozen copy in eval mode with one convolution per site and the parameters of a plain DeepLabV3."""
        return copy.deepcopy(self)._merge_()

    def for_inference(self) -> "SegmentationNet":
        """As `merged`, with the norms of the body folded into its convolutions: a teacher, or the network to test."""
        return copy.deepcopy(self).for_inference_()

    def _merge_(self) -> "SegmentationNet":
        for site in self.sites():
            site.merge_()
        return self.eval().requires_grad_(False)

    def for_inference_(self) -> "SegmentationNet":
        """Become what `for_inference` gives, without a copy. Returns itself."""
        self._merge_()
        for module in self.body.modules():
            if isinstance(module, ConvNorm):
                module.fold_()
        self.joins_unknown = self.unknown is not None
        self.layout = torch.channels_last
        return self.to(memory_format=self.layout)

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
        norm = next(module for module in self.modules() if isinstance(module, Norm))
        self.layout = norm.memory_format(device.type, dtype)
        return self.to(device, memory_format=self.layout)


def build_network(config: ModelConfig, *, branches: int, classes_per_head: tuple[int, ...]) -> SegmentationNet:
    """A network with fresh weights: plain (`branches` 1) or dual (2). UserError for a body that is not in the table."""
    if config.backbone not in BACKBONES:
        raise UserError(f"--backbone {config.backbone}: choose from {', '.join(BACKBONES)}")
    shared = {"norm": config.norm_act, "branches": branches, "drop_path": config.drop_path}
    body = BACKBONES[config.backbone].build(
        output_stride=config.output_stride,
        width=config.width,
        stem_activation=config.activates_stem(branches),
        **shared,
    )
    kind, rates = HEADS[config.head], RATES.get(config.output_stride)
    head = kind(body.out_channels, config.head_channels, rates=rates, pooling=config.pooling, **shared)
    return SegmentationNet(body, head, classes_per_head)


def load_network(
    config: ModelConfig, weights: State, *, branches: int, classes_per_head: tuple[int, ...]
) -> SegmentationNet:
    """The network that a checkpoint's `weights` describe, in the form that they have.

    Raises UserError if they are of another network: other branches, body, width or classes.
    """
    form = form_of(weights)
    if (form in ("dual", "frozen")) != (branches == 2):
        found = "two-branch" if branches == 1 else "single-branch"
        raise UserError(f"it holds a {found} network, and --branches is {branches}: use the method that it is of")
    network = build_network(config, branches=branches, classes_per_head=classes_per_head)
    for site in network.sites():
        site.to_form_(form)
    if features := features_of(weights):
        network.expand_(features)
    if any(name.startswith("unknown.") for name in weights):
        network.add_unknown_()
    expected = network.state_dict()
    wrong = sorted(name for name in expected.keys() | weights.keys() if _shape(expected, name) != _shape(weights, name))
    if wrong:
        name = wrong[0]
        raise UserError(
            f"it is of another network: {len(wrong)} tensors differ, first {name}: the file has "
            f"{_shape(weights, name)}, the network {_shape(expected, name)}; "
            "check --task, --step, --backbone, --width, --head and --head_channels"
        )
    network.load_state_dict(weights)
    return network


def build_first_student(config: ModelConfig, *, branches: int, classes_per_head: tuple[int, ...]) -> SegmentationNet:
    """The student of step 0: fresh weights, the body's from ImageNet unless `no_pretrained`.

    Logs where the body comes from. UserError where the file is missing or does not fit it to the last tensor.
    """
    network = build_network(config, branches=branches, classes_per_head=classes_per_head)
    if not config.no_pretrained:
        load_imagenet_(network.body, find_pretrained(config), backbone=config.backbone, width=config.width)
    return network


def build_student(previous: SegmentationNet, *, new_classes: int) -> SegmentationNet:
    """The student of a step >= 1: a copy of the network before, and a classifier for `new_classes` (0: none)."""
    student = copy.deepcopy(previous)
    if new_classes:
        student.classifiers.append(student.new_classifier(new_classes))
    return student


def form_of(weights: State) -> Form:
    """The form of the convolutions of a network with these weights; see ParallelConv."""
    new = any(name.endswith(".conv_new.weight") for name in weights)
    bare = any(re.search(r"(\.conv2|atrous\.0)\.conv\.bias$", name) for name in weights)
    return ("frozen" if bare else "dual") if new else ("merged" if bare else "plain")


def heads_of(weights: State) -> tuple[int, ...]:
    """Outputs of each classifier, in order."""
    found: dict[int, int] = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"classifiers\.(\d+)\.(parts\.\d+\.last\.)?bias", name):
            found[int(match[1])] = found.get(int(match[1]), 0) + tensor.numel()
    return tuple(found[step] for step in sorted(found))


def features_of(weights: State) -> int:
    """Random features that the classifiers see; 0 where they see what the head gives."""
    weight = weights.get("expand.weight")
    return len(weight) if weight is not None and weight.dim() == 4 else 0


def sizes_of(weights: State) -> dict[str, str | int]:
    """The options of ModelConfig that the shapes of the weights tell: backbone, width, head and head_channels.

    Raises UserError for the weights of anything else than a ResNet body with our head.
    """
    blocks = {(match[1], match[2]) for name in weights if (match := re.match(r"body\.layer([1-4])\.(\d+)\.", name))}
    depths = tuple(sum(stage == layer for layer, _ in blocks) for stage in "1234")
    kind = Bottleneck if "body.layer1.0.conv3.conv.weight" in weights else BasicBlock
    backbone = resnet_name(kind, depths)
    kernels = [weights.get(name) for name in ("body.stem.conv.weight", "head.reduce.weight")]
    if backbone is None or not heads_of(weights) or any(kernel is None or kernel.dim() != 4 for kernel in kernels):
        raise UserError("its weights are not of a DeepLabV3 with a ResNet body and a classifier a step")
    own = "steps" if "classifiers.0.parts.0.conv.weight" in weights else "sum"
    head = "concat" if "head.last.weight" in weights else own
    return {"backbone": backbone, "width": len(kernels[0]), "head": head, "head_channels": len(kernels[1])}


def freeze_parts_(student: SegmentationNet, *, body: bool, norms: bool) -> None:
    """Keep the body (`--freeze`) or all norms (`--fix_bn`) as they are: no gradient, no new statistics."""
    if body:
        student.body.requires_grad_(False)
    for module in student.body.modules() if body and not norms else student.modules():
        if isinstance(module, Norm) and (body or norms):
            module.freeze_()


def require_two_values(config: ModelConfig, batch_size: int, world_size: int) -> None:
    """A norm in training needs two values per channel, and the image pooling leaves it one per image. UserError."""
    images = batch_size * (world_size if config.norm_act == "iabn_sync" else 1)
    if images < 2 and not config.fix_bn:
        raise UserError(
            f"--batch_size {batch_size}: a norm in training needs two images or more; raise it, or keep all norms as "
            "they are with --fix_bn"
        )


def find_pretrained(config: ModelConfig) -> Path:
    """The file of ImageNet weights that `config` means; torchvision's are fetched where they are named.

    Raises UserError if there is none.
    """
    source, _, name = str(config.pretrained or "").partition(":")
    if source == "torchvision":
        return torchvision_file(name, config.backbone)
    if config.pretrained:
        if config.pretrained.is_file():
            return config.pretrained
        raise UserError(f"--pretrained {config.pretrained}: no such file")
    folder = Path("pretrained")
    usual = folder / f"{config.backbone}_{config.norm_act}.pth.tar"
    ours = folder / f"{config.backbone}w{config.width}.safetensors"
    others = sorted(folder.glob(f"{config.backbone}[-_.]*pth*"))
    whole = [
        path for path in (usual, ours, *others) if path.is_file() and path.suffix != ".part"
    ]  # a download under way
    if not whole:
        raise UserError(
            f"no weights for {config.backbone} of width {config.width} in {folder}/: neither {usual.name}, {ours.name} "
            f"nor torchvision's {config.backbone}-*.pth; {cure(config.backbone, config.width)}"
        )
    return whole[0]


def _joined(logits: Tensor) -> Tensor:
    """Logits of the unknown, the background and the classes to the logarithms of their sigmoids; that of the background
    is of its sum with the unknown (METHODS2 27.4)."""
    # All in softplus: an exported network takes the logarithm of a rounded sigmoid else.
    scores = -F.softplus(-logits)
    unknown, background = scores[:, :1], scores[:, 1:2]
    joined = torch.maximum(unknown, background) + F.softplus(-(unknown - background).abs())
    return torch.cat([joined, scores[:, 2:]], dim=1)


def _without_background(gradient: Tensor) -> Tensor:
    """The gradient of a classifier without that of its first class. A new tensor: this one may be another's, too."""
    return torch.cat([torch.zeros_like(gradient[:1]), gradient[1:]])


def _shape(state: State, name: str) -> tuple[int, ...] | str:
    return tuple(state[name].shape) if name in state else "nothing"
