"""ImageNet weights into a body: all of a file or an error, and a line in the log that says what came (SPEC 3)."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch
from filelock import FileLock
from torch import nn

from modules.authors_names import COUNTER, State, our_name, unwrapped
from modules.backbones import BACKBONES, resnet_name
from modules.norm import EPS, Norm
from modules.resnet import BasicBlock, Bottleneck
from utils.checkpoint import load_weights
from utils.errors import UserError, one_line
from utils.log import log

USUAL_WIDTH = 64
SCALES = {True: "|gamma| + eps", False: "gamma"}
"""How a norm scales that is absolute, as InPlace-ABN's, or is not, as torchvision's."""
OF_TORCHVISION = "layer1.0.conv1.weight"
"""A name that its ResNets, and timm's, have alone. Weights without it are taken for InPlaceABN's."""
TORCHVISION_STEM = {"conv1": "stem.conv", "bn1": "stem.norm"}
TORCHVISION_PARTS = {
    **{f"conv{i}": f"conv{i}.conv" for i in (1, 2, 3)},
    **{f"bn{i}": f"conv{i}.norm" for i in (1, 2, 3)},
    **{"downsample.0": "shortcut.conv", "downsample.1": "shortcut.norm"},
}


def load_imagenet_(body: nn.Module, path: Path, *, backbone: str, width: int) -> None:
    """Give `body`, a `backbone` of `width`, the weights in the file at `path`, and log how many came from where.

    UserError, and `body` as it was, unless the file holds each of its tensors in the right shape and nothing more,
    but for a classifier, which is left out. Second branches start from the same weights as the first.
    """
    absolute = next(module for module in body.modules() if isinstance(module, Norm)).absolute
    expected = body.state_dict()
    weights = unwrapped(load_weights(path))
    if any(name.startswith(("body.", "cls.")) for name in weights):
        raise UserError(
            f"{path} holds a segmentation network, and the body starts from ImageNet weights: name such a file with "
            "--pretrained, or train on from a network with --step_ckpt"
        )
    try:
        state = body_from_imagenet(weights, absolute=absolute)
    except UserError as error:
        raise UserError(f"{path}: {error}; {cure(backbone, width)}") from None
    if not state:
        raise UserError(f"{path} holds {'a classifier alone' if weights else 'nothing'}; {cure(backbone, width)}")
    if fault := _fault({name: tensor for name, tensor in expected.items() if "_new." not in name}, state):
        found = f"it holds {_described(state)}; {fault}"
        raise UserError(f"{path} does not fit --backbone {backbone} --width {width}: {found}; {cure(backbone, width)}")
    body.load_state_dict({name: state[name.replace("_new.", ".")] for name in expected})

    torchvision = OF_TORCHVISION in weights
    source = f"{'torchvision' if torchvision else 'InPlace-ABN'}'s, norms scale by {SCALES[not torchvision]}"
    text = f"body: {len(state)} of {len(state)} tensors from {path} (named as {source})"
    if absolute == torchvision:
        text += f", converted to scale by {SCALES[absolute]}, the function unchanged"
    log.info(text + (", classifier left out" if any("fc." in name for name in weights) else ""))


def body_from_imagenet(weights: State, *, absolute: bool) -> State:
    """A body's state dict, of one branch, from ImageNet weights: InPlaceABN's or torchvision's, classifier left out.

    `absolute`: the body scales by |gamma| + eps, as InPlaceABN's weights were trained, otherwise by gamma, as
    torchvision's were; the others are converted so that the function stays the same. Raises UserError for a name that
    is of no known part.
    """
    classifier = ("fc.", "classifier.")
    weights = {n: t for n, t in weights.items() if not n.startswith(classifier) and not n.endswith(COUNTER)}
    if OF_TORCHVISION in weights:
        state = {_name_of_torchvision(name): tensor for name, tensor in weights.items()}
        if absolute:
            _make_scales_positive(state)
        return state
    state = {our_name(f"body.{name}").removeprefix("body."): tensor for name, tensor in weights.items()}
    if not absolute:
        # A scale that is negative here, which |gamma| hides, would turn its channel over.
        state |= {name: t.abs() + EPS for name, t in state.items() if name.endswith("norm.weight")}
    return state


def _name_of_torchvision(name: str) -> str:
    part, _, entry = name.rpartition(".")
    block = re.fullmatch(r"(layer\d+\.\d+\.)(.+)", part)
    ours = TORCHVISION_PARTS.get(block[2]) if block else TORCHVISION_STEM.get(part)
    if ours is None:
        stem = " (it is of a deep stem, as timm's resnet26d has)" if re.match(r"conv1\.\d", name) else ""
        raise UserError(f"the weights hold {name!r}, which is no part of this network{stem}")
    return f"{block[1] if block else ''}{ours}.{entry}"


def torchvision_from_body(state: State, *, absolute: bool) -> State:
    """The inverse of `body_from_imagenet` for torchvision's names: weights of norms that scale by gamma."""
    stem, parts = ({ours: name for name, ours in names.items()} for names in (TORCHVISION_STEM, TORCHVISION_PARTS))
    found = {}
    for name, tensor in state.items():
        part, _, entry = name.rpartition(".")
        block = re.fullmatch(r"(layer\d+\.\d+\.)(.+)", part)
        scales = absolute and name.endswith("norm.weight")
        name_there = f"{block[1]}{parts[block[2]]}" if block else stem[part]
        found[f"{name_there}.{entry}"] = tensor.abs() + EPS if scales else tensor
    return found


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


