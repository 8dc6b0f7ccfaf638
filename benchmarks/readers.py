"""Everything that reads a file of a user, with valid files for it and the form that its results have."""

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.mutations import ARRAYS, BYTES, TEXT, Way
from dataset.base import Sample
from dataset.folder import read_classes
from dataset.index import Index, load_index
from dataset.reading import count_labels, image_size, probe, read_image, read_mask
from dataset.voc import CLASS_NAMES, SPEC, list_samples
from metrics.results import Row, read_rows, write_row
from tasks import Task, read_class_order

RNG = np.random.default_rng(0)
LABELS = RNG.choice([*range(21), 255], (17, 24)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (17, 24, 3), dtype=np.uint8)
INDEX = "voc-train"


class Reader(NamedTuple):
    """Something that reads a file of a folder that is otherwise sound."""

    name: str
    path: str  # of the file in the folder
    read: Callable[[Path], Any]  # (the folder)
    is_right: Callable[[Any], bool]  # whether a result has the form that is promised
    valid: Sequence[bytes]  # files that it takes, or whose kind it knows
    ways: Sequence[Way]  # of breaking them
    pipes: bool = True  # whether a pipe may lie there, for which nobody ever writes


def readers(root: Path) -> list[Reader]:
    """All of them, in `root`, an empty folder."""
    samples = write_data_set(root)
    load_index(samples, root=root, name=INDEX, label_values=SPEC.label_values)
    write_rows(root / "rows.csv")
    images, masks, lists = valid_images(), valid_masks(), valid_lists(root)
    kept = (root / f".index/{INDEX}.npz").read_bytes()

    def picture(name: str, valid: Sequence[bytes], read: Callable[[Path], Any], is_right: Callable) -> Reader:
        return Reader(name, "picture", lambda root: read(root / "picture"), is_right, valid, BYTES)

    def listed_index(root: Path) -> tuple[list[Sample], Index]:
        listed = list_samples(root, "train")
        return listed, load_index(listed, root=root, name="listed", label_values=SPEC.label_values)

    def kept_index(root: Path) -> Index:
        return load_index(samples, root=root, name=INDEX, label_values=SPEC.label_values)

    def class_order(root: Path) -> Task:
        return read_class_order(SPEC.facts, root / "order.txt", CLASS_NAMES)

    def is_kept(found: Index) -> bool:
        return is_index(found, len(samples))

    def classes(root: Path) -> tuple:
        return read_classes(root / "classes.txt")

    def rows(root: Path) -> list[Row]:
        return read_rows(root / "rows.csv")

    return [
        picture("read_image", [*images, *masks], read_image, is_image),
        picture("read_mask", [*masks * 2, *images], read_mask, is_mask),
        picture("count_labels", [*masks * 2, *images], count_labels, is_count),
        picture("image_size", [*images, *masks], image_size, is_size),
        picture("probe", [*images, *masks], lambda path: probe(path, "image"), is_kind),
        Reader("list_samples", "list/val.txt", lambda root: list_samples(root, "val"), is_list, lists, TEXT),
        Reader("its index", "list/train_aug.txt", listed_index, is_listed_index, lists, TEXT),
        Reader("load_index", f".index/{INDEX}.npz", kept_index, is_kept, [kept], ARRAYS),
        Reader("read_classes", "classes.txt", classes, are_classes, CLASSES, TEXT),
        # The user names these two, and may mean a pipe.
        Reader("read_class_order", "order.txt", class_order, is_task, ORDERS, TEXT, pipes=False),
        Reader("read_rows", "rows.csv", rows, are_rows, valid_rows(root / "rows.csv"), TEXT, pipes=False),
    ]


CLASSES = (b"ground\nkite\nbig dog\ntraffic light\n", b"ground #102030\nbig cat 1 2 3\n dog\n\n", b"a\nb #ffffff 1 2 3")
ORDERS = (
    ",".join(map(str, range(16))).encode() + b"\n16\n17\n18\n19\n20\n",
    ", ".join(CLASS_NAMES[1:]).encode(),
    b"# in the order of the alphabet\n" + "\n".join(sorted(CLASS_NAMES[1:])).encode(),
)


def encoded(pixels: np.ndarray, form: str, mode: str | None = None, **options: Any) -> bytes:
    """A picture as a file of the format `form`."""
    picture = Image.fromarray(pixels)
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, form, **options)
    return file.getvalue()


