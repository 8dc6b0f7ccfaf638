"""Names of weights in the code of RCIL's authors, of PLOP and of MiB, from and to ours (SPEC 3).

Where we have a bare convolution (frozen or merged), they have a convolution with bias before a norm that is the
identity. Where we have a norm per atrous convolution, they have one over the channels of all four. Pure functions on
state dicts. Nothing else in the project knows these names.
"""

import re

import torch
from torch import Tensor

from utils.errors import UserError

State = dict[str, Tensor]

PREFIX = "module."
WRAPPERS = (PREFIX, "_orig_mod.", "model.", "network.", "net.")
"""What DistributedDataParallel, torch.compile and trainers of other code put before every name."""
IDENTITY_NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
NUM_ATROUS = 4
COUNTER = "num_batches_tracked"
"""Of torch's own norms, which nothing reads."""

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
OUR_PARTS, OUR_BLOCK_PARTS, OUR_ATROUS_CONVS = (
    {authors: ours for ours, authors in table.items()} for table in (PARTS, BLOCK_PARTS, ATROUS_CONVS)
)


def to_authors(state: State) -> State:
    """Our state dict under the authors' names, every key prefixed `module.`.

    Raises UserError for a body whose blocks are no bottlenecks, for --head concat, and for classifiers of random
    features: the authors' code has none of these.
    """
    if any(name.startswith("unknown.") for name in state):
        raise UserError("the authors' code has no classifier of the unknown")
    if "head.last.weight" in state or "classifiers.0.parts.0.conv.weight" in state:
        raise UserError("the authors' code has no head of this kind, --head concat or steps")
    if "expand.weight" in state:
        raise UserError("the authors' code has no classifiers of random features")
    if not any(".conv3." in name for name in state):
        raise UserError("the authors' code has no body of this kind, only ResNet-50, 101, 152 and the like")
    authors = {}
    for name, tensor in state.items():
        if authors_tensor(name) == name:  # no norm after an atrous convolution
            authors[_authors_name(name)] = tensor
        if name.endswith(".conv2.conv.bias"):
            authors.update(_identity_norm(_authors_name(name).replace("conv2.bias", "bn2"), tensor))
    for ours, norm in ATROUS_NORMS.items():
        for entry in IDENTITY_NORM:
            parts = [state.get(f"head.atrous.{i}.{ours}.{entry}") for i in range(NUM_ATROUS)]
            if parts[0] is not None:
                authors[f"head.{norm}.{entry}"] = torch.cat(parts)
    if "head.atrous.0.conv.bias" in state:
        biases = [state[f"head.atrous.{i}.conv.bias"] for i in range(NUM_ATROUS)]
        authors.update(_identity_norm("head.map_bn", torch.cat(biases)))
    return {PREFIX + name: tensor for name, tensor in authors.items()}


def from_authors(authors: State) -> State:
    """The inverse of `to_authors`; the prefix may be missing or others before it, and counters of batches are left out.

    Raises UserError for a name that is of no known part, or a merged convolution whose norm is not the identity.
    """
    authors = unwrapped(authors)
    bare = "head.map_convs.0.bias" in authors
    state = {}
    for name, tensor in authors.items():
        if name.endswith(COUNTER):
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
            state[our_name(name)] = tensor
    return state


def unwrapped(weights: State) -> State:
    """The same weights without what wrappers put before each name, one in another as they may be."""
    while weights and (prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in weights)), None)):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}


def authors_tensor(name: str) -> str:
    """The tensor of the authors' network that our weight `name` is, or is a part of.

    The four norms after the atrous convolutions are one there: a rule about a whole tensor, as its largest value, holds
    over all four.
    """
    if match := re.fullmatch(r"head\.atrous\.\d+\.(norm(?:_new)?)\.(\w+)", name):
        return f"head.{ATROUS_NORMS[match[1]]}.{match[2]}"
    return name


def our_name(name: str) -> str:
    """Our name of the weight that the authors call `name`, without prefix. UserError where there is none."""
    part, _, entry = name.rpartition(".")
    try:
        if match := re.fullmatch(r"body\.mod(\d+)\.block(\d+)\.(.+)", part):
            return f"body.layer{int(match[1]) - 1}.{int(match[2]) - 1}.{OUR_BLOCK_PARTS[match[3]]}.{entry}"
        if match := re.fullmatch(r"head\.(map_convs(?:_new)?)\.(\d+)", part):
            return f"head.atrous.{match[2]}.{OUR_ATROUS_CONVS[match[1]]}.{entry}"
        if match := re.fullmatch(r"cls\.(\d+)", part):
            return f"classifiers.{match[1]}.{entry}"
        return f"{OUR_PARTS[part]}.{entry}"
    except KeyError:
        raise UserError(f"the weights hold {name!r}, which is no part of this network") from None


def _authors_name(name: str) -> str:
    part, _, entry = name.rpartition(".")
    if match := re.fullmatch(r"body\.layer(\d+)\.(\d+)\.(.+)", part):
        return f"body.mod{int(match[1]) + 1}.block{int(match[2]) + 1}.{BLOCK_PARTS[match[3]]}.{entry}"
    if match := re.fullmatch(r"head\.atrous\.(\d+)\.(\w+)", part):
        return f"head.{ATROUS_CONVS[match[2]]}.{match[1]}.{entry}"
    if match := re.fullmatch(r"classifiers\.(\d+)", part):
        return f"cls.{match[1]}.{entry}"
    return f"{PARTS[part]}.{entry}"


def _identity_norm(name: str, like: Tensor) -> State:
    return {f"{name}.{entry}": torch.full_like(like, value) for entry, value in IDENTITY_NORM.items()}
