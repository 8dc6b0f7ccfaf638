"""Pictures of labels: beside the image or on it, and which colour is which class; and of how sure a network is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from metrics.tables import shorten
from utils.constants import IGNORE_INDEX
from utils.files import atomic_write

PANEL = 240
"""Side that a small picture is scaled up to, about; a larger one stays as it is."""
MARGIN, GAP, HEADER, SWATCH = 16, 8, 26, 14
SHEET_WIDTH = 600
COLUMN = 90
"""Least width of a column of `draw_samples`, so that its title has room."""
LEGEND_WIDTH = 240
"""Least width of what stands below a single picture."""
READABLE = 1000
"""Width of a picture, in pixels, that text of the usual size goes with; below a larger one it grows."""
OPACITY = 0.6
"""Of the colours that lie on an image."""
PAPER, INK, IGNORED = (255, 255, 255), (36, 41, 47), (225, 225, 225)
FRAME = (175, 184, 193)


def draw_samples(
    rows: Sequence[Sequence[np.ndarray | str | None]],
    titles: Sequence[str],
    palette: ArrayLike,
    class_names: Sequence[str],
    side: int | None = None,
) -> Image.Image:
    """Pictures side by side under the `titles` of their columns; below, the classes that occur.

    A cell is an image, uint8 (3,h,w), labels, uint8 (h,w), a text, or None, which leaves it empty. `palette`
    (up to 256,3): colours in label order, as `class_names`; 255 is drawn light grey. Pictures have their own size,
    small ones a multiple of it, unless their longer `side` is given, in pixels.
    """
    colours = _full_palette(palette)
    cells = [[_cell(cell, colours, side) for cell in row] for row in rows]
    font = ImageFont.load_default(15)
    widths = [
        max([COLUMN if title else 0, *(cell.width for cell in column if cell)])
        for title, column in zip(titles, zip(*cells, strict=True), strict=True)
    ]
    heights = [max((cell.height for cell in row if cell), default=0) for row in cells]
    page_width = 2 * MARGIN + sum(widths) + GAP * (len(widths) - 1)
    maps = [cell for row in rows for cell in row if isinstance(cell, np.ndarray) and cell.ndim == 2]
    legend = _legend(occurring(maps), colours, class_names, page_width - 2 * MARGIN)
    page_height = MARGIN + HEADER + sum(heights) + GAP * (len(rows) + 1) + legend.height + MARGIN
    page = Image.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    lefts = [MARGIN + sum(widths[:column]) + GAP * column for column in range(len(widths))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, MARGIN), title, INK, font)
    top = MARGIN + HEADER
    for row, height in zip(cells, heights, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            if cell:
                page.paste(cell, (left, top))
        top += height + GAP
    page.paste(legend, (MARGIN, page_height - MARGIN - legend.height))
    return page


def occurring(maps: Sequence[np.ndarray]) -> list[int]:
    """The labels in any of the label `maps`, ascending."""
    return sorted({int(label) for labels in maps for label in np.unique(labels)})


def _cell(cell: np.ndarray | str | None, colours: np.ndarray, side: int | None) -> Image.Image | None:
    """What stands in a cell of `draw_samples`."""
    if cell is None:
        return None
    if isinstance(cell, str):
        font = ImageFont.load_default(15)
        picture = Image.new("RGB", (math.ceil(font.getlength(cell)) + GAP, HEADER), PAPER)
        ImageDraw.Draw(picture).text((0, 4), cell, INK, font)
        return picture
    photo = cell.ndim == 3
    height, width = cell.shape[-2:]
    factor = side / max(height, width) if side else max(1, round(PANEL / max(height, width)))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0)) if photo else colours[cell])
    return picture.resize(size, Image.Resampling.BICUBIC if photo else Image.Resampling.NEAREST)


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
    shown = occurring([labels for _, labels in cells])
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


def draw_overlay(image: np.ndarray, labels: np.ndarray, palette: ArrayLike, class_names: Sequence[str]) -> Image.Image:
    """The image with the colours of its labels on it, half transparent, outlined; below, the classes that occur.

    `image` uint8 (3,H,W), `labels` uint8 (H,W), `palette` (up to 256,3): colours in label order, as `class_names`. A
    black label, as the background is, leaves the image as it is.
    """
    image, labels, colours = np.asarray(image), np.asarray(labels), _full_palette(palette)
    height, width = labels.shape
    factor = max(1, round(PANEL / max(height, width)))
    cell = (width * factor, height * factor)
    photo = Image.fromarray(image.transpose(1, 2, 0)).resize(cell, Image.Resampling.BICUBIC)
    labels = labels.repeat(factor, 0).repeat(factor, 1)
    coloured = colours.any(axis=1)
    # On the grey values of the image, so that the hue is that of the label alone.
    tinted = Image.blend(photo.convert("L").convert("RGB"), Image.fromarray(colours[labels]), OPACITY)
    photo.paste(tinted, mask=Image.fromarray(coloured[labels]))
    photo.paste(PAPER, mask=_outlines(labels))
    text = _text_factor(cell[0])
    occurring = np.unique(labels)
    shown = occurring[coloured[occurring]].tolist() or occurring.tolist()
    return _above(photo, _legend(shown, colours, class_names, max(cell[0], LEGEND_WIDTH * text), text))


def draw_confidence(confidence: np.ndarray) -> Image.Image:
    """A map of the largest softmax probability, (H,W) in 0..1, with the scale of its colours below."""
    height, width = np.shape(confidence)
    factor = max(1, round(PANEL / max(height, width)))
    cell = (width * factor, height * factor)
    picture = Image.fromarray(_heat(np.asarray(confidence))).resize(cell, Image.Resampling.NEAREST)
    text = _text_factor(cell[0])
    return _above(picture, _scale("largest softmax probability", max(cell[0], LEGEND_WIDTH * text), text))


def colour_mask(labels: np.ndarray, palette: ArrayLike) -> Image.Image:
    """Labels uint8 (H,W) as an image with a palette, mode P, whose pixels are the label values."""
    mask = Image.fromarray(np.asarray(labels))
    mask.putpalette(_full_palette(palette).tobytes())
    return mask


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


def _text_factor(width: int) -> int:
    """How much larger than usual text is below a picture of `width` pixels."""
    return max(1, round(width / READABLE))


def _above(picture: Image.Image, legend: Image.Image) -> Image.Image:
    """A page with one below the other."""
    width = max(picture.width, legend.width)
    page = Image.new("RGB", (2 * MARGIN + width, 3 * MARGIN + picture.height + legend.height), PAPER)
    page.paste(picture, (MARGIN, MARGIN))
    page.paste(legend, (MARGIN, 2 * MARGIN + picture.height))
    return page


def _outlines(labels: np.ndarray) -> Image.Image:
    """Mask of the pixels whose neighbour above or on the left has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return Image.fromarray(edge)


