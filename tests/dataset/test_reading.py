"""What files may be read, and what is said of the others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.reading import count_labels, image_size, read_image, read_mask
from utils.errors import UserError

LABELS = np.random.default_rng(0).integers(0, 256, (12, 17)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_masks_of_one_channel_are_read(tmp_path: Path, mode: str):
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    dtype = {"I;16": np.uint16, "I": np.int32}.get(mode, np.uint8)
    file = Image.fromarray(LABELS.astype(dtype))
    if mode == "P":
        file.putpalette([255 - value // 3 for value in range(768)])
    file.save(path)
    mask = read_mask(path)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LABELS)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_labels_are_found_in_masks_of_every_mode(tmp_path: Path, mode: str):
    path = tmp_path / "mask.png"
    file = Image.fromarray(LABELS.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        file.putpalette([255 - value // 3 for value in range(768)])
    file.save(path)
    counts, size = count_labels(path)
    pixels = [int(value) for value in LABELS.ravel()]
    assert counts.tolist() == [pixels.count(value) for value in range(256)]
    assert size == (17, 12)


def refuse_mask(path: Path, text: str) -> None:
    for read in (read_mask, count_labels):
        with pytest.raises(UserError, match=text) as caught:
            read(path)
        # The reason alone, not wrapped in another one.
        assert str(caught.value).startswith(f"mask {path} ") and str(caught.value).count(str(path)) == 1


def test_colour_pictures_and_files_of_instances_are_no_masks(tmp_path: Path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.stack([LABELS] * 3, axis=2)).save(path)
    refuse_mask(path, r"has mode RGB; a mask has one channel .* L, P, ")
    Image.fromarray(LABELS.astype(np.uint16) + 1000).save(path)
    refuse_mask(path, r"holds values from 1\d\d\d to 1\d\d\d, as files of instances do; label values are 0 to 255$")


@pytest.mark.parametrize("grey", [True, False])
def test_a_jpeg_is_no_mask(tmp_path: Path, grey: bool):
    path = tmp_path / "mask.jpg"
    Image.fromarray(LABELS).convert("L" if grey else "RGB").save(path)
    refuse_mask(path, r"is a JPEG file, which may change labels; save masks as PNG$")


def test_a_mask_of_one_bit_holds_0_and_1(tmp_path: Path):
    path = tmp_path / "mask.png"
    Image.fromarray(LABELS > 100).save(path)
    np.testing.assert_array_equal(read_mask(path), LABELS > 100)
    counts, _ = count_labels(path)
    assert counts[:2].tolist() == [(LABELS <= 100).sum(), (LABELS > 100).sum()] and counts[2:].sum() == 0


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_rgb_whatever_the_file_holds(tmp_path: Path, suffix: str):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(LABELS).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((3, 12, 17), torch.uint8)
    assert torch.equal(image[0], image[2])
    assert image_size(path) == (17, 12)


@pytest.mark.parametrize("read", [read_image, read_mask, count_labels, image_size])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "folder"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, read, damage: str):
    path = tmp_path / "file.png"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"no image\n")
    with pytest.raises(UserError, match=r"file\.png cannot be read \(.+\); restore the file") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("file.png") == 1


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(LABELS).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=rf"image .*cut\.{suffix} cannot be read"):
        read_image(path)
    if suffix == "png":
        refuse_mask(path, r"cannot be read \(.*\); restore the file$")
