"""Images of any size are labelled whole or in tiles; to a network that looks at single pixels it is all the same."""

import math
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from tiles import predict, spans

MIX = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)) / 50


def pixelwise(images: Tensor) -> Tensor:
    """A network whose outputs depend on nothing but their own pixel."""
    return torch.einsum("ck,bkhw->bchw", MIX, images.float())


def with_borders(images: Tensor) -> Tensor:
    """A network whose outputs depend on where a pixel lies in the tile, too."""
    rows, columns = (torch.linspace(0, 3, size) for size in images.shape[-2:])
    return pixelwise(images) * rows[:, None] + columns


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("tile", "overlap"), [(None, 0), (16, 0), (16, 8), (17, 3), (40, 20), (1000, 0)])
def test_tiles_of_a_pixelwise_network_give_what_the_whole_image_gives(tile: int | None, overlap: int):
    for (height, width), batch_size in product([(40, 57), (16, 16), (1, 90), (33, 7)], [1, 3, 100]):
        images = random_images(2, 3, height, width)
        found = predict(pixelwise, images, tile=tile, overlap=overlap, batch_size=batch_size)
        confidence, outputs = pixelwise(images).softmax(1).max(1)
        assert found.outputs.dtype == torch.uint8 and torch.equal(found.outputs, outputs.to(torch.uint8))
        torch.testing.assert_close(found.confidence, confidence)


def test_a_whole_image_has_the_logits_of_the_network_to_the_last_bit():
    images = random_images(1, 3, 30, 20)
    found = predict(with_borders, images)
    logits = with_borders(images)
    assert torch.equal(found.confidence, (logits.amax(1) - logits.logsumexp(1)).exp())


@pytest.mark.parametrize(("tile", "overlap", "batch_size"), [(16, 4, 1), (16, 8, 3), (25, 0, 2)])
def test_where_tiles_overlap_their_logits_are_averaged(tile: int, overlap: int, batch_size: int):
    height, width = 41, 70
    image = random_images(1, 3, height, width)
    total, weight = torch.zeros(5, height, width), torch.zeros(height, width)
    places = [
        (row.start, column.start) for row in spans(height, tile, overlap) for column in spans(width, tile, overlap)
    ]
    for top, left in reversed(places):  # in whatever order
        area = (..., slice(top, top + tile), slice(left, left + tile))
        nearness = torch.tensor([min(i + 1, tile - i) for i in range(tile)], dtype=torch.float32)
        weights = nearness[:, None] * nearness
        total[area] += with_borders(image[area])[0] * weights
        weight[area] += weights
    logits = total / weight
    found = predict(with_borders, image, tile=tile, overlap=overlap, batch_size=batch_size)
    assert torch.equal(found.outputs[0], logits.argmax(0).to(torch.uint8))
    torch.testing.assert_close(found.confidence[0], logits.softmax(0).amax(0))


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(100, 30, 10), (100, 30, 15), (31, 30, 0), (30, 30, 15), (7, 30, 9)]
)
def test_tiles_cover_all_pixels_and_share_as_many_as_asked(size: int, tile: int, overlap: int):
    found = spans(size, tile, overlap)
    length = min(tile, size)
    starts = [span.start for span in found]
    assert starts[0] == 0 and starts[-1] + length == size and all(len(span.weights) == length for span in found)
    assert all(length - (after - before) >= overlap for before, after in pairwise(starts))
    total = torch.zeros(size)
    for span in found:
        assert (span.weights > 0).all()
        total[span.start : span.start + length] += span.weights
    torch.testing.assert_close(total, torch.ones(size))
    assert len(found) == max(1, math.ceil((size - overlap) / (tile - overlap)))


def test_batches_hold_no_more_than_they_may():
    sizes = []

    def watched(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return pixelwise(images)

    predict(watched, random_images(1, 3, 60, 100), tile=20, overlap=0, batch_size=3)
    assert sizes == [3, 2] * 3
