"""Readers of what anybody may have written: right, or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.folder import read_classes
from dataset.imagefolder import read_class_list
from dataset.listing import LONGEST_LINE, read_lines
from dataset.reading import count_labels, image_size, read_image, read_mask
from metrics.results import read_journal, read_rows
from tests.properties.strategies import seeds
from utils.checkpoint import fingerprint_of, load_checkpoint, load_weights, save_checkpoint, save_weights
from utils.errors import UserError

READERS: dict[str, Callable[[Path], object]] = {
    "lines": lambda path: read_lines(path, "advice"),
    "classes": read_classes,
    "class folders": read_class_list,
    "results": read_rows,
    "journal": read_journal,
    "mask": read_mask,
    "labels of a mask": count_labels,
    "image": read_image,
    "size of an image": image_size,
    "checkpoint": lambda path: load_checkpoint(path, "a checkpoint"),
    "weights": load_weights,
    "safetensors": lambda path: load_weights(path.rename(path.with_suffix(".safetensors"))),
}
BEGINNINGS = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"II*\0",
    b"BM",
    b"PK\x03\x04",
    b"\x80\x02}q\0",
    b"P5\n",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A name of its own, whose file each example writes anew."""
    return tmp_path_factory.mktemp("readers") / "file"


def require_right_or_refused(read: Callable[[Path], object], path: Path) -> None:
    try:
        read(path)
    except UserError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize("reader", READERS)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_in_one_line(file: Path, reader: str, beginning: bytes, rest: bytes):
    file.write_bytes(beginning + rest)
    require_right_or_refused(READERS[reader], file)


@pytest.mark.parametrize("reader", ["mask", "image", "checkpoint", "safetensors"])
@given(st.data())
def test_a_changed_file_is_taken_or_refused_in_one_line(file: Path, reader: str, data: st.DataObject):
    if reader == "checkpoint":
        save_checkpoint(file, {"model_state": {"a": torch.arange(6.0)}, "trainer_state": {"b": [1, 2]}})
    elif reader == "safetensors":
        save_weights(file, {"a": torch.arange(6.0), "b": torch.tensor(3)}, {"backbone": "resnet26"})
    else:
        Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).save(file, format="PNG")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    require_right_or_refused(READERS[reader], file)


words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40).filter(
    lambda word: len(word) <= LONGEST_LINE and word.splitlines() in ([], [word])
)


@given(st.lists(words, max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lines_are_those_that_were_written_on_any_system(file: Path, lines: list[str], end: str, marked: bool):
    text = "".join(line + end for line in lines)
    file.write_bytes(b"\xef\xbb\xbf" * marked + text.encode())
    expected = lines if marked or not text.startswith("\ufeff") else [lines[0][1:], *lines[1:]]
    assert read_lines(file, "advice") == expected


@given(seeds, st.integers(1, 30), st.integers(1, 30), st.sampled_from(["L", "P", "I;16", "tif"]))
def test_a_mask_is_read_to_the_pixel(file: Path, seed: int, height: int, width: int, kind: str):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    picture = Image.fromarray(labels.astype(np.uint16) if kind == "I;16" else labels)
    if kind == "P":
        picture.putpalette([value // 3 for value in range(768)])
    picture.save(file, format="TIFF" if kind == "tif" else "PNG")
    np.testing.assert_array_equal(read_mask(file), labels)
    counts, size = count_labels(file)
    assert size == image_size(file) == (width, height)
    np.testing.assert_array_equal(counts, np.bincount(labels.ravel(), minlength=256))


plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=4), seeds)
def test_a_checkpoint_comes_back(file: Path, state: dict, seed: int):
    weights = {"a": torch.randn(3, 2, generator=torch.Generator().manual_seed(seed)), "b": torch.tensor(seed % 100)}
    whole = {"model_state": weights, "trainer_state": state}
    save_checkpoint(file, whole)
    assert fingerprint_of(load_checkpoint(file, "a checkpoint")) == fingerprint_of(whole)
