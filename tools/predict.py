"""Label images with a trained network, from its checkpoint alone.

    python tools/predict.py --ckpt checkpoints/step/15-1-voc_mine_5.pth photo.jpg folder/
    python tools/predict.py --ckpt FILE --truth masks/ --confidence --out predictions images/
    python tools/predict.py --ckpt FILE --tile 1024 --overlap 256 aerial.tif

Into --out go, for each image NAME.*, NAME_mask.png, whose pixels are the class ids of the data set; NAME_overlay.png,
the image with the colours of the classes on it; with --truth NAME_compare.png, beside the mask NAME.png of that folder;
and with --confidence NAME_confidence.png, a map of the largest softmax probability. Exit code 2: bad input.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.reading import read_image
from dataset.transform import normalise
from tools.checkpoint_options import add_checkpoint_options, load_named
from tools.command import exit_code
from tools.prediction.pictures import Picture, Writer, batches, check_truth, find_pictures
from tools.prediction.tiles import predict, spans
from trained import built_in
from utils.errors import UserError

SMALLEST_TILE = 64
"""Pixels; in a smaller one a network, whose features are 16 pixels apart, sees next to nothing around them."""


def predict_all(options: argparse.Namespace) -> None:
    """Read, label and write. UserError, before anything is written, for what cannot be read."""
    device = find_device(options.device)
    tile, overlap = tiles_of(options.tile, options.overlap)
    if options.batch_size < 1:
        raise UserError(f"--batch_size {options.batch_size}: at least 1")
    pictures = find_pictures(options.images, out=options.out, truth=options.truth)
    trained = load_named(options)
    check_truth(pictures, built_in(trained.dataset))
    if not trained.finished:
        print(f"warning: {options.ckpt} is a half-done step {trained.step}", file=sys.stderr)
    network = trained.network.to(device)
    writer = Writer(trained, options.out, confidence=options.confidence)
    total = sum(math.prod(len(spans(side, tile, overlap)) for side in picture.size) for picture in pictures)
    with tqdm(total=total, unit="tile" if tile else "image", disable=None) as bar:

        def classify(images: Tensor) -> Tensor:
            logits = network(normalise(images.to(device))).logits
            bar.update(len(images))
            return logits

        for batch in batches(pictures, 1 if tile else options.batch_size):
            images = torch.stack([read_image(picture.image) for picture in batch])
            with out_of_memory_named(batch[0], "a smaller --tile" if tile else "--tile 1024"):
                found = predict(classify, images, tile=tile, overlap=overlap, batch_size=options.batch_size)
            for picture, image, outputs, confidence in zip(batch, images, *found, strict=True):
                writer.write(picture, image.numpy(), outputs.numpy(), confidence.numpy())
    named = f"step {trained.step} of {trained.dataset}, {len(trained.labels)} classes"
    print(f"{len(pictures)} image(s) labelled by {named}: {options.out}")


@contextmanager
def out_of_memory_named(picture: Picture, cure: str) -> Iterator[None]:
    """UserError, with the size of the picture and `cure` as advice, where the memory is too small for the block."""
    try:
        yield
    except RuntimeError as error:
        # That of the CPU has no type of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        size = "{} x {}".format(*picture.size)
        raise UserError(f"{picture.image}, {size}: out of memory; give {cure}, or a smaller --batch_size") from None


def tiles_of(tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Tile and overlap in pixels, a quarter of the tile unless said otherwise. UserError where they do not go."""
    if tile is None:
        if overlap is not None:
            raise UserError(f"--overlap {overlap}: only tiles overlap; give --tile, too")
        return None, 0
    if tile < SMALLEST_TILE:
        raise UserError(f"--tile {tile}: at least {SMALLEST_TILE} pixels")
    overlap = tile // 4 if overlap is None else overlap
    if not 0 <= overlap <= tile // 2:
        raise UserError(f"--overlap {overlap}: 0 to {tile // 2}, half of --tile {tile}")
    return tile, overlap


def find_device(name: str | None) -> torch.device:
    """The device of that name, else a GPU where there is one. UserError where there is none such."""
    gpus = torch.cuda.device_count()
    known = ["cuda", *(f"cuda:{number}" for number in range(gpus)), "cpu"] if gpus else ["cpu"]
    name = name or known[0]
    if name not in known:
        raise UserError(f"--device {name}: choose from {', '.join(known)}" + ("" if gpus else "; torch sees no GPU"))
    return torch.device(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Label images with a trained network, from its checkpoint alone.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE|DIR", help="images, or folders of them")
    add_checkpoint_options(parser)
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="[%(default)s]")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="masks NAME.png, to be shown beside the prediction")
    parser.add_argument("--confidence", action="store_true", help="draw the largest softmax probability, too")
    text = "label tiles of N pixels, for large images [whole images]"
    parser.add_argument("--tile", type=int, metavar="N", help=text)
    text = "pixels that tiles share at least [a quarter of --tile]"
    parser.add_argument("--overlap", type=int, metavar="M", help=text)
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="images of one size, or tiles [1]")
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N [cuda where there is one]")
    return exit_code(predict_all, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
