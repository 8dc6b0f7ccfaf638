"""Numbers and colours that several packages share."""

from functools import cache

IGNORE_INDEX = 255
"""Label of pixels that no loss and no score looks at."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@cache
def voc_palette(num_colours: int) -> tuple[tuple[int, int, int], ...]:
    """RGB of the VOC devkit: bits 0, 3, 6 of a class id are the top bits of red, 1, 4, 7 green, 2, 5 blue."""
    return tuple(
        tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))
        for label in range(num_colours)
    )
