"""Write the network of a step for inference elsewhere: as ONNX, as a program of torch.export, and as plain weights.

    python tools/export.py --ckpt checkpoints/step/15-1-voc_mine_5.pth --out export [--form onnx program weights]

Both branches of every convolution are merged, so that what runs is a plain DeepLabV3. NAME.onnx and NAME.pt2 map
`images` (B, 3, H, W), float32, RGB in 0..1 less `mean` by `std`, to logits (B, C, H, W), any B and any H and W of at
least 32. NAME.safetensors holds the merged weights under the names that they have in a checkpoint; tools/predict.py,
hubconf.py and this tool take it where they take a checkpoint.
Each carries what it is of: names and colours of the outputs in order, data set, task, step, mean, std, options of the
network and of the training, and what made it.
Exit code: 0 all is well, 1 an exported network gives other numbers than PyTorch and was not kept, 2 bad input.
"""

import argparse
import copy
import importlib
import io
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from checkpoints import facts_of
from metrics.tables import Grid
from modules.deeplab import PoolHead
from segmentation_module import SegmentationNet
from trained import TrainedNetwork, add_checkpoint_options, load_named
from utils.constants import IMAGENET_MEAN, IMAGENET_STD
from utils.errors import RunError, UserError, exit_code
from utils.files import atomic_path
from utils.options import ToolParser, a_path
from utils.versions import commit, own_version

Exported = Callable[[Tensor], Tensor]
"""A network read back from its file: images to logits, on the CPU."""

FORMS = {
    "onnx": (".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "program": (".pt2", ()),
    "weights": (".safetensors", ()),
}
"""Suffix of each form, and the packages that it needs."""
MIN_SIDE = 32
"""In pixels, as for --crop_size of run.py: the stride of the network's deepest features."""
CHECKED = (1, 528, 96), (3, 64, 144)
"""Batch, height and width: maps of more and of less than the 32 pixels that image pooling has by default."""
TOLERANCE = 1e-4
"""Of the largest logit."""
SIDE_OF_FLOPS = 512


class Logits(nn.Module):
    """The network as others run it: images in, logits out."""

    def __init__(self, network: SegmentationNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


def export(options: argparse.Namespace) -> None:
    """Write the forms, and print what the network costs and how exact each form is.

    Raises UserError for bad input, RunError for an exported network that gives other numbers.
    """
    for package in (package for form in options.form for package in FORMS[form][1]):
        require(package)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file; name a folder")
    trained = load_named(options, finished=True)
    network = Logits(trained.network)
    networks = {f"as trained ({trained.saved.form})": trained.saved, "exported (merged)": network}
    found = [(name, *costs(of_it)) for name, of_it in networks.items()]
    cells = [[name, f"{parameters:,}", f"{flops / 1e9:.2f}"] for name, parameters, flops in found]
    print(Grid([f"one image of {SIDE_OF_FLOPS} x {SIDE_OF_FLOPS}", "parameters", "GFLOPs"], cells, left=1))
    metadata = metadata_of(trained)
    program = traced(network) if {"onnx", "program"} & set(options.form) else None
    for form in options.form:
        path = options.out / f"{options.ckpt.stem}{FORMS[form][0]}"
        if form == "weights":
            write_weights(trained, path)
            said = "the merged weights, bit for bit"
        else:
            with atomic_path(path) as temporary:
                write = write_onnx if form == "onnx" else write_program
                difference = largest_difference(write(program, metadata, temporary), network)
                if not difference <= TOLERANCE:
                    raise RunError(
                        f"{path} was not kept: its logits differ from PyTorch's by {difference:.1e} of the largest, "
                        f"more than {TOLERANCE:.0e}"
                    )
                said = f"largest difference from PyTorch {difference:.1e} of the largest logit"
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {said}")


def metadata_of(trained: TrainedNetwork) -> dict[str, str]:
    """What the files say of the network."""
    colours = [trained.palette[label] for label in trained.labels]
    looks = {"pooling": trained.pooling, "palette": colours, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    made_by = f"rcil {own_version()}{commit()}, torch {torch.__version__}"
    return facts_of(trained.checkpoint["trainer_state"] | {"identity": trained.identity}, **looks, made_by=made_by)


def write_weights(trained: TrainedNetwork, path: Path) -> None:
    """Write the merged weights as safetensors."""
    weights = {name: tensor.contiguous() for name, tensor in trained.saved.merged().state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata_of(trained))


def traced(network: Logits) -> ExportedProgram:
    """What it computes, for images of any size."""
    # Exported, a last map of one pixel, from 32, is another case than one of more.
    least = MIN_SIDE + isinstance(network.network.head, PoolHead)
    dims = {0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    example = torch.zeros(2, 3, 3 * MIN_SIDE, 4 * MIN_SIDE)
    return torch.export.export(network, (example,), dynamic_shapes={"images": dims})


def write_onnx(program: ExportedProgram, metadata: dict[str, str], path: Path) -> Exported:
    """Write one file, weights included."""
    axes = {0: "batch", 2: "height", 3: "width"}
    names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": {"images": axes}}
    made = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    made.model.metadata_props.update(metadata)
    made.save(path, external_data=False)
    session = require("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def write_program(program: ExportedProgram, metadata: dict[str, str], path: Path) -> Exported:
    """Write what torch.export.load reads; `metadata` lies in it as the extra file metadata.json."""
    with warnings.catch_warnings(), open(path, "wb") as file:
        # Weights in channels last: the warning is about those that are not on the CPU.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata)})
    return torch.export.load(io.BytesIO(path.read_bytes())).module()


@torch.no_grad()
def largest_difference(exported: Exported, network: Logits) -> float:
    """Between the logits of both on random images, as a fraction of the largest logit."""
    random = torch.Generator().manual_seed(0)
    differences = []
    for batch, height, width in CHECKED:
        images = torch.randn(batch, 3, height, width, generator=random)
        expected = network(images)
        differences.append((exported(images) - expected).abs().max() / expected.abs().max())
    return torch.stack(differences).max().item()


def costs(network: nn.Module) -> tuple[int, int]:
    """Parameters, and floating point operations for one image; a multiply-add is two."""
    network = copy.deepcopy(network).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, SIDE_OF_FLOPS, SIDE_OF_FLOPS, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def require(package: str) -> Any:
    """The module of that name. UserError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        cure = "pip install -r requirements-export.txt, or choose another --form"
        raise UserError(f"the package {package} is not installed: {cure}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Export the merged network of a step.")
    add_checkpoint_options(parser)
    parser.add_argument("--out", type=a_path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS), help="what to write [all]")
    return exit_code(export, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
