"""Labels of images of any size: in one piece, or in tiles that overlap."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from utils.errors import UserError
from utils.optim import in_fp32

SMALLEST_TILE = 64
"""Pixels; in a smaller one a network, whose features are 16 pixels apart, sees next to nothing around them."""
Classify = Callable[[Tensor], Tensor]  # images uint8 (B,3,h,w) to logits float32 (B,C,h,w)


class Span(NamedTuple):
    """Where a tile lies along one axis, and how much each of its pixels counts there."""

    start: int
    weights: Tensor  # (size of the tile,); over all spans that hold a pixel they add up to 1


class Prediction(NamedTuple):
    """(B,H,W) on the CPU: outputs uint8, the largest softmax probability of each float32."""

    outputs: Tensor
    confidence: Tensor


@in_fp32
def predict(
    classify: Classify, images: Tensor, *, tile: int | None = None, overlap: int = 0, batch_size: int = 1
) -> Prediction:
    """Label `images` uint8 (B,3,H,W). `tile`, `overlap`: see `spans`; without them each image is one tile.

    Where tiles overlap their logits are averaged, with weights that fall off to the border of a tile.
    """
    outputs, confidence = [], []
    for strip in _strips(classify, images, tile, overlap, batch_size):
        largest, output = strip.max(1)
        outputs.append(output.to(torch.uint8).cpu())
        confidence.append((largest - strip.logsumexp(1)).exp().cpu())
    return Prediction(torch.cat(outputs, dim=1), torch.cat(confidence, dim=1))


def spans(size: int, tile: int | None, overlap: int) -> list[Span]:
    """Tiles of `tile` pixels, spread evenly over `size` pixels, which share `overlap` pixels or more with the next.

    One tile where `size` is no more than that, or `tile` is None.
    """
    length = size if tile is None else min(tile, size)
    gaps = math.ceil((size - length) / (length - overlap)) if length < size else 0
    starts = [round(number * (size - length) / gaps) for number in range(gaps)] + [size - length]
    ramp = torch.arange(1, length + 1)
    weights = torch.minimum(ramp, ramp.flip(0)).float()
    total = torch.zeros(size)
    for start in starts:
        total[start : start + length] += weights
    return [Span(start, weights / total[start : start + length]) for start in starts]


def _strips(classify: Classify, images: Tensor, tile: int | None, overlap: int, batch_size: int) -> Iterator[Tensor]:
    """The logits (B,C,h,W) of strips as wide as the images, from top to bottom: what no later tile reaches.

    Logits of a whole picture of many classes would not fit into memory where its tiles do.
    """
    count, _, height, width = images.shape
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    high, wide = len(rows[0].weights), len(columns[0].weights)
    band = None  # (B,C,high,W): the strip that the tiles of this row lie in
    for row, (below, _) in pairwise([*rows, Span(height, torch.empty(0))]):
        places = [(image, column) for image in range(count) for column in columns]
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            cut = [images[i, :, row.start : row.start + high, c.start : c.start + wide] for i, c in batch]
            logits = classify(torch.stack(cut))
            if band is None:
                band = logits.new_zeros(count, logits.shape[1], high, width)
            for (image, column), of_tile in zip(batch, logits, strict=True):
                weights = (row.weights[:, None] * column.weights).to(logits.device)
                band[image, :, :, column.start : column.start + wide] += of_tile * weights
        done = below - row.start
        yield band[:, :, :done]
        band = torch.cat([band[:, :, done:], torch.zeros_like(band[:, :, :done])], dim=2)


def tiles_of(tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Tile and overlap in pixels, a quarter of the tile unless said otherwise. UserError where they do not go."""
    if tile is None and overlap is not None:
        raise UserError(f"--overlap {overlap}: only tiles overlap; give --tile, too")
    if tile is None:
        return None, 0
    if tile < SMALLEST_TILE:
        raise UserError(f"--tile {tile}: at least {SMALLEST_TILE} pixels")
    overlap = tile // 4 if overlap is None else overlap
    if not 0 <= overlap <= tile // 2:
        raise UserError(f"--overlap {overlap}: 0 to {tile // 2}, half of --tile {tile}")
    return tile, overlap
