"""ImageNet weights into a body: all of a file or an error, and a line in the log that says what came (SPEC 3)."""

import re
from pathlib import Path

from torch import Tensor

from modules.public_names import PREFIX, State, body_from_pretrained, is_of_torchvision
from modules.resnet import BLOCKS, ResNet
from utils.checkpoint import load_checkpoint, load_weights
from utils.errors import UserError
from utils.log import log

USUAL_WIDTH = 64
PUBLISHED = {"resnet50": "resnet50_iabn_sync", "resnet101": "resnet101_iabn_sync", "resnet152": "resnet152_v2"}
"""What pretrained/download.sh brings for a body of the usual width."""
SCALES = {True: "|gamma| + eps", False: "gamma"}
"""How a norm scales that is absolute, as InPlace-ABN's, or is not, as torchvision's."""


def load_imagenet_(body: ResNet, path: Path, *, backbone: str, branches: int) -> None:
    """Give `body`, a `backbone` with `branches`, the weights in the file at `path`, and log how many came from where.

    UserError, and `body` as it was, unless the file holds each of its tensors in the right shape and nothing more,
    but for a classifier, which is left out.
    """
    width = body.stem.conv.out_channels
    absolute = body.stem.norm.absolute
    weights = _read(path)
    try:
        state = body_from_pretrained(weights, absolute=absolute, branches=branches)
    except UserError as error:
        raise UserError(f"{path}: {error}; {mend(backbone, width)}") from None
    if not state:
        raise UserError(f"{path} holds {'a classifier alone' if weights else 'nothing'}; {mend(backbone, width)}")
    if fault := _fault(_of_one_branch(body.state_dict()), _of_one_branch(state)):
        found = f"it holds {_described(state)}; {fault}"
        raise UserError(f"{path} does not fit --backbone {backbone} --width {width}: {found}; {mend(backbone, width)}")
    body.load_state_dict(state)
    log.info(_told(path, weights, state, absolute))


def mend(backbone: str, width: int) -> str:
    """What to do where there are no weights that fit a body."""
    fetch = f"fetch them with sh pretrained/download.sh {PUBLISHED.get(backbone)}, "
    published = width == USUAL_WIDTH and backbone in PUBLISHED
    return f"{fetch if published else ''}name a file with --pretrained, or train from scratch with --no_pretrained"


def _read(path: Path) -> State:
    """The weights in a file. UserError where it holds none, or those of a network of this program."""
    try:
        weights = load_weights(path)
    except UserError:
        if _is_of_a_step(path):
            raise _of_a_step(path) from None
        raise
    if any(name.removeprefix(PREFIX).startswith(("body.", "cls.")) for name in weights):
        raise _of_a_step(path)
    return weights


def _is_of_a_step(path: Path) -> bool:
    try:
        load_checkpoint(path, "")
    except UserError:
        return False
    return True


def _of_a_step(path: Path) -> UserError:
    return UserError(
        f"{path} holds a segmentation network, and the body starts from ImageNet weights: name such a file with "
        "--pretrained, or go on from a network with --step_ckpt"
    )


def _of_one_branch(state: State) -> State:
    """`state` without the second branch, which is a copy of the first."""
    return {name: tensor for name, tensor in state.items() if "_new." not in name}


def _fault(expected: State, state: State) -> str:
    """What keeps `state` from being loaded for `expected`; "" where nothing does."""
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    other = [name for name in sorted(expected.keys() & state.keys()) if expected[name].shape != state[name].shape]
    faults = [
        f"{len(names)} of the {len(whole)} tensors {verb}, first {names[0]}"
        for names, whole, verb in ((missing, expected, "needed are missing"), (extra, state, "in it are too many"))
        if names
    ]
    if other:
        shapes = f"{_shape(state[other[0]])}, not {_shape(expected[other[0]])}"
        faults.append(f"{len(other)} have another shape, first {other[0]}: {shapes}")
    return "; ".join(faults)


def _described(state: State) -> str:
    """The body that `state` is of, as far as it tells."""
    found = [match for name in state if (match := re.match(r"layer([1-4])\.(\d+)\.", name))]
    blocks = tuple(1 + max((int(m[2]) for m in found if int(m[1]) == stage), default=-1) for stage in (1, 2, 3, 4))
    name = next((name for name, of_stages in BLOCKS.items() if of_stages == blocks), "a body")
    stem = state.get("stem.conv.weight")
    of_width = "without a stem" if stem is None else f"of width {len(stem)}"
    return f"{name} with {'+'.join(map(str, blocks))} blocks {of_width}"


def _told(path: Path, weights: State, state: State, absolute: bool) -> str:
    torchvision = is_of_torchvision(weights)
    source = "torchvision" if torchvision else "InPlace-ABN"
    count = len(_of_one_branch(state))
    text = f"body: {count} of {count} tensors from {path} (ImageNet weights of {source}, norms scale by "
    text += SCALES[not torchvision] + ")"
    if absolute == torchvision:
        text += f", converted to scale by {SCALES[absolute]}, the function unchanged"
    if any("fc." in name for name in weights):
        text += ", classifier left out"
    return text


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
