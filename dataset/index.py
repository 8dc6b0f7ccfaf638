"""The class index: which label values occur in which mask, and its size. Scanned once, on all cores, then kept.

The file lies in DATA_ROOT/.index/, or in the user's cache folder where that cannot be written, with a fingerprint of
the list of files with their sizes and times of change.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from dataset.base import Sample
from dataset.reading import count_labels, image_size
from utils.distributed import main_process_first
from utils.errors import UserError, one_line
from utils.files import atomic_write
from utils.log import log
from utils.progress import progress

FORMAT = "2"
"""Part of the fingerprint: raise it when a scan means something else, so that old files are not read."""

BUNDLE = 32
"""Samples that a thread takes at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Scan(NamedTuple):
    """What is in the files of N samples."""

    values: np.ndarray  # (N,256) bool: which label values occur in the mask
    sizes: np.ndarray  # (N,2): height and width in pixels


class Files(NamedTuple):
    """What the file system says of the files of N samples."""

    fingerprint: str  # changes when a file is added, removed, swapped or rewritten
    bytes: list[tuple[int, ...]]  # of each sample's files
    places: list[tuple[int, int]]  # of the image: device and number there, which its links share


class Index(NamedTuple):
    """All that is known of N samples."""

    values: np.ndarray  # as in Scan
    sizes: np.ndarray
    bytes: list[tuple[int, ...]]  # as in Files
    places: list[tuple[int, int]]


def load_index(samples: Sequence[Sample], *, root: Path, name: str, label_values: frozenset[int]) -> Index:
    """The index of `samples`; what is in the files from disk or by a scan.

    `name` tells the indices in one root apart. A scan also checks the files: UserError as for `scan_sample`.
    """
    files = look_at(samples, root, label_values)
    # Other processes come when the main one is done: they find its file.
    with main_process_first():
        scan = _read(name, root, files.fingerprint, len(samples), label_values)
        if scan is None:
            scan = scan_masks(samples, label_values, title=f"class index of {name}")
            _write(scan, name, root, files.fingerprint)
    return Index(*scan, files.bytes, files.places)


def look_at(samples: Sequence[Sample], root: Path, label_values: frozenset[int]) -> Files:
    """What the file system says of all files. UserError where a listed one is missing."""
    sizes, places = [], []
    digest = hashlib.blake2b(f"{FORMAT} {sorted(label_values)}".encode(), digest_size=16)
    prefix = len(str(root))
    for sample in samples:
        if sample.label is not None:
            digest.update(f"{sample.label} ".encode())
        of_sample = []
        for path in sample.files:
            try:
                status = os.stat(path)
            except OSError as error:
                role = "image" if path == sample.image else f"mask of the image {sample.image}:"
                reason = f"{role} {path} cannot be read ({error.strerror})"
                raise UserError(f"{reason}; restore it, or take the image out of the data set") from error
            # Not encode(): a name on the disk need not be UTF-8.
            digest.update(os.fsencode(f"{str(path)[prefix:]} {status.st_size} {status.st_mtime_ns}\n"))
            of_sample.append(status)
        sizes.append(tuple(status.st_size for status in of_sample))
        places.append((of_sample[0].st_dev, of_sample[0].st_ino))
    return Files(digest.hexdigest(), sizes, places)


def scan_masks(
    samples: Sequence[Sample], label_values: frozenset[int], *, title: str, num_threads: int | None = None
) -> Scan:
    """Read every mask; by default with a thread per core."""
    rows = map_in_threads(lambda sample: scan_sample(sample, label_values), samples, title, num_threads)
    values, sizes = zip(*rows, strict=True)
    return Scan(np.stack(values) > 0, np.array(sizes))


def map_in_threads(
    work: Callable[[Item], Result], samples: Sequence[Item], title: str, num_threads: int | None = None
) -> list[Result]:
    """`work` of every sample, in their order, with a progress bar; by default with a thread per core.

    Threads, since PIL lets others run while it decodes: processes would first spend seconds on importing torch.
    """
    # In bundles: handing over samples one by one would keep the threads waiting for each other.
    bundles = [samples[start : start + BUNDLE] for start in range(0, len(samples), BUNDLE)]
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    results: list[Result] = []
    bar = progress(title=title, unit="image", total=len(samples))
    # After a bad file, or when the run is told to stop, `map` cancels the rest.
    with bar, ThreadPoolExecutor(num_threads or num_cores) as pool:
        for done in pool.map(lambda bundle: [work(sample) for sample in bundle], bundles):
            results += done
            bar.update(len(done))
    return results


def scan_sample(sample: Sample, label_values: frozenset[int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of each label value in the mask of `sample`, (256,) int64, and its height and width. A label of the whole
    image counts once.

    UserError where image or mask is no such file, where their sizes differ, and for a label not in `label_values`.
    """
    size = image_size(sample.image)
    if sample.mask is None:
        return np.bincount([sample.label], minlength=256), size[::-1]
    counts, (width, height) = count_labels(sample.mask)
    if size != (width, height):
        raise UserError(
            f"mask {sample.mask} is {width} x {height} pixels and its image {sample.image} {size[0]} x "
            f"{size[1]}; both must have the same size"
        )
    strange = sorted({*np.flatnonzero(counts).tolist()} - label_values)
    if strange:
        raise UserError(f"mask {sample.mask} holds label {strange[0]}; allowed: {ranges(sorted(label_values))}")
    return counts, (height, width)


def places(name: str, root: Path) -> tuple[Path, Path]:
    """Where the index of `root` may lie: beside the data, or else in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    owner = hashlib.blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return root / ".index" / f"{name}.npz", cache / "rcil" / owner / f"{name}.npz"


def _read(name: str, root: Path, key: str, num_samples: int, label_values: frozenset[int]) -> Scan | None:
    """The index with the fingerprint `key`; None where no such file can be read."""
    for path in places(name, root):
        try:
            if not path.is_file():
                continue
            with np.load(path, allow_pickle=False) as file:
                if str(file["fingerprint"]) == key:
                    values, sizes = np.unpackbits(file["bits"], axis=1).view(bool), file["sizes"]
                    # The fingerprint alone may have survived.
                    whole = (values.shape, sizes.shape, sizes.dtype.kind) == ((num_samples, 256), (num_samples, 2), "i")
                    if whole and sizes.min() > 0 and label_values.issuperset(np.flatnonzero(values.any(axis=0))):
                        return Scan(values, sizes)
                    raise ValueError("no index of these files")
            log.info("%s is of other files; scanning again", path)
        except Exception as error:  # numpy and zipfile fail in too many ways to name
            log.warning("%s cannot be read (%s); scanning again", path, one_line(error))
    return None


def _write(scan: Scan, name: str, root: Path, key: str) -> None:
    """Keep the index in the first place that can be written; without one, only the next run is slower."""
    for path in places(name, root):
        try:
            with atomic_write(path) as file:
                bits = np.packbits(scan.values, axis=1)
                np.savez(file, fingerprint=np.array(key), bits=bits, sizes=scan.sizes)
            return
        except OSError as error:
            log.info("the class index cannot be kept in %s (%s)", path.parent, error.strerror)
    log.warning("the class index of %s cannot be kept anywhere; every step will scan the masks again", root)


def ranges(values: Sequence[int]) -> str:
    """Sorted numbers as text: 0..20, 255."""
    runs = np.split(np.asarray(values), np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs if len(run))
