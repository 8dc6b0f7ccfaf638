"""The class index: which label values occur in which mask. Scanned once, by many processes, then kept.

The file lies in DATA_ROOT/.index/, or in the user's cache folder where that cannot be written. It carries a
fingerprint of the list of files with their sizes and times of change: another one means another scan.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from dataset.base import Sample
from dataset.reading import image_size, read_mask
from utils.distributed import main_process_first
from utils.errors import UserError
from utils.files import atomic_write
from utils.log import log

FORMAT = "1"
"""Part of the fingerprint: raise it when a scan means something else, so that old files are not read."""

MASKS_PER_PROCESS = 2000
"""Masks, at about 1 ms each, for which one more process is worth the seconds that it takes to start."""


def load_index(samples: Sequence[Sample], *, root: Path, name: str, label_values: frozenset[int]) -> np.ndarray:
    """(N,256) bool: which label values occur in the mask of each sample, from disk or by a scan.

    `name` tells the indices in one root apart. A scan also checks the files: UserError for the first one that
    is missing, no label map, of another size than its image, or that holds a label not in `label_values`.
    """
    key = fingerprint(samples, root, label_values)
    # Other processes come when the main one is done: they find its file.
    with main_process_first():
        bits = _read(name, root, key)
        if bits is None:
            bits = scan_masks(samples, label_values, title=f"class index of {name}")
            _write(bits, name, root, key)
    return np.unpackbits(bits, axis=1).view(bool)


def fingerprint(samples: Sequence[Sample], root: Path, label_values: frozenset[int]) -> str:
    """Changes when a file is added, removed, swapped or rewritten. UserError where a listed file is missing."""
    digest = hashlib.blake2b(f"{FORMAT} {sorted(label_values)}".encode(), digest_size=16)
    prefix = len(str(root))
    for sample in samples:
        for path in map(str, sample):
            try:
                status = os.stat(path)
            except OSError as error:
                raise UserError(
                    f"{path} is listed but cannot be read ({error.strerror}); restore it, or mend the list"
                ) from error
            digest.update(f"{path[prefix:]} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def scan_masks(
    samples: Sequence[Sample], label_values: frozenset[int], *, title: str, num_processes: int | None = None
) -> np.ndarray:
    """(N,32) uint8: packed bits of the index. By default as many processes as there are cores and work."""
    if num_processes is None:
        num_processes = min(_num_cores(), len(samples) // MASKS_PER_PROCESS)
    scan = partial(scan_sample, label_values=label_values)
    if num_processes <= 1:
        return np.stack(list(_with_bar(map(scan, samples), len(samples), title)))
    # Not fork: this process may hold a CUDA context and threads by now.
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        return np.stack(list(_with_bar(pool.imap(scan, samples, chunksize=32), len(samples), title)))


def scan_sample(sample: Sample, label_values: frozenset[int]) -> np.ndarray:
    """(32,) uint8: one bit for each of the 256 label values that occurs in the mask of `sample`."""
    mask = read_mask(sample.mask)
    height, width = mask.shape
    size = image_size(sample.image)
    if size != (width, height):
        raise UserError(
            f"mask {sample.mask} is {width} x {height} pixels and its image {sample.image} {size[0]} x "
            f"{size[1]}; both must have the same size"
        )
    occurs = np.bincount(mask.ravel(), minlength=256) > 0
    strange = sorted({*np.flatnonzero(occurs).tolist()} - label_values)
    if strange:
        raise UserError(f"mask {sample.mask} holds label {strange[0]}; allowed: {_ranges(sorted(label_values))}")
    return np.packbits(occurs)


def _with_bar(rows: Iterator[np.ndarray], count: int, title: str) -> Iterator[np.ndarray]:
    return iter(tqdm(rows, total=count, desc=title, unit="mask", disable=None))


def _places(name: str, root: Path) -> tuple[Path, Path]:
    """Where the index of `root` may lie: beside the data, or else in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    owner = hashlib.blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return root / ".index" / f"{name}.npz", cache / "rcil" / owner / f"{name}.npz"


def _read(name: str, root: Path, key: str) -> np.ndarray | None:
    """The packed bits of an index with the fingerprint `key`; None where no such file can be read."""
    for path in _places(name, root):
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["fingerprint"]) == key:
                    return file["bits"]
            log.info("%s is of other files; scanning again", path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            log.warning("%s cannot be read (%s); scanning again", path, error)
    return None


def _write(bits: np.ndarray, name: str, root: Path, key: str) -> None:
    """Keep the index in the first place that can be written; without one, only the next run is slower."""
    for path in _places(name, root):
        try:
            with atomic_write(path) as file:
                np.savez(file, fingerprint=np.array(key), bits=bits)
            return
        except OSError as error:
            log.info("the class index cannot be kept in %s (%s)", path.parent, error.strerror)
    log.warning("the class index of %s cannot be kept anywhere; every step will scan the masks again", root)


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ranges(values: Sequence[int]) -> str:
    """Sorted numbers as text: 0..20, 255."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1] = [runs[-1][0], value]
        else:
            runs.append([value])
    return ", ".join("..".join(map(str, run)) for run in runs)
