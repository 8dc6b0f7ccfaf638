"""The images that tools/predict.py is given, looked at before anything is written, and the files that it writes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.labels import map_labels
from dataset.listing import IMAGE_SUFFIXES
from dataset.reading import count_labels, image_size, probe, read_mask
from dataset.voc import voc_palette
from metrics.pictures import colour_mask, draw_confidence, draw_overlay, draw_samples, save_picture
from trained import TrainedNetwork, built_in
from utils.errors import UserError


class Picture(NamedTuple):
    """An image file, and its mask where the truth is known."""

    image: Path
    size: tuple[int, int]  # width and height in pixels
    truth: Path | None


def find_pictures(paths: Iterable[Path], *, out: Path, truth: Path | None) -> list[Picture]:
    """The images among `paths`, files or folders of them, each with its mask in the folder `truth`.

    UserError where one is no image, or where results, which go to `out`, could not be told apart from others, or from
    the images.
    """
    images: dict[str, Path] = {}
    for image in [image for path in paths for image in (_images_in(path) if path.is_dir() else [path])]:
        if other := images.get(image.stem):
            raise UserError(f"{other} and {image} would both become {out / image.stem}_mask.png; give one at a time")
        if image.resolve().parent == out.resolve():
            raise UserError(f"{image} lies in --out {out}, where the results go; name another folder with --out")
        images[image.stem] = image
        probe(image, "image")
    return [
        Picture(image, image_size(image), truth / f"{stem}.png" if truth else None) for stem, image in images.items()
    ]


def _images_in(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"no image in {folder}; name another folder, or put some there ({', '.join(IMAGE_SUFFIXES)})")
    return images


def check_truth(pictures: Iterable[Picture], spec: DatasetSpec | None) -> None:
    """UserError where a mask is missing, of another size than its image, or has labels that `spec` does not know."""
    for image, wanted, truth in pictures:
        if truth is None:
            continue
        counts, size = count_labels(truth)
        if size != wanted:
            shown = " and ".join("{} x {}".format(*pixels) for pixels in (wanted, size))
            raise UserError(f"{image} and {truth} have {shown} pixels; a mask has the size of its image")
        unknown = {*counts.nonzero()[0].tolist()} - spec.label_values if spec else None
        if unknown:
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
        names = enumerate(spec.class_names) if spec else zip(trained.labels, trained.class_names, strict=True)
        self.names = [f"class {label}" for label in range(256)]
        for label, name in names:
            self.names[label] = name

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
