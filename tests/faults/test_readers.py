"""Broken files: whatever reads a file of a user takes it, in the form that is promised, or refuses it in one line."""

import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.folder import read_classes
from dataset.index import load_index
from dataset.reading import count_labels, image_size, probe, read_image, read_mask
from dataset.voc import CLASS_NAMES, SPEC, list_samples
from metrics.results import Row, read_rows, write_row
from tasks import read_class_order
from tests.workplace import Workplace
from utils.errors import UserError

RNG = np.random.default_rng(0)
LABELS = RNG.choice([*range(21), 255], (17, 24)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (17, 24, 3), dtype=np.uint8)
WORDS = [b"", b"\0", b"\xff\xfe", b"\xc3", b"\r\n", b"\x1b[2J", b",,,", b"#", b"-1", b"1e999", b"nan", b"9" * 5_000]
WORDS += [b"\xff" * 4, b"\x7f\xff", b"../../../../etc/passwd", b"/JPEGImages/x.jpg", b"x" * 200_000, b"1\n" * 5_000]
UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
FILES = 60
"""Of each reader."""


class Reader(NamedTuple):
    """What reads a file, here in the folder `root`, and what is promised of its results."""

    read: Callable[[Path], Any]
    is_right: Callable[[Any], bool]
    valid: list[bytes]
    path: str = "file"


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def readers(root: Path) -> dict[str, Reader]:
    """In `root`, a data set in the layout of VOC."""
    images = [encoded(COLOURS, form) for form in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")]
    masks = [encoded(LABELS, form) for form in ("PNG", "TIFF", "BMP", "GIF")]
    masks += [encoded(LABELS > 10, "TIFF"), encoded(LABELS.astype(np.uint16), "PNG")]
    samples, rows = list_samples(root, "train"), root / "rows.csv"

    def index(path: Path) -> Any:
        return load_index(samples, root=root, name="kept", label_values=SPEC.label_values)

    index(root)
    for step in range(3):
        write_row(rows, Row(step, (0.75, 1 / 3, 0.0)[: 1 + step], 3, 0.5))
    order = ",".join(map(str, range(16))) + "\n16\n17\n18\n19\n20\n"
    listed, kept = "list/val.txt", ".index/kept.npz"
    return {
        "image": Reader(read_image, lambda x: x.dtype == torch.uint8 and x.ndim == 3 and len(x) == 3, images),
        "mask": Reader(read_mask, lambda x: x.dtype == np.uint8 and x.ndim == 2, masks),
        "labels": Reader(count_labels, lambda x: x[0].sum() == x[1][0] * x[1][1] > 0, masks),
        "size": Reader(image_size, lambda x: len(x) == 2 and min(x) > 0, images),
        "probe": Reader(lambda path: probe(path, "image"), lambda x: len(x.split(" ")) == 2, images),
        "list": Reader(lambda path: list_samples(root, "val"), len, [(root / listed).read_bytes()], listed),
        "classes": Reader(
            read_classes, lambda x: len({*x[0]}) == len(x[1]) > 1, [b"ground\nbig dog\n", b"a #102030\nb"]
        ),
        "order": Reader(
            lambda path: read_class_order(SPEC.facts, path, CLASS_NAMES),
            lambda task: sorted(label for arrived in task.arrivals for label in arrived) == list(range(21)),
            [order.encode()],
        ),
        "rows": Reader(read_rows, lambda rows: len({row.num_classes for row in rows}) == 1, [rows.read_bytes()]),
        "index": Reader(
            index, lambda x: len(x.values) == len(x.sizes) == len(samples), [(root / kept).read_bytes()], kept
        ),
    }


def broken(random: Random, content: bytes, others: list[bytes]) -> bytes:
    """Cut, changed, or with a piece of something else in it; half of all changes are among the first 64 bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        start = random.randrange(1 + min(len(content), random.choice((64, len(content)))))
        end = random.choice((start, start + random.randint(1, 8), len(content)))
        own = random.choice((random.choice(others)[start:], content[start:end] * 9))
        content = content[:start] + random.choice((random.randbytes(4), random.choice(WORDS), own)) + content[end:]
    return content


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_broken_file_is_taken_or_refused_in_one_line(own_data: Workplace):
    accepted, refused = Counter(), Counter()
    for name, reader in readers(own_data.data).items():
        random, path = Random(name), own_data.data / reader.path
        contents = [broken(random, random.choice(reader.valid), reader.valid) for _ in range(FILES)]
        for number, content in enumerate(reader.valid + contents, -len(reader.valid)):
            path.write_bytes(content)
            try:
                assert reader.is_right(reader.read(path)), f"{name}, file {number}"
                accepted[name] += number >= 0
            except UserError as error:
                said = str(error)
                assert said and len(said) < 10_000 and not UNPRINTABLE.search(said), f"{name}, file {number}: {said!r}"
                assert number >= 0, f"{name} refuses a sound file: {said}"
                refused[name] += 1
            except Exception as error:
                raise AssertionError(f"{name}, file {number}: {content[:200]!r}") from error
    # Both happen to each of them; a broken index alone is never refused, but built again.
    assert min(accepted.values()) > 0 and {*refused} == {*accepted} - {"index"}
