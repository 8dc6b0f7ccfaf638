"""Label images with a trained network, from its checkpoint alone.

    python tools/predict.py --ckpt checkpoints/step/15-1-voc_mine_5.pth photo.jpg folder/
    python tools/predict.py --ckpt FILE --truth masks/ --confidence --out predictions images/
    python tools/predict.py --ckpt FILE --tile 1024 --overlap 256 aerial.tif

Into --out go, for each image NAME.*, NAME_mask.png, whose pixels are the class ids of the data set; NAME_overlay.png,
the image with the colours of the classes on it; with --truth NAME_compare.png, beside the mask NAME.png of that folder,
and what is wrong; and with --confidence NAME_confidence.png, a map of the largest softmax probability. Where whole
images are classified: predictions.csv, with the likeliest classes of each image. Exit code 2: bad input.
"""

import argparse
import csv
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.labels import map_labels
from dataset.listing import IMAGE_SUFFIXES, pictures_in
from dataset.reading import count_labels, image_size, probe, read_image, read_mask
from dataset.transform import centre_image, normalise
from metrics.pictures import colour_mask, draw_confidence, draw_errors, draw_overlay, draw_samples, save_picture
from metrics.tables import percent
from segmentation_module import SegmentationNet
from tiles import predict, spans, tiles_of
from trained import TrainedNetwork, add_checkpoint_options, built_in, load_named
from utils.errors import UserError, exit_code
from utils.files import atomic_write
from utils.optim import in_fp32
from utils.options import ToolParser, a_path
from utils.progress import progress

TOP = 5
"""Classes that are named of a whole image."""


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
    if not trained.finished:
        print(f"warning: {options.ckpt} is a half-done step {trained.step}", file=sys.stderr)
    network = trained.network.to(device)
    if trained.identity["head"] == "pool":
        classify_all(trained, network, pictures, options)
        return
    check_truth(pictures, built_in(trained.dataset))
    writer = Writer(trained, options.out, confidence=options.confidence)
    total = sum(math.prod(len(spans(side, tile, overlap)) for side in picture.size) for picture in pictures)
    with progress(title="predict", total=total, unit="tile" if tile else "image") as bar:

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


@in_fp32
def classify_all(
    trained: TrainedNetwork, network: SegmentationNet, pictures: Sequence[Picture], options: argparse.Namespace
) -> None:
    """Write the likeliest classes of each picture as a whole, in the size that the network was trained on."""
    for name in ("tile", "truth", "confidence"):
        if getattr(options, name):
            raise UserError(f"--{name}: {options.ckpt} classifies whole images, without masks; leave it out")
    settings = trained.checkpoint["trainer_state"].get("settings", {})
    size = {name: settings[name] for name in ("crop_size",) if name in settings}
    transform = centre_image(DataConfig(**size))
    device = next(network.parameters()).device
    lines = []
    for start in progress(range(0, len(pictures), options.batch_size), "predict", unit="batch"):
        batch = pictures[start : start + options.batch_size]
        images = torch.stack([transform(read_image(picture.image), torch.empty(0))[0] for picture in batch])
        likely = network(normalise(images.to(device))).logits[:, :, 0, 0].softmax(1).topk(min(TOP, len(trained.labels)))
        for picture, *found in zip(batch, likely.values.tolist(), likely.indices.tolist(), strict=True):
            named = ((plain_cell(str(picture.image)), plain_cell(trained.class_names[i])) for i in found[1])
            lines += [(*names, f"{p:.4f}") for names, p in zip(named, found[0], strict=True)]
    with atomic_write(options.out / "predictions.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "class", "probability"), *lines])
    named = f"step {trained.step} of {trained.dataset}, {len(trained.labels)} classes"
    print(f"{len(pictures)} image(s) classified by {named}: {options.out / 'predictions.csv'}")


def plain_cell(text: str) -> str:
    """A field of a table that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def find_pictures(paths: Iterable[Path], *, out: Path, truth: Path | None) -> list[Picture]:
    """The images among `paths`, files or folders of them, each with its mask in the folder `truth`.

    UserError where one is no image, or where results, which go to `out`, could not be told apart from others, or from
    the images.
    """
    images: dict[str, Path] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            found = pictures_in(path)
        if not found:
            raise UserError(f"no image in {path}; name another folder, or put some there ({', '.join(IMAGE_SUFFIXES)})")
        for image in found:
            if other := images.get(image.stem):
                results = out / f"{image.stem}_mask.png"
                raise UserError(f"{other} and {image} would both become {results}; give one at a time")
            if image.resolve().parent == out.resolve():
                raise UserError(f"{image} lies in --out {out}, where the results go; name another folder with --out")
            images[image.stem] = image
            probe(image, "image")
    return [Picture(image, image_size(image), truth and truth / f"{stem}.png") for stem, image in images.items()]


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
        self.palette, self.names = trained.palette, trained.names

    def write(self, picture: Picture, image: np.ndarray, outputs: np.ndarray, confidence: np.ndarray) -> None:
        """All files of one picture: `image` uint8 (3,H,W), `outputs` uint8 and `confidence` float (H,W)."""
        labels, looks = self.label_of[outputs], (self.palette, self.names)
        drawn = {"mask": colour_mask(labels, self.palette), "overlay": draw_overlay(image, labels, *looks)}
        if picture.truth:
            truth = map_labels(read_mask(picture.truth), self.class_of)
            errors, part = draw_errors(image, truth, labels)
            titles = ["image", "ground truth", "prediction", f"errors: {percent(part, 1)} %"]
            drawn["compare"] = draw_samples([[image, truth, labels, errors]], titles, *looks)
        if self.confidence:
            drawn["confidence"] = draw_confidence(confidence)
        for kind, page in drawn.items():
            save_picture(page, self.out / f"{picture.image.stem}_{kind}.png")


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
    parser = ToolParser(description="Label images with a trained network, from its checkpoint alone.")
    add = parser.add_argument
    add("images", nargs="+", type=a_path, metavar="IMAGE|DIR", help="images, or folders of them")
    add_checkpoint_options(parser)
    add("--out", type=a_path, default=Path("predictions"), metavar="DIR", help="[%(default)s]")
    add("--truth", type=a_path, metavar="DIR", help="masks NAME.png, to be shown beside the prediction and its errors")
    add("--confidence", action="store_true", help="draw the largest softmax probability, too")
    add("--tile", type=int, metavar="N", help="label tiles of N pixels, for large images [whole images]")
    add("--overlap", type=int, metavar="M", help="pixels that tiles share at least [a quarter of --tile]")
    add("--batch_size", type=int, default=1, metavar="N", help="images of one size, or tiles [1]")
    add("--device", metavar="D", help="cpu, cuda or cuda:N [cuda where there is one]")
    return exit_code(predict_all, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
