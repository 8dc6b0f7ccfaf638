"""Names of weights: ours, the authors' (also PLOP's and MiB's), and those of ImageNet bodies (SPEC 3).

Checkpoints on disk carry the authors' names, so that files go both ways between the code bases. Where we have a bare
convolution (frozen or merged), they have a convolution with bias before a norm that is the identity; where we have a
norm per atrous convolution, they have one over the channels of all four. Pure functions on state dicts.
"""

import re

import torch
from torch import Tensor

from modules.norm import EPS
from modules.parallel_conv import Form
from modules.resnet import BLOCKS
from utils.errors import UserError

State = dict[str, Tensor]

PREFIX = "module."
IDENTITY_NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
NUM_ATROUS = 4
UNUSED = "num_batches_tracked"

PARTS = {
    "body.stem.conv": "body.mod1.conv1",
    "body.stem.norm": "body.mod1.bn1",
    "head.reduce": "head.red_conv",
    "head.pool_conv": "head.global_pooling_conv",
    "head.pool_norm": "head.global_pooling_bn",
    "head.pool_reduce": "head.pool_red_conv",
    "head.norm": "head.red_bn",
}
BLOCK_PARTS = {
    "conv1.conv": "convs.conv1",
    "conv1.norm": "convs.bn1",
    "conv2.conv": "convs.conv2",
    "conv2.norm": "convs.bn2",
    "conv2.conv_new": "convs.conv2_new",
    "conv2.norm_new": "convs.bn2_new",
    "conv3.conv": "convs.conv3",
    "conv3.norm": "convs.bn3",
    "shortcut.conv": "proj_conv",
    "shortcut.norm": "proj_bn",
}
ATROUS_CONVS = {"conv": "map_convs", "conv_new": "map_convs_new"}
ATROUS_NORMS = {"norm": "map_bn", "norm_new": "map_bn_new"}
PARTS_BACK = {theirs: ours for ours, theirs in PARTS.items()}
BLOCK_PARTS_BACK = {theirs: ours for ours, theirs in BLOCK_PARTS.items()}
ATROUS_CONVS_BACK = {theirs: ours for ours, theirs in ATROUS_CONVS.items()}

TORCHVISION_BLOCK_PARTS = {
    **{f"conv{i}": f"conv{i}.conv" for i in (1, 2, 3)},
    **{f"bn{i}": f"conv{i}.norm" for i in (1, 2, 3)},
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}


def branch_form(public: State) -> Form:
    """The form of the convolutions of a network whose weights have the authors' names, with or without prefix."""
    names = {name.removeprefix(PREFIX) for name in public}
    new = "head.map_convs_new.0.weight" in names
    bare = "head.map_convs.0.bias" in names
    return ("frozen" if bare else "dual") if new else ("merged" if bare else "plain")


def heads_of(public: State) -> tuple[int, ...]:
    """Outputs of each classifier, in order."""
    biases = {
        int(match[1]): tensor.numel()
        for name, tensor in public.items()
        if (match := re.fullmatch(r"(?:module\.)?cls\.(\d+)\.bias", name))
    }
    return tuple(biases[step] for step in sorted(biases))


def sizes_of(public: State) -> dict[str, str | int]:
    """The options of ModelConfig that the shapes of the weights tell: backbone, width and head_channels.

    Raises UserError for the weights of anything else.
    """
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in public.items()}
    blocks = [0] * 4
    for name in weights:
        if match := re.match(r"body\.mod([2-5])\.block(\d+)\.", name):
            stage = int(match[1]) - 2
            blocks[stage] = max(blocks[stage], int(match[2]))
    backbone = next((name for name, of_stages in BLOCKS.items() if list(of_stages) == blocks), None)
    kernels = [weights.get(name) for name in ("body.mod1.conv1.weight", "head.red_conv.weight")]
    if backbone is None or not heads_of(public) or any(kernel is None or kernel.dim() != 4 for kernel in kernels):
        raise UserError("its weights are not of a DeepLabV3 with a ResNet body and a classifier a step")
    return {"backbone": backbone, "width": len(kernels[0]), "head_channels": len(kernels[1])}


def to_public(state: State) -> State:
    """Our state dict under the authors' names, every key prefixed `module.`."""
    public = {}
    for name, tensor in state.items():
        if not _is_atrous_norm(name):
            public[_public_name(name)] = tensor
        if name.endswith(".conv2.conv.bias"):
            public.update(_identity_norm(_public_name(name).replace("conv2.bias", "bn2"), tensor))
    for ours, theirs in ATROUS_NORMS.items():
        for entry in IDENTITY_NORM:
            parts = [state.get(f"head.atrous.{i}.{ours}.{entry}") for i in range(NUM_ATROUS)]
            if parts[0] is not None:
                public[f"head.{theirs}.{entry}"] = torch.cat(parts)
    if "head.atrous.0.conv.bias" in state:
        biases = [state[f"head.atrous.{i}.conv.bias"] for i in range(NUM_ATROUS)]
        public.update(_identity_norm("head.map_bn", torch.cat(biases)))
    return {PREFIX + name: tensor for name, tensor in public.items()}


