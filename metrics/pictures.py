"""Sample pictures: image, ground truth and prediction side by side, and which colour is which class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from metrics.tables import shorten
from utils.constants import IGNORE_INDEX
from utils.files import atomic_write

PANEL = 240
"""Side that a small picture is scaled up to, about; a larger one stays as it is."""
MARGIN, GAP, HEADER, SWATCH = 16, 8, 26, 14
SHEET_WIDTH = 600
PAPER, INK, IGNORED = (255, 255, 255), (36, 41, 47), (225, 225, 225)
FRAME = (175, 184, 193)
TITLES = ("image", "ground truth", "prediction")


def draw_samples(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    palette: ArrayLike,
    class_names: Sequence[str],
) -> Image.Image:
    """A row per sample: image | ground truth | prediction; below, the classes that occur.

    `images` uint8 (N,3,H,W), `labels` and `predictions` uint8 (N,H,W), `palette` (up to 256,3): colours in
    label order, as `class_names`; 255 is drawn light grey. Tensors on the CPU will do too.
    """
    images, labels, predictions = np.asarray(images), np.asarray(labels), np.asarray(predictions)
    palette = _full_palette(palette)
    count, _, height, width = images.shape
    factor = max(1, round(PANEL / max(height, width)))
    cell = (width * factor, height * factor)
    page_width = 2 * MARGIN + 3 * cell[0] + 2 * GAP
    shown = sorted(set(np.unique(labels)) | set(np.unique(predictions)))
    legend = _legend(shown, palette, class_names, page_width - 2 * MARGIN)
    page_height = MARGIN + HEADER + count * (cell[1] + GAP) + GAP + legend.height + MARGIN
    page = Image.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(TITLES):
        draw.text((MARGIN + column * (cell[0] + GAP), MARGIN), title, INK, ImageFont.load_default(15))
    for row in range(count):
        photo = Image.fromarray(images[row].transpose(1, 2, 0)).resize(cell, Image.Resampling.BICUBIC)
        maps = [
            Image.fromarray(palette[label]).resize(cell, Image.Resampling.NEAREST)
            for label in (labels[row], predictions[row])
        ]
        top = MARGIN + HEADER + row * (cell[1] + GAP)
        for column, picture in enumerate([photo, *maps]):
            page.paste(picture, (MARGIN + column * (cell[0] + GAP), top))
    page.paste(legend, (MARGIN, page_height - MARGIN - legend.height))
    return page


class SheetRow(NamedTuple):
    """A title and pairs of an image (h,w,3) and its labels (h,w), uint8; 255 is drawn light grey."""

    title: str
    cells: Sequence[tuple[np.ndarray, np.ndarray]]


def draw_sheet(rows: Sequence[SheetRow], palette: ArrayLike, class_names: Sequence[str]) -> Image.Image:
    """A contact sheet: rows of image | labels, image | labels, ... under their titles; below, the classes that occur.

    `palette` (up to 256,3): colours in label order, as `class_names`.
    """
    colours = _full_palette(palette)
    cells = [cell for row in rows for cell in row.cells]
    width = max((image.shape[1] for image, _ in cells), default=PANEL)
    height = max((image.shape[0] for image, _ in cells), default=PANEL)
    pair = 2 * width + 2 + 2 * GAP
    num_pairs = max((len(row.cells) for row in rows), default=1)
    page_width = max(2 * MARGIN + num_pairs * pair - 2 * GAP, SHEET_WIDTH)
    shown = sorted({int(label) for _, labels in cells for label in np.unique(labels)})
    legend = _legend(shown, colours, class_names, page_width - 2 * MARGIN)
    row_height = HEADER + height + GAP
    page = Image.new("RGB", (page_width, 2 * MARGIN + len(rows) * row_height + GAP + legend.height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for number, row in enumerate(rows):
        top = MARGIN + number * row_height
        draw.text((MARGIN, top), _fitted(row.title, font, page_width - 2 * MARGIN), INK, font)
        for column, (image, labels) in enumerate(row.cells):
            left = MARGIN + column * pair
            page.paste(Image.fromarray(image), (left, top + HEADER))
            page.paste(Image.fromarray(colours[labels]), (left + image.shape[1] + 2, top + HEADER))
    page.paste(legend, (MARGIN, page.height - MARGIN - legend.height))
    return page


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def _full_palette(palette: ArrayLike) -> np.ndarray:
    """(256,3) uint8: the colours of `palette`, black for labels without one, light grey for what is ignored."""
    colours = np.zeros((256, 3), np.uint8)
    given = np.array(palette, dtype=np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    colours[IGNORE_INDEX] = IGNORED
    return colours


def _fitted(text: str, font: ImageFont.ImageFont, width: int) -> str:
    """`text`, cut where it is wider than `width` pixels."""
    length = len(text)
    while font.getlength(shorten(text, length)) > width:
        length -= 1
    return shorten(text, length)


def _legend(shown: Sequence[int], palette: np.ndarray, class_names: Sequence[str], width: int) -> Image.Image:
    """Swatch and name of each label in `shown`, in columns to be read down each, `width` pixels in all."""
    font = ImageFont.load_default(13)
    names = ["not labelled" if label == IGNORE_INDEX else shorten(class_names[label], 22) for label in shown]
    entry = SWATCH + 6 + math.ceil(max(map(font.getlength, names))) + 18
    num_columns = max(1, width // entry)
    num_lines = math.ceil(len(names) / num_columns)
    line_height = SWATCH + 7
    legend = Image.new("RGB", (width, num_lines * line_height), PAPER)
    draw = ImageDraw.Draw(legend)
    for index, (label, name) in enumerate(zip(shown, names, strict=True)):
        left, top = index // num_lines * entry, index % num_lines * line_height
        draw.rectangle((left, top, left + SWATCH, top + SWATCH), tuple(map(int, palette[label])), FRAME)
        draw.text((left + SWATCH + 6, top + SWATCH / 2), name, INK, font, anchor="lm")
    return legend
