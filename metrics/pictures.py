"""Pictures of labels: beside the image or on it, and which colour is which class; and of how sure a network is.

A folder of samples keeps what a network says of the same test images after every step (SPEC 9), for sample K and
step T: `K_image.png`, and as palette pictures `K_truth.png` and `K_stepT.png`, whose values are the positions of the
classes in their order of arrival, 255 for what is not labelled.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont, ImageOps

from metrics.tables import shorten
from utils.constants import IGNORE_INDEX
from utils.errors import UserError
from utils.files import atomic_write

PANEL, LARGEST_PANEL = 240, 1000
"""Sides, in pixels: that a small picture is scaled up to, about, and that a large one is scaled down to."""
STRIP_SIDE = 128
"""Longer side of a picture in a strip, in pixels."""
MARGIN, GAP, HEADER, SWATCH = 16, 8, 28, 14
COLUMN, LEGEND_WIDTH = 100, 240
"""Least widths: of a column with text, and of what stands below a single picture."""
READABLE = 1000
"""Width of a picture, in pixels, that text of the usual size goes with; below a larger one it grows."""
OPACITY = 0.6
"""Of the colours that lie on an image."""
PAPER, INK, IGNORED = (255, 255, 255), (36, 41, 47), (225, 225, 225)
FRAME = (175, 184, 193)
RIGHT, WRONG = (26, 127, 55), (209, 68, 47)
"""Of what is written of a whole image."""


class Text(NamedTuple):
    """Written in a colour."""

    text: str
    ink: tuple[int, int, int]


Cell = np.ndarray | str | Text | None


class DrawnSample(NamedTuple):
    """A test image after a step, uint8."""

    image: np.ndarray  # (3,h,w)
    truth: np.ndarray  # (h,w), 255 is not labelled
    prediction: np.ndarray  # (h,w)


class History(NamedTuple):
    """A test image over the steps, uint8."""

    image: np.ndarray  # (3,h,w)
    truth: np.ndarray  # (h,w), 255 is not labelled
    predictions: dict[int, np.ndarray]  # step -> (h,w)


def save_samples(folder: Path, step: int, samples: Sequence[DrawnSample], palette: ArrayLike) -> None:
    """Put what is seen after `step` into `folder`, empty until now or with the same samples after other steps.

    `palette` as `colour_mask` takes it. Of other samples, say of another `--sample_num`, nothing is kept.
    """
    before = [history.image for history in read_history(folder)]
    same = len(before) == len(samples) and all(map(np.array_equal, before, [sample.image for sample in samples]))
    for path in () if same else folder.glob("[0-9]*_*.png"):
        path.unlink()
    for number, sample in enumerate(samples):
        save_picture(Image.fromarray(sample.image.transpose(1, 2, 0)), folder / f"{number}_image.png")
        save_picture(colour_mask(sample.truth, palette), folder / f"{number}_truth.png")
        save_picture(colour_mask(sample.prediction, palette), folder / f"{number}_step{step}.png")


def read_history(folder: Path) -> list[History]:
    """The samples in `folder`, none where there is no such folder. UserError for a file that is no picture."""
    histories: list[History] = []
    while (image := folder / f"{len(histories)}_image.png").is_file():
        number = len(histories)
        steps = {path: path.stem.rpartition("step")[2] for path in folder.glob(f"{number}_step*.png")}
        predictions = {int(step): _read(path) for path, step in steps.items() if step.isdecimal()}
        truth = _read(folder / f"{number}_truth.png")
        if any(labels.ndim != 2 or labels.dtype != np.uint8 for labels in (truth, *predictions.values())):
            raise UserError(f"{folder} holds pictures that no run wrote; delete it, and test the run again")
        histories.append(History(_read(image, colour=True).transpose(2, 0, 1), truth, predictions))
    return histories


def _read(path: Path, *, colour: bool = False) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return np.array(picture.convert("RGB") if colour else picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture of a run: {error}; delete its folder, and test the run again") from None


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def colour_mask(labels: np.ndarray, palette: ArrayLike) -> Image.Image:
    """Labels uint8 (H,W) as an image with a palette, mode P, whose pixels are the label values."""
    mask = Image.fromarray(np.asarray(labels))
    mask.putpalette(_full_palette(palette).tobytes())
    return mask


def draw_strip(runs: Mapping[str, Sequence[History]], palette: ArrayLike, class_names: Sequence[str]) -> Image.Image:
    """A block of rows per sample, a row per run: image | ground truth | run | step 0 | ... ; below, the classes that
    occur.

    `runs`: samples by name of the run. The images are those of the first run; of another run, what it says of other
    images is left out. `palette` (up to 256,3): colours in label order, as `class_names`.
    """
    steps = sorted({step for samples in runs.values() for sample in samples for step in sample.predictions})
    rows = []
    for block in zip(*runs.values(), strict=False):
        image, truth, _ = block[0]
        shared = [image, truth]
        for name, sample in zip(runs, block, strict=True):
            if np.array_equal(sample.image, image):
                rows.append([*shared, name, *map(sample.predictions.get, steps)])
                shared = [None, None]
    titles = ["image", "ground truth", "", *(f"step {step}" for step in steps)]
    return draw_samples(rows, titles, palette, class_names, side=STRIP_SIDE)


def draw_samples(
    rows: Sequence[Sequence[Cell]],
    titles: Sequence[str],
    palette: ArrayLike,
    class_names: Sequence[str],
    side: int | None = None,
) -> Image.Image:
    """Pictures side by side under the `titles` of their columns; below, the classes that occur.

    A cell is an image, uint8 (3,h,w), labels, uint8 (h,w), a text, or None, which leaves it empty. `palette`
    (up to 256,3): colours in label order, as `class_names`; 255 is drawn light grey. Pictures have their own size,
    small ones a multiple of it and large ones a part, unless their longer `side` is given, in pixels. The label of a
    whole image, of one pixel, is written: green or red where it is, or is not, the first one of its row.
    """
    colours = _full_palette(palette)
    rows = [_written(row, class_names) for row in rows]
    maps = [cell for row in rows for cell in row if isinstance(cell, np.ndarray) and cell.ndim == 2]
    samples = _grid([[_cell(cell, colours, side) for cell in row] for row in [titles, *rows]])
    if not maps:
        return ImageOps.expand(samples, MARGIN, PAPER)
    return _page(
        samples, _legend(np.unique(np.concatenate([*map(np.unique, maps)])), colours, class_names, samples.width)
    )


def _written(row: Sequence[Cell], class_names: Sequence[str]) -> list[Cell]:
    """The cells of a row, with names instead of labels of whole images."""
    names = [_name(int(cell[0, 0]), class_names) if _is_of_whole(cell) else None for cell in row]
    truth = next((name for name in names if name), None)
    inks = [
        INK if position == names.index(truth) else RIGHT if name == truth else WRONG
        for position, name in enumerate(names)
    ]
    return [Text(name, ink) if name else cell for cell, name, ink in zip(row, names, inks, strict=True)]


def _is_of_whole(cell: Cell) -> bool:
    return isinstance(cell, np.ndarray) and cell.shape == (1, 1)


def _name(label: int, class_names: Sequence[str]) -> str:
    return "not labelled" if label == IGNORE_INDEX else shorten(class_names[label], 22)


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
    shown = np.unique(labels)
    return _page(
        photo, _legend(shown[coloured[shown]] if coloured[shown].any() else shown, colours, class_names, *_foot(photo))
    )


def draw_errors(image: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """The image, pale and grey, with its wrong pixels red, uint8 (3,H,W); and their part of those with a truth.

    `image` uint8 (3,H,W), `truth` and `labels` (H,W); where the truth is 255 nothing is wrong. NaN where all of it is.
    """
    known = truth != IGNORE_INDEX
    wrong = known & (labels != truth)
    pale = 128 + np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) // 2
    drawn = np.stack([np.where(wrong, colour, pale) for colour in WRONG]).astype(np.uint8)
    return drawn, float(wrong.sum() / known.sum()) if known.any() else math.nan


def draw_confidence(confidence: np.ndarray) -> Image.Image:
    """A map of the largest softmax probability, (H,W) in 0..1, with the scale of its colours below."""
    colours = Image.fromarray(_heat(confidence))
    picture = ImageOps.scale(colours, _enlargement(confidence.shape), Image.Resampling.NEAREST)
    width, text = _foot(picture)
    font, line, bar = ImageFont.load_default(13 * text), 20 * text, SWATCH * text
    scale = Image.new("RGB", (width, 2 * line + bar), PAPER)
    draw = ImageDraw.Draw(scale)
    draw.text((0, 0), "largest softmax probability", INK, font)
    scale.paste(Image.fromarray(_heat(np.tile(np.linspace(0, 1, width), (bar, 1)))), (0, line))
    for value, anchor in ((0.0, "la"), (0.25, "ma"), (0.5, "ma"), (0.75, "ma"), (1.0, "ra")):
        draw.text((value * (width - 1), line + bar + 3 * text), f"{value:g}", INK, font, anchor=anchor)
    return _page(picture, scale)


def _full_palette(palette: ArrayLike) -> np.ndarray:
    """(256,3) uint8: the colours of `palette`, black for labels without one, light grey for what is ignored."""
    given = np.array(palette, dtype=np.uint8).reshape(-1, 3)
    colours = np.pad(given, ((0, 256 - len(given)), (0, 0)))
    colours[IGNORE_INDEX] = IGNORED
    return colours


def _enlargement(shape: tuple[int, int]) -> int:
    """How many times its size a picture is drawn, so that small ones can be seen."""
    return max(1, round(PANEL / max(shape)))


def _heat(values: np.ndarray) -> np.ndarray:
    """Colours, uint8 with an axis of 3 more, of values in 0..1: from dark blue to yellow, evenly to the eye."""
    from matplotlib import colormaps  # see metrics/report.py

    return colormaps["viridis"](values, bytes=True)[..., :3]


def _cell(cell: Cell, colours: np.ndarray, side: int | None) -> Image.Image | None:
    """What stands in a cell of `draw_samples`."""
    ink = INK
    if isinstance(cell, Text):
        cell, ink = cell
    if isinstance(cell, str) and cell:
        font = ImageFont.load_default(15)
        _, _, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), cell, font)
        text = Image.new("RGB", (max(COLUMN, math.ceil(right)), max(HEADER - GAP, math.ceil(bottom))), PAPER)
        ImageDraw.Draw(text).text((0, 0), cell, ink, font)
        return text
    if not isinstance(cell, np.ndarray):
        return None
    photo, longer = cell.ndim == 3, max(cell.shape[-2:])
    factor = side / longer if side else min(_enlargement(cell.shape[-2:]), LARGEST_PANEL / longer)
    picture = Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0)) if photo else colours[cell])
    size = [max(1, round(length * factor)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BICUBIC if photo else Image.Resampling.NEAREST)


def _grid(cells: Sequence[Sequence[Image.Image | None]], gap: int = GAP) -> Image.Image:
    """Pictures in rows and columns that are `gap` pixels apart."""
    widths = [max((cell.width for cell in column if cell), default=0) for column in zip(*cells, strict=True)]
    heights = [max((cell.height for cell in row if cell), default=0) for row in cells]
    size = [sum(lengths) + gap * (len(lengths) - 1) for lengths in (widths, heights)]
    grid = Image.new("RGB", size, PAPER)
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            if cell:
                grid.paste(cell, (sum(widths[:column]) + gap * column, sum(heights[:row]) + gap * row))
    return grid


def _page(picture: Image.Image, foot: Image.Image) -> Image.Image:
    """A picture and what stands below it, with a margin."""
    return ImageOps.expand(_grid([[picture], [foot]], gap=MARGIN), MARGIN, PAPER)


def _foot(picture: Image.Image) -> tuple[int, int]:
    """Width of what stands below a single picture, and the size of its text as a multiple of the usual."""
    text = max(1, round(picture.width / READABLE))
    return max(picture.width, LEGEND_WIDTH * text), text


def _legend(
    shown: Sequence[int], palette: np.ndarray, class_names: Sequence[str], width: int, text: int = 1
) -> Image.Image:
    """Swatch and name of each label in `shown`, in columns to be read down each, `width` pixels in all.

    `text`: how many times the usual size it has.
    """
    font, swatch = ImageFont.load_default(13 * text), SWATCH * text
    names = [_name(label, class_names) for label in shown]
    entry = swatch + math.ceil(max(map(font.getlength, names))) + 24 * text
    num_lines = math.ceil(len(names) / max(1, width // entry))
    line_height = swatch + 7 * text
    legend = Image.new("RGB", (width, num_lines * line_height), PAPER)
    draw = ImageDraw.Draw(legend)
    for index, (label, name) in enumerate(zip(shown, names, strict=True)):
        left, top = index // num_lines * entry, index % num_lines * line_height
        draw.rectangle((left, top, left + swatch, top + swatch), tuple(map(int, palette[label])), FRAME)
        draw.text((left + swatch + 6 * text, top + swatch / 2), name, INK, font, anchor="lm")
    return legend