def torchvision_file(name: str, backbone: str) -> Path:
    """The file of torchvision's weights `name`, as ResNet101_Weights.IMAGENET1K_V2, for a `backbone`.

    It lies where torchvision keeps its downloads, and is fetched unless it is there. UserError where there are no such
    weights for this body, or where they cannot be fetched.
    """
    from torchvision.models import get_model_weights  # seconds, which a run with a file need not wait

    typed = f"--pretrained torchvision:{name}"
    try:
        known = {f"{weight}": weight for weight in get_model_weights(backbone)}
    except ValueError:
        raise UserError(f"{typed}: there are none for --backbone {backbone}; {cure(backbone, USUAL_WIDTH)}") from None
    if name not in known:
        raise UserError(f"{typed}: for --backbone {backbone} choose from {', '.join(known)}")
    folder = Path(torch.hub.get_dir(), "checkpoints")
    path = folder / PurePosixPath(urlparse(known[name].url).path).name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # the processes of a run all want it
        if not path.is_file():
            try:
                known[name].get_state_dict(model_dir=str(folder), check_hash=True, weights_only=True)
            except (OSError, RuntimeError) as error:
                advice = f"save {known[name].url} as {path}, or name a file with --pretrained"
                raise UserError(f"{typed} cannot be fetched ({one_line(error)}); {advice}") from None
    return path


def cure(backbone: str, width: int) -> str:
    """What to do where there are no weights that fit a body."""
    pretrained = BACKBONES[backbone].pretrained if width == USUAL_WIDTH else ""
    fetch = f"fetch them with sh pretrained/download.sh {pretrained}, " if pretrained else ""
    return f"{fetch}name a file with --pretrained, or train from scratch with --no_pretrained"


def _fault(expected: State, state: State) -> str:
    """What keeps `state` from being loaded for `expected`; "" where nothing does."""
    faults = []
    for one, other, verb in ((expected, state, "needed are missing"), (state, expected, "in it are too many")):
        if names := sorted(one.keys() - other.keys()):
            faults.append(f"{len(names)} of the {len(one)} tensors {verb}, first {names[0]}")
    shapes = {n: (tuple(t.shape), tuple(expected[n].shape)) for n, t in sorted(state.items()) if n in expected}
    if differ := {name: both for name, both in shapes.items() if both[0] != both[1]}:
        name, (found, wanted) = next(iter(differ.items()))
        faults.append(f"{len(differ)} have another shape, first {name}: {found}, not {wanted}")
    return "; ".join(faults)


def _described(state: State) -> str:
    """The body that `state` is of, as far as it tells."""
    found = [match for name in state if (match := re.match(r"layer([1-4])\.(\d+)\.", name))]
    blocks = tuple(1 + max((int(m[2]) for m in found if int(m[1]) == stage), default=-1) for stage in (1, 2, 3, 4))
    block = Bottleneck if any(".conv3." in name for name in state) else BasicBlock
    name = resnet_name(block, blocks) or "a body"
    stem = state.get("stem.conv.weight")
    of_width = "without a stem" if stem is None else f"of width {len(stem)}"
    return f"{name} with {'+'.join(map(str, blocks))} blocks {of_width}"