def _heat(values: np.ndarray) -> np.ndarray:
    """Colours, uint8 with an axis of 3 more, of values in 0..1: from dark blue to yellow, evenly to the eye."""
    return colormaps["viridis"](values, bytes=True)[..., :3]


def _scale(title: str, width: int, text: int) -> Image.Image:
    """The colours of 0..1 from left to right, with figures below and `title` above."""
    font, line, bar = ImageFont.load_default(13 * text), 20 * text, SWATCH * text
    scale = Image.new("RGB", (width, 2 * line + bar), PAPER)
    draw = ImageDraw.Draw(scale)
    draw.text((0, 0), title, INK, font)
    scale.paste(Image.fromarray(_heat(np.tile(np.linspace(0, 1, width), (bar, 1)))), (0, line))
    for value, anchor in ((0.0, "la"), (0.25, "ma"), (0.5, "ma"), (0.75, "ma"), (1.0, "ra")):
        draw.text((value * (width - 1), line + bar + 3 * text), f"{value:g}", INK, font, anchor=anchor)
    return scale


def _fitted(text: str, font: ImageFont.ImageFont, width: int) -> str:
    """`text`, cut where it is wider than `width` pixels."""
    length = len(text)
    while font.getlength(shorten(text, length)) > width:
        length -= 1
    return shorten(text, length)


def _legend(
    shown: Sequence[int], palette: np.ndarray, class_names: Sequence[str], width: int, text: int = 1
) -> Image.Image:
    """Swatch and name of each label in `shown`, in columns to be read down each, `width` pixels in all.

    `text`: how many times the usual size it has.
    """
    font, swatch = ImageFont.load_default(13 * text), SWATCH * text
    names = ["not labelled" if label == IGNORE_INDEX else shorten(class_names[label], 22) for label in shown]
    entry = swatch + math.ceil(max(map(font.getlength, names))) + 24 * text
    num_columns = max(1, width // entry)
    num_lines = math.ceil(len(names) / num_columns)
    line_height = swatch + 7 * text
    legend = Image.new("RGB", (width, num_lines * line_height), PAPER)
    draw = ImageDraw.Draw(legend)
    for index, (label, name) in enumerate(zip(shown, names, strict=True)):
        left, top = index // num_lines * entry, index % num_lines * line_height
        draw.rectangle((left, top, left + swatch, top + swatch), tuple(map(int, palette[label])), FRAME)
        draw.text((left + swatch + 6 * text, top + swatch / 2), name, INK, font, anchor="lm")
    return legend
