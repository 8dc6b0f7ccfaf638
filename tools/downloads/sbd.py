"""The masks of SBD (Hariharan et al., ICCV 2011), MATLAB files in a .tgz, as the PNG files that VOC has."""

import io
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from scipy.io import loadmat

from tools.downloads.archives import opened
from tools.shapes.layout import voc_palette
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

FOLDER = "benchmark_RELEASE/dataset"
LISTS = (f"{FOLDER}/train.txt", f"{FOLDER}/val.txt")
MASKS = f"{FOLDER}/cls"
LABELS = (*range(21), IGNORE_INDEX)


def convert_masks(archive: Path, folder: Path, skip: Collection[str]) -> set[str]:
    """Write the mask of every image of SBD but those of `skip` to `folder`; returns the ids of all, `skip` too.

    One pass through the archive, whose images and boundaries are passed over. UserError: it is damaged, is another
    one, or holds no mask of an image that it lists.
    """
    listed, written = set(), set()
    with opened(archive) as members:
        for member in members:
            path = PurePosixPath(member.name)
            if member.name in LISTS:
                listed.update(member.read().decode().split())
            elif str(path.parent) == MASKS and path.suffix == ".mat" and path.stem not in skip:
                write_mask(folder / f"{path.stem}.png", read_mask(member.read(), member.name))
                written.add(path.stem)
    lacking = listed - written - set(skip)
    if lacking or not listed:
        what = f"mask of {min(lacking)}" if lacking else f"{LISTS[0]}"
        raise UserError(f"{archive} holds no {what}: it is not the archive of SBD; see SBD_URL and SBD_SUM")
    return listed


def read_mask(content: bytes, name: str) -> np.ndarray:
    """Labels (H,W) uint8 of a MATLAB file. UserError, with `name`, where it is none of SBD's."""
    try:
        mask = loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
    except Exception as error:  # scipy's reader fails in too many ways to name
        raise UserError(f"{name}: no mask of SBD ({type(error).__name__}: {error})") from error
    if mask.ndim != 2 or not np.isin(mask, LABELS).all():
        raise UserError(f"{name}: no mask of SBD (shape {mask.shape}, labels {mask.min()} to {mask.max()})")
    return mask.astype(np.uint8)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write labels (H,W) uint8 in the colours of VOC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    # By way of memory: PIL hides the number of the error when the disk is full.
    content = io.BytesIO()
    image.save(content, "PNG")
    path.write_bytes(content.getvalue())
