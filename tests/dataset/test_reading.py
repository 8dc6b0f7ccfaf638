"""What files may be read, and what is said of the others."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import ExifTags, Image

from dataset import reading
from dataset.reading import MAX_PIXELS, count_labels, image_size, probe, read_image, read_mask
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
    kind = {"empty": "empty, or zeros alone", "text": "a text"}.get(damage)
    said = rf"\({kind}\); put the \w+ .*there, as PNG.*, or take it out" if kind else r"\(.+\); restore the file"
    with pytest.raises(UserError, match=rf"file\.png cannot be read {said}$") as caught:
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


def bare_png(path: Path, width: int, height: int, body: bytes) -> None:
    """A PNG of one bit per pixel that claims a size."""
    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("side", "real"), [(100_000, False), (10_001, True)])
def test_a_file_that_claims_too_much_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, real: bool
):
    path = tmp_path / "large.png"
    rows = side if real else 10
    bare_png(path, side, side, zlib.compress(bytes((1 + (side + 7) // 8) * rows)))
    assert path.stat().st_size < 20_000 < MAX_PIXELS < side * side
    monkeypatch.setattr(Image.Image, "load", None)
    for read, role in ((read_image, "image"), (read_mask, "mask"), (count_labels, "mask"), (image_size, "image")):
        with pytest.raises(UserError) as caught:
            read(path)
        claim = f"{role} {path} claims {side} x {side} pixels, and at most 100,000,000 are read"
        assert str(caught.value) == f"{claim}; restore it, or scale image and mask down"


def test_the_limit_itself_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "mask.png"
    Image.fromarray(LABELS).save(path)
    monkeypatch.setattr(reading, "MAX_PIXELS", LABELS.size)
    np.testing.assert_array_equal(read_mask(path), LABELS)
    monkeypatch.setattr(reading, "MAX_PIXELS", LABELS.size - 1)
    refuse_mask(path, r"claims 17 x 12 pixels, and at most 203 are read")


@pytest.mark.parametrize("side", [1, 7, 8, 300])
def test_a_picture_of_any_size_is_probed(tmp_path: Path, side: int):
    for form in ("JPEG", "PNG"):
        path = tmp_path / form
        Image.new("RGB", (side, side)).save(path, form)
        assert probe(path, "image") == f"{form} RGB"


def test_a_program_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "image.jpg"
    Image.fromarray(LABELS).save(path, "EPS")  # for which PIL would start Ghostscript
    monkeypatch.setattr("subprocess.Popen", None)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"image\.jpg cannot be read \(a PostScript drawing\)"):
            read(path)


@pytest.mark.parametrize("read", [read_image, read_mask, count_labels, image_size])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png cannot be read \(no regular file\); restore the file"):
        read(tmp_path / "pipe.png")


@pytest.mark.parametrize("error", [RuntimeError("one\ntwo"), KeyError(3), MemoryError(), AttributeError("gone")])
def test_whatever_pil_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_):
        raise error

    path = tmp_path / "mask.png"
    Image.fromarray(LABELS).save(path)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
    refuse_mask(path, r"^mask .*mask\.png cannot be read \(\w+\); restore the file$")


PIXELS = np.random.default_rng(1).integers(0, 256, (12, 17, 3)).astype(np.uint8)
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
"""Mark of a camera -> the picture that a person sees (Exif 2.32, tag 274)."""


def marked(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    return exif


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_a_picture_is_turned_as_the_camera_says(tmp_path: Path, suffix: str, turn: int):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(PIXELS).save(path, exif=marked(turn), **({"lossless": True} if suffix == "webp" else {}))
    seen = TURNS[turn](PIXELS)
    np.testing.assert_array_equal(read_image(path).permute(1, 2, 0), seen)
    assert image_size(path) == (seen.shape[1], seen.shape[0])


def test_a_mark_that_means_nothing_turns_nothing(tmp_path: Path):
    Image.fromarray(PIXELS).save(tmp_path / "image.png", exif=marked(77))
    np.testing.assert_array_equal(read_image(tmp_path / "image.png").permute(1, 2, 0), PIXELS)


def test_the_small_copy_in_a_photo_of_a_phone_is_left_alone(tmp_path: Path):
    photo, copy = Image.fromarray(PIXELS), Image.new("RGB", (5, 5))
    photo.save(tmp_path / "image.jpg", "MPO", save_all=True, append_images=[copy], exif=marked(6))
    assert Image.open(tmp_path / "image.jpg").format == "MPO"
    assert read_image(tmp_path / "image.jpg").shape == (3, 17, 12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_the_upper_8_are_read(tmp_path: Path, suffix: str):
    deep = np.arange(0, 65536, 1111, dtype=np.uint16).reshape(1, -1)
    Image.fromarray(deep).save(tmp_path / f"image.{suffix}")
    image = read_image(tmp_path / f"image.{suffix}")
    assert image[2, 0].tolist() == [int(value) // 256 for value in deep[0]]


def test_transparent_pictures_lie_on_white(tmp_path: Path):
    alpha = np.tile([0, 51, 255], (12, 6))[:, :17, None].astype(np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "image.png")
    seen = read_image(tmp_path / "image.png").permute(1, 2, 0).numpy()
    expected = 255 + (PIXELS.astype(float) - 255) * alpha / 255
    assert np.abs(seen - expected).max() <= 1
    one = Image.fromarray(PIXELS).quantize(8)
    one.save(tmp_path / "palette.png", transparency=3)
    seen, indices = read_image(tmp_path / "palette.png").permute(1, 2, 0).numpy(), np.array(one)
    assert (seen[indices == 3] == 255).all()
    np.testing.assert_array_equal(seen[indices != 3], np.array(one.convert("RGB"))[indices != 3])


OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13
NOT_OLD = pytest.mark.skipif(OLD_PILLOW, reason="Pillow 12 cannot read what it wrote")


@pytest.mark.parametrize("mode", ["CMYK", pytest.param("YCbCr", marks=NOT_OLD), "LA", "1"])
def test_other_modes_are_turned_into_rgb(tmp_path: Path, mode: str):
    file = Image.fromarray(PIXELS).convert(mode)
    file.save(tmp_path / "image.tif")
    seen = read_image(tmp_path / "image.tif").permute(1, 2, 0)
    np.testing.assert_array_equal(seen, np.array(file.convert("RGB")))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pictures_that_no_screen_shows_are_refused(tmp_path: Path, mode: str):
    file = Image.fromarray(PIXELS).convert("L").convert(mode) if mode != "LAB" else Image.new("LAB", (4, 4))
    file.save(tmp_path / "image.tif")
    for read in (read_image, image_size, lambda path: probe(path, "image")):
        with pytest.raises(UserError, match=rf"image\.tif has mode {mode}; save it with 8 bits for each of red, green"):
            read(tmp_path / "image.tif")


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_several_pictures_in_a_file_are_refused(tmp_path: Path, suffix: str):
    path = tmp_path / f"file.{suffix}"
    first, second = Image.fromarray(LABELS), Image.fromarray(255 - LABELS)
    first.save(path, save_all=True, append_images=[second])
    for read in (read_image, image_size, lambda path: probe(path, "image")):
        with pytest.raises(UserError, match=rf"image .*file\.{suffix} holds 2 pictures, .*; save the one to use"):
            read(path)
    if suffix != "webp":
        refuse_mask(path, "holds 2 pictures")


def test_a_mask_that_is_marked_as_turned_is_refused(tmp_path: Path):
    Image.fromarray(LABELS).save(tmp_path / "mask.png", exif=marked(6))
    refuse_mask(tmp_path / "mask.png", r"is marked as turned \(orientation 6\); save it as it is to be seen")


def test_masks_of_colours_are_told_the_way_out(tmp_path: Path):
    Image.fromarray(PIXELS).save(tmp_path / "mask.png")
    refuse_mask(tmp_path / "mask.png", r"has mode RGB; .*; python tools/colours_to_labels\.py turns colours into them$")


KINDS = {
    "a HEIC photo": b"\0\0\0\x20ftypheic\0\0",
    "a drawing in XML, as SVG": b"<?xml version='1.0'?><svg/>",
    "a page of the web, as a download that failed leaves": b"\n<!DOCTYPE html><html>Not found</html>",
    "a pointer of Git LFS: git lfs pull fetches the file": b"version https://git-lfs.github.com/spec/v1\noid",
    "a PDF": b"%PDF-1.7",
    "a ZIP archive": b"PK\x03\x04aaaa",
    "a Photoshop file": b"8BPS\0\1",
    "empty, or zeros alone": bytes(4000),
    "of no known kind, or broken from the start": bytes(range(80, 200)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_place_of_a_picture_is_named(tmp_path: Path, kind: str):
    (tmp_path / "image.jpg").write_bytes(KINDS[kind])
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"image\.jpg cannot be read .*; put the picture itself there") as caught:
            read(tmp_path / "image.jpg")
        assert f"({kind})" in str(caught.value)