def valid_images() -> list[bytes]:
    """Every format that pictures come in."""
    exif = Image.Exif()
    exif[0x0112] = 6
    jpegs = [encoded(COLOURS, "JPEG", mode, exif=exif) for mode in ("RGB", "L", "CMYK")]
    jpegs += [
        encoded(COLOURS, "JPEG", progressive=True, optimize=True),
        encoded(COLOURS, "JPEG", subsampling=2, dpi=(9, 9)),
    ]
    pngs = [encoded(COLOURS, "PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P")]
    pngs += [encoded(COLOURS, "PNG", "P", transparency=bytes(range(256)))]
    tiffs = [
        encoded(COLOURS, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits")
    ]
    webps = [encoded(COLOURS, "WEBP"), encoded(COLOURS, "WEBP", "RGBA", lossless=True)]
    others = [encoded(COLOURS, form) for form in ("BMP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "EPS")]
    return [*jpegs, *pngs, *tiffs, *webps, *others]


def valid_masks() -> list[bytes]:
    """Every kind of file that holds label values."""
    file = io.BytesIO()
    coloured = Image.fromarray(LABELS)
    coloured.putpalette([channel for colour in SPEC.palette for channel in colour])
    coloured.save(file, "PNG")
    grey = [encoded(LABELS, form) for form in ("PNG", "BMP", "TIFF", "GIF")]
    grey += [encoded(LABELS, "TIFF", compression=name) for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate")]
    wide = [
        encoded(LABELS.astype(dtype), form)
        for dtype, form in ((np.uint16, "PNG"), (np.uint16, "TIFF"), (np.int32, "TIFF"))
    ]
    bits = [encoded(LABELS > 10, form) for form in ("PNG", "BMP", "TIFF")]
    return [file.getvalue(), *grey, *wide, *bits, encoded(LABELS > 10, "TIFF", compression="group4")]


def write_data_set(root: Path) -> list[Sample]:
    """Three pairs in the layout of VOC, and beside them a folder, a pipe, and a link that goes in circles."""
    for folder in ("JPEGImages", "SegmentationClassAug", "list"):
        (root / folder).mkdir()
    for folder, suffix, content in (
        ("JPEGImages", "jpg", encoded(COLOURS, "JPEG")),
        ("SegmentationClassAug", "png", encoded(LABELS, "PNG")),
    ):
        for name in ("a", "b", "c"):
            (root / folder / f"{name}.{suffix}").write_bytes(content)
        (root / folder / f"folder.{suffix}").mkdir()
        (root / folder / f"loop.{suffix}").symlink_to(f"loop.{suffix}")
        os.mkfifo(root / folder / f"pipe.{suffix}")
    for name in ("train_aug", "val"):
        lines = (f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in ("a", "b", "c"))
        (root / f"list/{name}.txt").write_text("".join(lines))
    return list_samples(root, "train")


def valid_lists(root: Path) -> list[bytes]:
    """With both columns, and with names alone."""
    pairs = (root / "list/val.txt").read_bytes()
    return [pairs, pairs.replace(b"/J", b"J").replace(b" ", b"\t"), b"a\nb\n\nc\n"]


def write_rows(path: Path) -> None:
    """The results of a run of three steps."""
    for step in range(3):
        iou = (0.75, math.nan, 1 / 3, 0.0, 1.0)[: 3 + step]
        write_row(path, Row(step, iou, 5, 0.5), note="labels as in MiB")


def valid_rows(path: Path) -> list[bytes]:
    """With a note, and without one."""
    content = path.read_bytes()
    return [content, content.split(b"\n", 1)[1]]


def is_image(found: Any) -> bool:
    """uint8 (3,H,W), channels last."""
    return (
        isinstance(found, torch.Tensor)
        and found.dtype == torch.uint8
        and found.ndim == 3
        and found.shape[0] == 3
        and found.numel() > 0
        and found.stride() == (1, 3 * found.shape[2], 3)
    )


def is_mask(found: Any) -> bool:
    """uint8 (H,W)."""
    return isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.ndim == 2 and found.size > 0


def is_size(found: Any) -> bool:
    """Two numbers above 0."""
    return len(found) == 2 and all(type(number) is int and number > 0 for number in found)


def is_count(found: Any) -> bool:
    """Pixels of each label value (256,), and width and height, whose product they sum up to."""
    counts, size = found
    whole = counts.shape == (256,) and counts.dtype == np.int64 and counts.min() >= 0
    return whole and is_size(size) and counts.sum() == size[0] * size[1]


def is_kind(found: Any) -> bool:
    """A format and a mode."""
    return isinstance(found, str) and len(found.split(" ")) == 2


def is_list(found: Any) -> bool:
    """Samples, at least one."""
    paths = [path for sample in found for path in sample[:2]]
    return len(found) > 0 and {*map(type, found)} == {Sample} and all(isinstance(path, Path) for path in paths)


def is_listed_index(found: Any) -> bool:
    """Samples, and their index."""
    return is_list(found[0]) and is_index(found[1], len(found[0]))


def is_index(found: Index, num_samples: int) -> bool:
    """Which labels occur, (N,256) bool, and heights and widths (N,2)."""
    values, sizes = found
    labels = {*np.flatnonzero(values.any(axis=0))}
    shapes = [(values.shape, values.dtype), (sizes.shape, sizes.dtype)]
    return shapes == [((num_samples, 256), bool), ((num_samples, 2), int)] and labels <= SPEC.label_values


def are_classes(found: Any) -> bool:
    """2 to 255 names, each once, and as many colours."""
    names, colours = found
    named = 2 <= len(names) == len({*names}) <= 255 and all(name == name.strip() != "" for name in names)
    return named and len(colours) == len(names) and all(is_colour(colour) for colour in colours)


def is_colour(found: Any) -> bool:
    """RGB, 0 to 255."""
    return len(found) == 3 and all(type(part) is int and 0 <= part <= 255 for part in found)


def is_task(found: Any) -> bool:
    """Each class in one step, the background first."""
    arrived = [label for step in found.steps for label in step]
    brings = all(found.new_classes(step) for step in range(found.num_steps))
    return type(found) is Task and sorted(arrived) == list(range(21)) and arrived[0] == 0 and brings


def are_rows(found: Any) -> bool:
    """Rows of one task by step, at least one, their figures fractions of 1 or NaN."""
    steps = [row.step for row in found]
    figures = [figure for row in found for figure in (*row.iou, row.mean_iou)]
    lengths = {row.num_classes for row in found}
    return (
        steps == sorted({*steps})
        and len(lengths) == 1
        and all(1 <= len(row.iou) <= row.num_classes for row in found)
        and all(math.isnan(figure) or 0 <= figure <= 1 for figure in figures)
    )
