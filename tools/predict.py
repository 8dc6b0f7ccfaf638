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
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.labels import map_labels
from dataset.listing import IMAGE_SUFFIXES
from dataset.reading import count_labels, image_size, probe, read_image, read_mask
from dataset.transform import normalise
from metrics.pictures import colour_mask, draw_confidence, draw_overlay, draw_samples, save_picture
from tools.checkpoint_options import add_checkpoint_options, load_named
from tools.command import exit_code
from tools.tiles import predict, spans
from trained import TrainedNetwork, built_in
from utils.constants import voc_palette
from utils.errors import UserError

SMALLEST_TILE = 64
"""Pixels; in a smaller one a network, whose features are 16 pixels apart, sees next to nothing around them."""


class Picture(NamedTuple):
    """An image file, and its mask where the truth is known."""

    image: Path
    size: tuple[int, int]  # width and height in pixels
    truth: Path | None


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
            try:
                found = predict(classify, images, tile=tile, overlap=overlap, batch_size=options.batch_size)
            except RuntimeError as error:
                # That of the CPU has no type of its own.
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
                what = "{}, {} x {}".format(batch[0].image, *batch[0].size)
                cure = "a smaller --tile" if tile else "--tile 1024"
                raise UserError(f"{what}: out of memory; give {cure}, or a smaller --batch_size") from None
            for picture, image, outputs, confidence in zip(batch, images, *found, strict=True):
                writer.write(picture, image.numpy(), outputs.numpy(), confidence.numpy())
    named = f"step {trained.step} of {trained.dataset}, {len(trained.labels)} classes"
    print(f"{len(pictures)} image(s) labelled by {named}: {options.out}")


def find_pictures(paths: Iterable[Path], *, out: Path, truth: Path | None) -> list[Picture]:
    """The images among `paths`, files or folders of them, each with its mask in the folder `truth`.

    UserError where one is no image, or where results, which go to `out`, could not be told apart from others, or from
    the images.
    """
    images: dict[str, Path] = {}
    for image in (image for path in paths for image in (_images_in(path) if path.is_dir() else [path])):
        if other := images.get(image.stem):
            raise UserError(f"{other} and {image} would both become {out / image.stem}_mask.png; give one at a time")
        if image.resolve().parent == out.resolve():
            raise UserError(f"{image} lies in --out {out}, where the results go; name another folder with --out")
        images[image.stem] = image
        probe(image, "image")
    return [Picture(image, image_size(image), truth and truth / f"{stem}.png") for stem, image in images.items()]


def _images_in(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"no image in {folder}; name another folder, or put some there ({', '.join(IMAGE_SUFFIXES)})")
    return images


def check_truth(pictures: Iterable[Picture], spec: DatasetSpec | None) -> None:
    """UserError where a mask is missing, of another size than its image, or has labels that `spec` does not know."""
    for image, wanted, truth in (picture for picture in pictures if picture.truth):
        counts, size = count_labels(truth)
        if size != wanted:
            shown = "{} x {} and {} x {}".format(*wanted, *size)
            raise UserError(f"{image} and {truth} have {shown} pixels; a mask has the size of its image")
        if spec and (unknown := {*counts.nonzero()[0].tolist()} - spec.label_values):
            known = f"{spec.name} knows {ranges(sorted(spec.label_values))}"
            raise UserError(f"mask {truth} holds label values {ranges(sorted(unknown))}; {known}")


def batches(pictures: Iterable[Picture], batch_size: int) -> list[Sequence[Picture]]:
    """All pictures, in batches of one size."""
    by_size = defaultdict(list)
    for picture in pictures:
        by_size[picture.size].append(picture)
    return [same[at : at + batch_size] for same in by_size.values() for at in range(0, len(same), batch_size)]


class Writer:
    """Writes the pictures of a prediction in the names and colours of the data set."""

    def __init__(self, trained: TrainedNetwork, out: Path, *, confidence: bool) -> None:
        spec = built_in(trained.dataset)
        self.out = out
        self.confidence = confidence
        self.label_of = np.array(trained.labels, np.uint8)
        self.class_of = np.array(spec.class_of if spec else range(256), np.uint8)
        self.palette = spec.palette if spec else voc_palette(256)
        known = dict(enumerate(spec.class_names) if spec else zip(trained.labels, trained.class_names, strict=True))
        self.names = [known.get(label, f"class {label}") for label in range(256)]

    def write(self, picture: Picture, image: np.ndarray, outputs: np.ndarray, confidence: np.ndarray) -> None:
        """All files of one picture: `image` uint8 (3,H,W), `outputs` uint8 and `confidence` float (H,W)."""
        labels, looks = self.label_of[outputs], (self.palette, self.names)
        drawn = {"mask": colour_mask(labels, self.palette), "overlay": draw_overlay(image, labels, *looks)}
        if picture.truth:
            truth = map_labels(read_mask(picture.truth), self.class_of)
            drawn["compare"] = draw_samples([[image, truth, labels]], ["image", "ground truth", "prediction"], *looks)
        if self.confidence:
            drawn["confidence"] = draw_confidence(confidence)
        for kind, page in drawn.items():
            save_picture(page, self.out / f"{picture.image.stem}_{kind}.png")


def tiles_of(tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Tile and overlap in pixels, a quarter of the tile unless said otherwise. UserError where they do not go."""
    if tile is None and overlap is not None:
        raise UserError(f"--overlap {overlap}: only tiles overlap; give --tile, too")
    if tile is None:
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
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE|DIR", help="images, or folders of them")
    add_checkpoint_options(parser)
    add("--out", type=Path, default=Path("predictions"), metavar="DIR", help="[%(default)s]")
    add("--truth", type=Path, metavar="DIR", help="masks NAME.png, to be shown beside the prediction")
    add("--confidence", action="store_true", help="draw the largest softmax probability, too")
    add("--tile", type=int, metavar="N", help="label tiles of N pixels, for large images [whole images]")
    add("--overlap", type=int, metavar="M", help="pixels that tiles share at least [a quarter of --tile]")
    add("--batch_size", type=int, default=1, metavar="N", help="images of one size, or tiles [1]")
    add("--device", metavar="D", help="cpu, cuda or cuda:N [cuda where there is one]")
    return exit_code(predict_all, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
