"""Which test images are drawn after every step: the same ones, chosen so that every class is to be seen."""

from collections.abc import Collection, Sequence


def choose(shown: Sequence[Collection[int]], wanted: Collection[int], count: int) -> list[int]:
    """Positions of `count` images, fewer where there are not so many, ascending; `shown`: the classes in each.

    One after the other, that which shows most of the `wanted` classes that none has shown yet, and of such the first.
    When all have been shown, or can be no more, it begins again.
    """
    chosen: list[int] = []
    missing = set(wanted)
    while len(chosen) < min(count, len(shown)):
        left = [position for position in range(len(shown)) if position not in chosen]
        best = max(left, key=lambda position: len(missing.intersection(shown[position])))
        new = missing.intersection(shown[best])
        if not new and missing != set(wanted):
            missing = set(wanted)
            continue
        chosen.append(best)
        missing -= new
    return sorted(chosen)
