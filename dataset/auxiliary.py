"""Pictures without labels, for methods that train on them beside the images of a step (`--aux_root`)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dataset.index import map_in_threads, places
from dataset.listing import IMAGE_SUFFIXES, is_picture, require_folder
from dataset.reading import probe, read_image
from dataset.transform import Transform, fixed_randomness
from utils.checkpoint import fingerprint_of
from utils.distributed import main_process_first
from utils.errors import UserError
from utils.files import atomic_write
from utils.log import log
from utils.random_state import derive_seed


class Pictures(NamedTuple):
    """Pictures of a folder."""

    paths: tuple[Path, ...]
    digest: str  # of their names and sizes, wherever the folder lies

    def __str__(self) -> str:
        return f"{len(self.paths)} pictures {self.digest[:8]}"


class PictureDataset(Dataset):
    """Pictures, augmented as training images are.

    An item is fetched by (epoch, index): uint8 (3,H,W). Its random numbers come from (seed, epoch, index) alone,
    whatever process fetches it. UserError for a file that does not decode.
    """

    def __init__(self, paths: Sequence[Path], transform: Transform, seed: int) -> None:
        self.paths = tuple(paths)
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        epoch, index = key
        image = read_image(self.paths[index])
        with fixed_randomness(derive_seed(self.seed, epoch, index)):
            image, _ = self.transform(image, torch.zeros(image.shape[1:], dtype=torch.uint8))
        return image


def find_pictures(root: Path, *, at_least: int) -> Pictures:
    """The pictures in `root` and all folders in it, by name; hidden ones are left out.

    UserError where there are fewer than `at_least`, or where one of them cannot be decoded: each is tried, once as long
    as no file changes.
    """
    require_folder(root, "point --aux_root at a folder of pictures")
    found = sorted(path.relative_to(root) for path in root.rglob("*"))
    names = [name for name in found if not any(part.startswith(".") for part in name.parts) and is_picture(root / name)]
    if len(names) < at_least:
        raise UserError(
            f"--aux_root {root} holds {len(names) or 'no'} picture(s) ({', '.join(IMAGE_SUFFIXES)}), and one batch "
            f"takes {at_least}; put more there"
        )
    pictures = Pictures(tuple(root / name for name in names), _digest(root, names, times=False))
    with main_process_first():
        _try_all(pictures, root, _digest(root, names, times=True))
    return pictures


def _try_all(pictures: Pictures, root: Path, key: str) -> None:
    """Decode all, unless a file with the content `key` says that it was done; then write that file."""
    marks = [path.with_suffix(".txt") for path in places("pictures", root)]
    if any(_content(mark) == key for mark in marks):
        return
    map_in_threads(lambda path: probe(path, "picture"), pictures.paths, "pictures without labels")
    for mark in marks:
        try:
            with atomic_write(mark) as file:
                file.write(key.encode())
            return
        except OSError as error:
            log.info("that all pictures decode cannot be noted in %s (%s)", mark.parent, error.strerror)


def _content(mark: Path) -> str | None:
    try:
        return mark.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _digest(root: Path, names: Sequence[Path], *, times: bool) -> str:
    """Of names and bytes, and with `times` of times of change. UserError where a file is gone."""
    facts = []
    for name in names:
        try:
            status = os.stat(root / name)
        except OSError as error:
            raise UserError(f"picture {root / name} cannot be read ({error.strerror}); restore or remove it") from error
        facts.append([os.fsencode(name).hex(), status.st_size, status.st_mtime_ns if times else 0])
    return fingerprint_of(facts)
