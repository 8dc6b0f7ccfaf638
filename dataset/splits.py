"""Which samples a step trains, validates and tests on (SPEC 2): pure functions of what occurs where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tasks import Task
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

TRAIN_SHARE = 0.8


class Split(NamedTuple):
    """A split of a data set as it lies on disk."""

    samples: Sequence[Any]
    classes: np.ndarray  # (N,256) bool: classes[i, c] tells whether class c (or 255) occurs in the mask of sample i

    def take(self, positions: np.ndarray) -> "Split":
        """The samples at `positions`, in that order."""
        return Split([self.samples[position] for position in positions], self.classes[positions])


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """The options of DataConfig of the same names."""

    overlap: bool
    test_on_val: bool
    val_on_trainset: bool
    cross_val: bool


class StepSets(NamedTuple):
    """Samples of one step."""

    train: list[Any]
    val: list[Any]
    test: list[Any]


def shuffled_parts(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions 0..count-1, shuffled the same way always, as their first 80% and the rest."""
    positions = np.arange(count)
    np.random.RandomState(1).shuffle(positions)
    first = int(TRAIN_SHARE * count)
    return positions[:first], positions[first:]


def showing(classes: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """(N,) bool: which masks hold at least one pixel of `labels`."""
    return classes[:, list(labels)].any(axis=1)


def free_of_future(classes: np.ndarray, seen: Iterable[int]) -> np.ndarray:
    """(N,) bool: in which masks every pixel is of `seen` classes, background or ignored."""
    return ~np.delete(classes, [0, *seen, IGNORE_INDEX], axis=1).any(axis=1)


def select_by_class(train: Split, val: Split, task: Task, step: int, rules: SplitRules) -> StepSets:
    """The sets of a class-incremental step.

    Training: images that show a class of the step and, unless `overlap`, none of a later one. Validation: as
    overlapped, from the val split. Test: val images that show a class seen so far. The rules change where
    validation and test images come from. UserError where a set would be empty.
    """
    if rules.cross_val and rules.val_on_trainset:
        raise UserError("--cross_val and --val_on_trainset both say where validation images come from; give one")
    new, old = task.new_classes(step), task.old_classes(step)
    test = val
    if rules.test_on_val:
        kept, held_out = shuffled_parts(len(train.samples))
        train, test = train.take(kept), train.take(held_out)
    chosen = showing(train.classes, new)
    if not rules.overlap:
        chosen &= free_of_future(train.classes, (*new, *old))
    train_set = train.take(np.flatnonzero(chosen)).samples
    val_set = val.take(np.flatnonzero(showing(val.classes, new))).samples
    if rules.val_on_trainset:
        val_set = train_set
    elif rules.cross_val:
        kept, held_out = shuffled_parts(len(train_set))
        train_set, val_set = [train_set[i] for i in kept], [train_set[i] for i in held_out]
    test_set = test.take(np.flatnonzero(showing(test.classes, (*old, *new)))).samples
    sets = StepSets(list(train_set), list(val_set), list(test_set))
    _refuse_empty(sets, task, step)
    return sets


def _refuse_empty(sets: StepSets, task: Task, step: int) -> None:
    mend = {
        "train": "add images to the train list, choose another --task, or give --overlap",
        "val": "add images to the val list, or give --val_on_trainset or --cross_val",
        "test": "add images to the val list, or choose another --task",
    }
    for name, samples in sets._asdict().items():
        if not samples:
            labels = ", ".join(map(str, task.new_classes(step)))
            raise UserError(
                f"--task {task.name}: step {step} (classes {labels}) is a step with no image in its {name} "
                f"set; {mend[name]}"
            )
