"""Pictures of labels: beside the image or on it, and which colour is which class; and of how sure a network is."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from metrics.tables import shorten
from utils.constants import IGNORE_INDEX
from utils.files import atomic_write

PANEL, LARGEST_PANEL = 240, 1000
"""Sides, in pixels: that a small picture is scaled up to, about, and that a large one is scaled down to."""
MARGIN, GAP, HEADER, SWATCH = 16, 8, 26, 14
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
    small ones a multiple of it and large ones a part, unless their longer `side` is given, in pixels.
    """
    colours = _full_palette(palette)
    maps = [cell for row in rows for cell in row if isinstance(cell, np.ndarray) and cell.ndim == 2]
    cells = [[None if cell is None else _cell(cell, colours, side) for cell in row] for row in rows]
    return _page(cells, titles, lambda width: _legend(occurring(maps), colours, class_names, width))


def occurring(maps: Sequence[np.ndarray]) -> list[int]:
    """The labels in any of the label `maps`, ascending."""
    return sorted({int(label) for labels in maps for label in np.unique(labels)})


def _page(
    cells: Sequence[Sequence[Image.Image | None]],
    titles: Sequence[str],
    below: Callable[[int], Image.Image],
    least_width: int = 0,
) -> Image.Image:
    """Rows of pictures under the titles of their columns, if any; at the foot what `below` draws in the width given."""
    widths = [
        max([COLUMN if title else 0, *(cell.width for cell in column if cell)])
        for title, column in zip(titles, zip(*cells, strict=True), strict=True)
    ]
    heights = [max((cell.height for cell in row if cell), default=0) for row in cells]
    width = max(sum(widths) + GAP * (len(widths) - 1), least_width)
    foot, top = below(width), MARGIN + (HEADER if any(titles) else 0)
    height = top + sum(heights) + GAP * (len(cells) + 1) + foot.height + MARGIN
    page = Image.new("RGB", (2 * MARGIN + width, height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    lefts = [MARGIN + sum(widths[:column]) + GAP * column for column in range(len(widths))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, MARGIN), title, INK, font)
    for row, row_height in zip(cells, heights, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            if cell:
                page.paste(cell, (left, top))
        top += row_height + GAP
    page.paste(foot, (MARGIN, height - MARGIN - foot.height))
    return page


def _cell(cell: np.ndarray | str, colours: np.ndarray, side: int | None) -> Image.Image:
    """What stands in a cell of `draw_samples`."""
    if isinstance(cell, str):
        font = ImageFont.load_default(15)
        _, _, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 4), cell, font)
        picture = Image.new("RGB", (math.ceil(right) + GAP, max(HEADER, math.ceil(bottom) + GAP)), PAPER)
        ImageDraw.Draw(picture).text((0, 4), cell, INK, font)
        return picture
    photo = cell.ndim == 3
    height, width = cell.shape[-2:]
    longer = max(height, width)
    factor = side / longer if side else min(_enlargement(cell.shape[-2:]), LARGEST_PANEL / longer)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0)) if photo else colours[cell])
    return picture.resize(size, Image.Resampling.BICUBIC if photo else Image.Resampling.NEAREST)


def draw_overlay(image: np.ndarray, labels: np.ndarray, palette: ArrayLike, class_names: Sequence[str]) -> Image.Image:
    """The image with the colours of its labels on it, half transparent, outlined; below, the classes that occur.

    `image` uint8 (3,H,W), `labels` uint8 (H,W), `palette` (up to 256,3): colours in label order, as `class_names`. A
    black label, as the background is, leaves the image as it is.
    """
    factor, colours = _enlargement(labels.shape), _full_palette(palette)
    labels = labels.repeat(factor, 0).repeat(factor, 1)
    photo = Image.fromarray(image.transpose(1, 2, 0)).resize(labels.shape[::-1], Image.Resampling.BICUBIC)
    coloured = colours.any(axis=1)
    # On the grey values of the image, so that the hue is that of the label alone.
    tinted = Image.blend(photo.convert("L").convert("RGB"), Image.fromarray(colours[labels]), OPACITY)
    photo.paste(tinted, mask=Image.fromarray(coloured[labels]))
    edge = np.zeros(labels.shape, bool)  # pixels whose neighbour above or on the left has another label
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    photo.paste(PAPER, mask=Image.fromarray(edge))
    shown = [label for label in occurring([labels]) if coloured[label]] or occurring([labels])
    return _single(photo, lambda width, text: _legend(shown, colours, class_names, width, text))


def draw_confidence(confidence: np.ndarray) -> Image.Image:
    """A map of the largest softmax probability, (H,W) in 0..1, with the scale of its colours below."""
    height, width = confidence.shape
    factor = _enlargement(confidence.shape)
    picture = Image.fromarray(_heat(confidence)).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return _single(picture, lambda width, text: _scale("largest softmax probability", width, text))


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


def _enlargement(shape: tuple[int, int]) -> int:
    """How many times its size a picture is drawn, so that small ones can be seen."""
    return max(1, round(PANEL / max(shape)))


def _single(picture: Image.Image, below: Callable[[int, int], Image.Image]) -> Image.Image:
    """A page of one picture; `below`, of a width and the size of text as a multiple of the usual, draws its foot."""
    text = max(1, round(picture.width / READABLE))
    return _page([[picture]], [""], lambda width: below(width, text), LEGEND_WIDTH * text)


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
