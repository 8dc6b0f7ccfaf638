"""Image and mask files as arrays; a file that cannot be one is the user's to fix.

PIL reads both. torchvision's decoders are faster by half a millisecond on a VOC image, but a broken PNG ends them with
a segmentation fault where PIL raises, and torchvision is about to drop them. The size that a file claims is looked at
first: a few bytes can claim more than the memory holds.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from utils.errors import UserError

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""PIL's names of images with one integer per pixel. 16 bits are fine as long as the values stay below 256."""

DEEP_MODES = ("I;16", "I;16B", "I;16L")
"""PIL's names of grey with 16 bits, which it would cut off at 255 and not scale."""

PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Those that it turns into RGB as a person sees it."""

LOSSY_FORMATS = ("JPEG", "WEBP", "JPEG2000", "MPO", "AVIF")
"""Formats that may change a pixel, and so its label."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
"""Formats that are tried; MPO comes with JPEG. PIL knows more, and for one, EPS, it starts a program with the file."""

OTHER_FILES = (
    (b"....ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC photo"),
    (rb"\s*<svg|\s*<\?xml", "a drawing in XML, as SVG"),
    (rb"\s*<(!doctype|html|head)", "a page of the web, as a download that failed leaves"),
    (b"version https://git-lfs", "a pointer of Git LFS: git lfs pull fetches the file"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript drawing"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00*$", "empty, or zeros alone"),
)
"""How files begin that stand where a picture should, and what they are."""

MAX_PIXELS = 100_000_000
"""The largest image or mask that is decoded, which takes some 400 MB."""

TURNED = ExifTags.Base.Orientation
UPRIGHT, LYING = 1, (5, 6, 7, 8)
"""Marks of a camera: the picture as it is stored, and those with which height and width change places."""
HEAD = 512
"""Bytes that tell what a file is."""

# PIL's own limit would be told as a warning up to twice its value, and without the size above that. `_opened` looks at
# every file.
Image.MAX_IMAGE_PIXELS = None


def read_image(path: Path) -> Tensor:
    """RGB image as uint8 (3,H,W), channels last in memory, as a person sees it: turned as the camera says, of 16 bits
    the upper 8, on white where it is transparent.

    UserError where the file is missing, broken, or no one picture of 8 or 16 bits.
    """
    with _opened(path, "image") as file:
        _require_picture(file, path)
        pixels = _pixels(_as_seen(file))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_mask(path: Path) -> np.ndarray:
    """Label values as uint8 (H,W). UserError where the file is missing, broken or no one label map."""
    with _opened(path, "mask") as file:
        _require_mask_mode(file, path)
        mask = _pixels(file)
    if mask.dtype == np.uint8:
        return mask
    if mask.min() < 0 or mask.max() > 255:
        raise UserError(
            f"mask {path} holds values from {mask.min()} to {mask.max()}, as files of instances do; label values are "
            "0 to 255"
        )
    return mask.astype(np.uint8)