def from_public(public: State) -> State:
    """The inverse of `to_public`; the prefix may be missing.

    Raises UserError for a name that is of no known part, or a merged convolution whose norm is not the identity.
    """
    bare = branch_form(public) in ("frozen", "merged")
    state = {}
    for prefixed, tensor in public.items():
        name = prefixed.removeprefix(PREFIX)
        if name.endswith(UNUSED):
            continue
        norm, _, entry = name.rpartition(".")
        if bare and entry in IDENTITY_NORM and (norm == "head.map_bn" or norm.endswith(".convs.bn2")):
            if not torch.all(tensor == IDENTITY_NORM[entry]):
                raise UserError(f"the checkpoint has a merged convolution, but its norm {norm} is not the identity")
        elif norm in ("head.map_bn", "head.map_bn_new"):
            ours = "norm_new" if norm.endswith("_new") else "norm"
            for i, part in enumerate(tensor.chunk(NUM_ATROUS)):
                state[f"head.atrous.{i}.{ours}.{entry}"] = part.clone()
        else:
            state[_our_name(name)] = tensor
    return state


def body_from_pretrained(weights: State, *, absolute: bool, branches: int) -> State:
    """Our body's state dict from ImageNet weights: of InPlaceABN's or of torchvision's ResNet, classifier left out.

    `absolute`: the body scales by |gamma| + eps, as InPlaceABN's weights were trained, otherwise by gamma, as
    torchvision's were; the others are turned so that the function stays the same. With two `branches` both start from
    the same weights. Raises UserError for a name that is of no known part.
    """
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    if is_of_torchvision(weights):
        state = {_our_name_of_torchvision(name): t for name, t in weights.items() if not _of_classifier(name)}
        if absolute:
            _make_scales_positive(state)
    else:
        kept = {f"body.{name}": tensor for name, tensor in weights.items() if not _of_classifier(name)}
        state = {_our_name(name).removeprefix("body."): tensor for name, tensor in kept.items()}
        if not absolute:
            # A scale that is negative here, which |gamma| hides, would turn its channel over.
            state |= {name: t.abs() + EPS for name, t in state.items() if name.endswith("norm.weight")}
    if branches == 2:
        for name in [name for name in state if ".conv2." in name]:
            twin = name.replace(".conv2.conv.", ".conv2.conv_new.").replace(".conv2.norm.", ".conv2.norm_new.")
            state[twin] = state[name].clone()
    return state


def is_of_torchvision(weights: State) -> bool:
    """Whether weights of an ImageNet body have torchvision's names; all others are taken for InPlaceABN's."""
    return any(name.removeprefix(PREFIX) == "layer1.0.conv1.weight" for name in weights)


def _public_name(name: str) -> str:
    part, _, entry = name.rpartition(".")
    if match := re.fullmatch(r"body\.layer(\d+)\.(\d+)\.(.+)", part):
        return f"body.mod{int(match[1]) + 1}.block{int(match[2]) + 1}.{BLOCK_PARTS[match[3]]}.{entry}"
    if match := re.fullmatch(r"head\.atrous\.(\d+)\.(\w+)", part):
        return f"head.{ATROUS_CONVS[match[2]]}.{match[1]}.{entry}"
    if match := re.fullmatch(r"classifiers\.(\d+)", part):
        return f"cls.{match[1]}.{entry}"
    return f"{PARTS[part]}.{entry}"


def _our_name(name: str) -> str:
    part, _, entry = name.rpartition(".")
    try:
        if match := re.fullmatch(r"body\.mod(\d+)\.block(\d+)\.(.+)", part):
            return f"body.layer{int(match[1]) - 1}.{int(match[2]) - 1}.{BLOCK_PARTS_BACK[match[3]]}.{entry}"
        if match := re.fullmatch(r"head\.(map_convs(?:_new)?)\.(\d+)", part):
            return f"head.atrous.{match[2]}.{ATROUS_CONVS_BACK[match[1]]}.{entry}"
        if match := re.fullmatch(r"cls\.(\d+)", part):
            return f"classifiers.{match[1]}.{entry}"
        return f"{PARTS_BACK[part]}.{entry}"
    except KeyError:
        raise _unknown(name) from None


def _our_name_of_torchvision(name: str) -> str:
    part, _, entry = name.rpartition(".")
    try:
        if match := re.fullmatch(r"(layer\d+\.\d+)\.(.+)", part):
            return f"{match[1]}.{TORCHVISION_BLOCK_PARTS[match[2]]}.{entry}"
        return {"conv1": "stem.conv", "bn1": "stem.norm"}[part] + f".{entry}"
    except KeyError:
        raise _unknown(name) from None


def _unknown(name: str) -> UserError:
    return UserError(f"the weights hold {name!r}, which is no part of this network")


def _make_scales_positive(state: State) -> None:
    """Turn norms with scale gamma into norms with scale |gamma| + eps, the function unchanged.

    gamma (x - mean) = |gamma| (s x - s mean) with s = sign(gamma): s goes into the convolution before the norm.
    """
    for name in [name for name in state if name.endswith("norm.weight")]:
        norm = name.removesuffix(".weight")
        conv = norm.removesuffix("norm") + "conv.weight"
        sign = torch.where(state[name] < 0, -1.0, 1.0)
        state[name] = (state[name].abs() - EPS).clamp(min=0.0)
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] * sign
        state[conv] = state[conv] * sign[:, None, None, None]


def _identity_norm(name: str, like: Tensor) -> State:
    return {f"{name}.{entry}": torch.full_like(like, value) for entry, value in IDENTITY_NORM.items()}


def _is_atrous_norm(name: str) -> bool:
    return bool(re.fullmatch(r"head\.atrous\.\d+\.norm(_new)?\.\w+", name))


def _of_classifier(name: str) -> bool:
    return name.startswith(("fc.", "classifier.")) or name.endswith(UNUSED)
