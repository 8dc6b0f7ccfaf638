"""The body of a trained network as a file of weights to start from: torchvision's names, without classifier.

    python tools/body.py --ckpt checkpoints/step/offline-imagefolder_mine_0.pth --out pretrained/mine.pth
    python run.py --pretrained pretrained/mine.pth --backbone resnet18 ...

A network of two branches is merged, exactly, and merged convolutions have no norms. To train on it needs some, which
normalise by what it computes on pictures: --images DIR. Their function is the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset.auxiliary import find_pictures
from dataset.reading import read_image
from dataset.transform import centre_image, normalise
from modules.imagenet import torchvision_from_body
from modules.norm import EPS, Norm
from modules.parallel_conv import ParallelConv
from segmentation_module import SegmentationNet
from trained import add_checkpoint_options, load_named
from utils.checkpoint import SAFETENSORS, save_checkpoint, save_weights
from utils.errors import UserError, exit_code
from utils.options import ToolParser, a_path
from utils.progress import progress

PICTURES, BATCH = 512, 16
"""Pictures whose features the norms of merged convolutions are measured on, at most, and how many at a time."""


def write_body(options: argparse.Namespace) -> None:
    """Write the file. UserError for bad input."""
    trained = load_named(options, finished=True)
    network = trained.saved.eval()
    merged = network.form != "plain"
    if merged:
        if options.images is None:
            raise UserError(f"{options.ckpt} has merged branches, without norms: give --images DIR to measure them on")
        network = network.merged()
        crop = trained.checkpoint["trainer_state"].get("settings", {}).get("crop_size", DataConfig.crop_size)
        give_norms_(network, pictures_in(options.images, crop), trained.identity["norm_act"])
    absolute = network.body.stem.norm.absolute
    state = torchvision_from_body(network.body.state_dict(), absolute=absolute)
    how = "its branches merged" if merged else "as trained"
    if options.out.suffix == SAFETENSORS:
        about = {name: str(trained.identity[name]) for name in ("backbone", "width", "dataset", "norm_act")}
        save_weights(options.out, state, about | {"classes": str(len(trained.class_names))})
        how += ", in half precision"
    else:
        save_checkpoint(options.out, state)
    print(f"{options.out}: {len(state)} tensors of the body of {options.ckpt}, {how}")


def pictures_in(folder: Path, crop: int) -> list[Tensor]:
    """Batches of the pictures in a folder, normalised, in the size of the training."""
    paths = find_pictures(folder.absolute(), at_least=1).paths
    chosen = [paths[len(paths) * i // min(len(paths), PICTURES)] for i in range(min(len(paths), PICTURES))]
    transform = centre_image(DataConfig(crop_size=crop))
    images = [transform(read_image(path), torch.empty(0))[0] for path in progress(chosen, "reading", unit="image")]
    return [normalise(torch.stack(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]


@torch.no_grad()
def give_norms_(network: SegmentationNet, batches: Sequence[Tensor], kind: str) -> None:
    """Give each merged convolution of the body a norm of that `kind` again, with the statistics of its output on
    `batches`; the function in evaluation stays the same."""
    sites = [module for module in network.body.modules() if isinstance(module, ParallelConv)]
    with summed(sites) as sums:
        for images in progress(batches, "scoring", unit="batch"):
            network.body(images)
    for site in sites:
        count, total, squares = sums[site]
        mean = total / count
        variance = squares / count - mean.square()
        bias = site.conv.bias.double()
        site.norm = norm = Norm(len(bias), kind=kind, activation=site.activation)
        scale = (variance + EPS).sqrt() - (EPS if norm.absolute else 0.0)
        norm.load_state_dict({"weight": scale, "bias": mean, "running_mean": mean - bias, "running_var": variance})
        site.conv.bias = None


@contextmanager
def summed(sites: Sequence[ParallelConv]) -> Iterator[dict[nn.Module, list]]:
    """By site: how many numbers a channel of its convolution gave during the block, their sums and those of squares."""
    sums: dict[nn.Module, list] = {site: [0, 0.0, 0.0] for site in sites}

    def add(site: ParallelConv, y: Tensor) -> None:
        y = y.double()
        own = sums[site]
        own[0] += y.numel() / y.shape[1]
        own[1] = own[1] + y.sum((0, 2, 3))
        own[2] = own[2] + y.square().sum((0, 2, 3))

    hooks = [site.conv.register_forward_hook(lambda _, __, y, site=site: add(site, y)) for site in sites]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Write the body of a trained network under torchvision's names.")
    add_checkpoint_options(parser)
    add = parser.add_argument
    add(
        "--out",
        type=a_path,
        required=True,
        metavar="FILE",
        help="as pretrained/mine.pth; .safetensors: halved",
    )
    add("--images", type=a_path, metavar="DIR", help="pictures, as those of the training; 512 are enough")
    return exit_code(write_body, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
