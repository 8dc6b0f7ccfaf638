"""Which samples a step trains, validates and tests on (SPEC 2): pure functions of what occurs where."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tasks import Step
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

    scenario: str
    domain_test: str = "public"
    test_on_val: bool = False
    val_on_trainset: bool = False
    cross_val: bool = False


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


def _parts(samples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """`samples` as `shuffled_parts` says."""
    kept, held_out = shuffled_parts(len(samples))
    return [samples[position] for position in kept], [samples[position] for position in held_out]


def showing(classes: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """(N,) bool: which masks hold at least one pixel of `labels`."""
    return classes[:, list(labels)].any(axis=1)


def overlapped(classes: np.ndarray, step: Step) -> np.ndarray:
    """(N,) bool: masks that show a class of `step`; what else they show does not matter."""
    return showing(classes, step.new_classes)


def disjoint(classes: np.ndarray, step: Step) -> np.ndarray:
    """(N,) bool: masks that show a class of `step` and none of a later one."""
    seen = (*step.old_classes, *step.new_classes)
    of_later_steps = np.delete(classes, [0, *seen, IGNORE_INDEX], axis=1).any(axis=1)
    return overlapped(classes, step) & ~of_later_steps


def partitioned(classes: np.ndarray, step: Step) -> np.ndarray:
    """(N,) bool: masks of `step` where each image serves one step of the task and no other (arXiv 2405.09858).

    An image is of one of the classes that it shows, drawn with equal chances and the same way always, whatever the
    task; it serves the step of that class. One that shows no class is background, and serves step 0.
    """
    present = classes.copy()
    present[:, [0, IGNORE_INDEX]] = False
    count = present.sum(axis=1)
    drawn = np.floor(np.random.RandomState(1).random_sample(len(classes)) * count)
    owner = np.where(count > 0, (present.cumsum(axis=1) > drawn[:, None]).argmax(axis=1), 0)
    return np.isin(owner, step.arriving)


Scenario = Callable[[np.ndarray, Step], np.ndarray]
"""(classes (N,256), step) -> (N,) bool: which training images serve the step."""

SCENARIOS: dict[str, Scenario] = {"overlapped": overlapped, "disjoint": disjoint, "partitioned": partitioned}


def select_by_class(
    train: Split,
    val: Split,
    step: Step,
    rules: SplitRules,
    *,
    test: Split | None = None,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
) -> StepSets:
    """The sets of a class-incremental step.

    Training: what the scenario says. Validation: as overlapped, from the val split. Test: images of the test split, or
    of val where there is none, that show a class seen so far. The other rules change where validation and test images
    come from.
    """
    test = val if test is None else test
    if rules.test_on_val:
        kept, held_out = shuffled_parts(len(train.samples))
        train, test = train.take(kept), train.take(held_out)
    train_set = train.take(np.flatnonzero(scenarios[rules.scenario](train.classes, step))).samples
    val_set = val.take(np.flatnonzero(overlapped(val.classes, step))).samples
    test_set = test.take(np.flatnonzero(showing(test.classes, (*step.old_classes, *step.new_classes)))).samples
    return StepSets(*_with_own_validation(train_set, val_set, rules), list(test_set))


def select_by_domain(train: Split, val: Split, step: Step, rules: SplitRules) -> StepSets:
    """The sets of a domain-incremental step; each sample knows its domain.

    Both splits together are dealt out anew: of the domains of the step, shuffled, the first 80% train and the rest
    validates. Test, as the published figures were measured: the last 20% of such a shuffle over all domains seen so
    far, which at later steps holds images that earlier steps trained on. `domain_test` "clean": what each step so
    far held out itself.
    """
    samples = [*train.samples, *val.samples]

    def parts(*steps: Step) -> tuple[list[Any], list[Any]]:
        domains = {domain for step in steps for domain in step.domains}
        return _parts([sample for sample in samples if sample.domain in domains])

    so_far = step.task.steps[: step.number + 1]
    train_set, val_set = parts(step)
    if rules.domain_test == "clean":
        test_set = [sample for earlier in so_far for sample in parts(earlier)[1]]
    else:
        test_set = parts(*so_far)[1]
    return StepSets(*_with_own_validation(train_set, val_set, rules), test_set)


def _with_own_validation(train: Sequence[Any], val: Sequence[Any], rules: SplitRules) -> tuple[list[Any], list[Any]]:
    """Training and validation images after the rules that take the latter from the former."""
    if rules.val_on_trainset:
        val = train
    elif rules.cross_val:
        train, val = _parts(train)
    return list(train), list(val)


def refuse_empty(sets: StepSets, step: Step) -> None:
    """UserError where a set of `step` is empty."""
    cure = {
        "train": "add images to the training split, choose another --task, or another --scenario",
        "val": "add images to the val split, or give --val_on_trainset or --cross_val",
        "test": "add images to the split that is tested, or choose another --task",
    }
    for name, samples in sets._asdict().items():
        if not samples:
            units = "classes" if step.classes_arrive else "domains"
            arriving = ", ".join(map(str, step.domains or step.new_classes))
            raise UserError(
                f"--task {step.task.name}: step {step} ({units} {arriving}) is a step with no image in its {name} "
                f"set; {cure[name]}"
            )


def choose(shown: Sequence[Collection[int]], wanted: Collection[int], count: int) -> list[int]:
    """Positions of `count` images, or all, ascending, that show the `wanted` classes; `shown`: the classes in each.

    One after the other, of those with most wanted classes that none has shown yet the farthest from the chosen ones:
    frames of a video lie side by side, and look alike. When all classes have been shown, or can be no more, it begins
    again.
    """
    chosen: list[int] = []
    missing = set(wanted)

    def rank(position: int) -> tuple[int, int]:
        distance = min((abs(position - other) for other in chosen), default=0)
        return len(missing.intersection(shown[position])), distance

    while len(chosen) < min(count, len(shown)):
        left = [position for position in range(len(shown)) if position not in chosen]
        best = max(left, key=rank)
        new = missing.intersection(shown[best])
        if not new and missing != set(wanted):
            missing = set(wanted)
            continue
        chosen.append(best)
        missing -= new
    return sorted(chosen)
