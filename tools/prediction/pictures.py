"""The images that tools/predict.py is given, looked at before anything is written."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.listing import IMAGE_SUFFIXES
from dataset.reading import count_labels, image_size, probe
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
    for image in _files(paths):
        if other := images.get(image.stem):
            raise UserError(f"{other} and {image} would both become {out / image.stem}_mask.png; give one at a time")
        if image.resolve().parent == out.resolve():
            raise UserError(f"{image} lies in --out {out}, where the results go; name another folder with --out")
        images[image.stem] = image
    for image in images.values():
        probe(image, "image")
    masks = {stem: truth / f"{stem}.png" if truth else None for stem in images}
    return [Picture(image, image_size(image), masks[stem]) for stem, image in images.items()]


def check_truth(pictures: Iterable[Picture], spec: DatasetSpec | None) -> None:
    """UserError where a mask is missing, of another size than its image, or has labels that `spec` does not know."""
    for picture in pictures:
        if picture.truth is None:
            continue
        counts, size = count_labels(picture.truth)
        if size != picture.size:
            shown = " and ".join("{} x {}".format(*pixels) for pixels in (picture.size, size))
            raise UserError(
                f"{picture.image} and {picture.truth} have {shown} pixels; a mask has the size of its image"
            )
        unknown = {*counts.nonzero()[0].tolist()} - spec.label_values if spec else None
        if unknown:
            raise UserError(
                f"mask {picture.truth} holds label values {ranges(sorted(unknown))}; {spec.name} knows "
                f"{ranges(sorted(spec.label_values))}"
            )


def batches(pictures: Iterable[Picture], batch_size: int) -> list[Sequence[Picture]]:
    """All pictures, in batches of one size."""
    by_size = defaultdict(list)
    for picture in pictures:
        by_size[picture.size].append(picture)
    return [same[at : at + batch_size] for same in by_size.values() for at in range(0, len(same), batch_size)]


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        images = sorted(inner for inner in path.iterdir() if inner.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise UserError(f"no image in {path}; name another folder, or put some there ({', '.join(IMAGE_SUFFIXES)})")
        yield from images