def count_labels(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of each label value in a mask, (256,) int64, and its (width, height). UserError as for `read_mask`."""
    with _opened(path, "mask") as file:
        _require_mask_mode(file, path)
        if file.mode in ("L", "P"):
            # PIL counts in the decoded image itself, faster than numpy does in a copy of it.
            return np.array(file.histogram()), file.size
    mask = read_mask(path)
    return np.bincount(mask.ravel(), minlength=256), mask.shape[::-1]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, as `read_image` gives it, from the header alone. UserError where the file is missing
    or no picture."""
    with _opened(path, "image") as file:
        _require_picture(file, path)
        return file.size[::-1] if _turn(file) in LYING else file.size


def probe(path: Path, role: str) -> str:
    """PIL's format and mode of an image or mask, "JPEG RGB", once it has been decoded to its end. UserError as above.

    A JPEG is decoded at an eighth of its size: as good for finding out whether it is whole, and faster.
    """
    with _opened(path, role) as file:
        if role == "mask":
            _require_mask_mode(file, path)
        else:
            _require_picture(file, path)
        file.draft(None, (max(1, file.width // 8), max(1, file.height // 8)))
        mode = file.mode
        file.load()
        return f"{file.format} {mode}"


def _require_mask_mode(file: Image.Image, path: Path) -> None:
    if file.format in LOSSY_FORMATS:
        raise UserError(f"mask {path} is a {file.format} file, which may change labels; save masks as PNG")
    if file.mode not in MASK_MODES:
        cure = "" if file.mode not in PLAIN_MODES else "; python tools/colours_to_labels.py turns colours into them"
        raise UserError(
            f"mask {path} has mode {file.mode}; a mask has one channel of label values: mode "
            f"{', '.join(MASK_MODES)}{cure}"
        )
    _require_single(file, f"mask {path}")
    if (turn := _turn(file)) != UPRIGHT:
        raise UserError(f"mask {path} is marked as turned (orientation {turn}); save it as it is to be seen")


def _require_picture(file: Image.Image, path: Path) -> None:
    """UserError for what a person sees as several pictures, or what has no 8 or 16 bits."""
    _require_single(file, f"image {path}")
    if file.mode not in (*PLAIN_MODES, *DEEP_MODES):
        raise UserError(f"image {path} has mode {file.mode}; save it with 8 bits for each of red, green and blue")


def _require_single(file: Image.Image, named: str) -> None:
    # Phones put small copies behind a JPEG, which is then called MPO.
    if file.format != "MPO" and (count := getattr(file, "n_frames", 1)) > 1:
        raise UserError(f"{named} holds {count} pictures, as an animation or the pages of a scan; save the one to use")


def _turn(file: Image.Image) -> int:
    """How the camera was held, by the mark in front of the pixels. PIL turns a TIFF by itself."""
    if file.format == "TIFF" or "exif" not in file.info:
        return UPRIGHT
    turn = file.getexif().get(TURNED, UPRIGHT)
    return turn if turn in range(1, 9) else UPRIGHT


def _as_seen(file: Image.Image) -> Image.Image:
    """In RGB."""
    if _turn(file) != UPRIGHT:
        file = ImageOps.exif_transpose(file)
    if file.mode in DEEP_MODES:
        file = Image.fromarray((np.array(file) >> 8).astype(np.uint8))
    if file.has_transparency_data:
        on_white = Image.new("RGBA", file.size, "white")
        on_white.alpha_composite(file.convert("RGBA"))
        file = on_white
    return file if file.mode == "RGB" else file.convert("RGB")


def _pixels(file: Image.Image) -> np.ndarray:
    """(H,W) or (H,W,3)."""
    file.load()  # numpy would swallow some of the errors, and make an array of objects
    return np.array(file)


def _kind_of(path: Path) -> str:
    """What a file is that is no picture, in words."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    for pattern, kind in OTHER_FILES:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return kind
    return "a text" if head.isascii() and b"\0" not in head else "of no known kind, or broken from the start"


@contextmanager
def _opened(path: Path, role: str) -> Iterator[Image.Image]:
    """The file at `path`, not decoded yet; whatever PIL raises, on opening it or in the block, becomes a UserError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise OSError("no regular file")
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UserError(
                    f"{role} {path} claims {file.width} x {file.height} pixels, and at most {MAX_PIXELS:,} are read; "
                    "restore it, or scale image and mask down"
                )
            yield file
    except UserError:  # of the block itself
        raise
    except UnidentifiedImageError as error:
        cure = "put the picture itself there, as PNG or JPEG" if role != "mask" else "put the mask there, as PNG"
        raise UserError(f"{role} {path} cannot be read ({_kind_of(path)}); {cure}, or take it out") from error
    except Exception as error:  # PIL's readers of broken files fail in too many ways to name
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = text.replace(f" {str(path)!r}", "").splitlines()[0]
        raise UserError(f"{role} {path} cannot be read ({reason}); restore the file") from error
