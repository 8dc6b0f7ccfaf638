"""Images of earlier steps that a method sees again: a list of names in the checkpoint, and no copies (METHODS 13.5)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.base import Sample
from utils.errors import UserError


class Remembered(NamedTuple):
    """An image of an earlier step, and what was known to be on it when it was chosen."""

    name: str  # relative to the folder of the data set
    classes: tuple[int, ...]  # as labels of the task, the background left out


Memory = tuple[Remembered, ...]


class MemoryRule(NamedTuple):
    """How a method fills its memory, and how it sees what is in it."""

    mixed: bool  # a random half of each batch is of the memory; else it is appended to the images of the step
    all_labels: bool  # with the labels of all classes seen so far; else of those of the step, as any image
    centred: bool  # what is on an image is looked for in its centre; else in a random crop


WHOLE_IMAGES = MemoryRule(mixed=False, all_labels=True, centred=True)
"""Of any method, where classes of whole images arrive: as in iCaRL, but chosen at random, not by herding [design]."""


def choose_memory(candidates: Sequence[Remembered], labels: Sequence[int], size: int, *, seed: int) -> Memory:
    """`size` of the candidates, balanced over the classes `labels` (METHODS 13.5).

    Candidates and classes are shuffled. Then each class in turn takes the first candidate left that shows it. Fewer
    than `size` are chosen where no candidate that shows a class is left.
    """
    random = np.random.RandomState(seed)
    left = [candidates[index] for index in random.permutation(len(candidates))]
    classes = np.asarray(labels)[random.permutation(len(labels))]
    chosen: list[Remembered] = []
    while len(chosen) < size:
        before = len(chosen)
        for label in classes.tolist():
            found = next((index for index, image in enumerate(left) if label in image.classes), None)
            if found is not None and len(chosen) < size:
                chosen.append(left.pop(found))
        if len(chosen) == before:
            break
    return tuple(chosen)


def name_of(sample: Sample, root: Path) -> str:
    """What the memory calls it, wherever the data set lies."""
    return sample.image.relative_to(root).as_posix()


def read_memory(saved: Any) -> Memory:
    """The memory that a checkpoint holds. UserError where it is no list of names and labels."""
    try:
        return tuple(Remembered(str(name), tuple(int(label) for label in labels)) for name, labels in saved)
    except (TypeError, ValueError):
        raise UserError(f"it was changed: its memory is {str(saved)[:60]!r}, and not a list of images") from None


def plain_memory(memory: Memory) -> list[list[Any]]:
    """The inverse of `read_memory`, in plain values."""
    return [[image.name, list(image.classes)] for image in memory]
