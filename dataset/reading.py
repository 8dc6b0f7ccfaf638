"""Image and mask files as arrays; a file that cannot be one is the user's to fix.

PIL reads both. torchvision's decoders are faster by half a millisecond on a VOC image, but a broken PNG ends them with
a segmentation fault where PIL raises, and torchvision is about to drop them. The size that a file claims is looked at
first: a few bytes can claim more than the memory holds.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.errors import UserError

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""PIL's names of images with one integer per pixel. 16 bits are fine as long as the values stay below 256."""

LOSSY_FORMATS = ("JPEG", "WEBP", "JPEG2000", "MPO", "AVIF")
"""Formats that may change a pixel, and so its label."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
"""Formats that are tried; MPO comes with JPEG. PIL knows more, and for one, EPS, it starts a program with the file."""

MAX_PIXELS = 100_000_000
"""The largest image or mask that is decoded, which takes some 400 MB."""

# PIL's own limit would be told as a warning up to twice its value, and without the size above that. `_opened` looks at
# every file.
Image.MAX_IMAGE_PIXELS = None


def read_image(path: Path) -> Tensor:
    """RGB image as uint8 (3,H,W), channels last in memory. UserError where the file is missing or broken."""
    with _opened(path, "image") as file:
        pixels = _pixels(file if file.mode == "RGB" else file.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_mask(path: Path) -> np.ndarray:
    """Label values as uint8 (H,W). UserError where the file is missing, broken or no label map."""
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
    """(width, height) in pixels, from the header alone. UserError where the file is missing or no image."""
    with _opened(path, "image") as file:
        return file.size


def probe(path: Path, role: str) -> str:
    """PIL's format and mode of an image or mask, "JPEG RGB", once it has been decoded to its end. UserError as above.

    A JPEG is decoded at an eighth of its size: as good for finding out whether it is whole, and faster.
    """
    with _opened(path, role) as file:
        file.draft(None, (max(1, file.width // 8), max(1, file.height // 8)))
        mode = file.mode
        file.load()
        return f"{file.format} {mode}"


def _require_mask_mode(file: Image.Image, path: Path) -> None:
    if file.format in LOSSY_FORMATS:
        raise UserError(f"mask {path} is a {file.format} file, which may change labels; save masks as PNG")
    if file.mode not in MASK_MODES:
        raise UserError(
            f"mask {path} has mode {file.mode}; a mask has one channel of label values: mode {', '.join(MASK_MODES)}"
        )


def _pixels(file: Image.Image) -> np.ndarray:
    """(H,W) or (H,W,3)."""
    file.load()  # numpy would swallow some of the errors, and make an array of objects
    return np.array(file)


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
    except Exception as error:  # PIL's readers of broken files fail in too many ways to name
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = text.replace(f" {str(path)!r}", "").splitlines()[0]
        raise UserError(f"{role} {path} cannot be read ({reason}); restore the file") from error
