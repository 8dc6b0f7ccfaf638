"""A data set against what is known of it: the numbers of a complete copy, and that every class is there."""

from collections.abc import Sequence

import numpy as np

from dataset.base import DatasetSpec
from dataset.splits import Split, SplitRules, StepSets
from tasks import Task, get_task
from utils.constants import IGNORE_INDEX


def against_published(spec: DatasetSpec, train: Split, val: Split) -> list[str]:
    """Problems: numbers of images, in all and per step, that differ from those of a complete copy (SPEC 2)."""
    if spec.num_images is None:
        return []
    problems = []
    for name, split, expected in zip(("training", "validation"), (train, val), spec.num_images, strict=True):
        if len(split.samples) != expected:
            problems.append(f"{len(split.samples):,} {name} images; a complete {spec.name} has {expected:,}")
    if problems:
        return problems  # the steps would differ too, and say nothing new
    for sizes in spec.step_sizes:
        task = get_task(spec.facts, sizes.task)
        for step in range(task.num_steps):
            sets = spec.select(train, val, task, step, SplitRules(scenario=sizes.scenario))
            for role in ("train", "test"):
                found, expected = len(getattr(sets, role)), getattr(sizes, role)[step]
                if found != expected:
                    problems.append(
                        f"{sizes.task} {sizes.scenario}, step {step}: {found:,} {role} images; a complete "
                        f"{spec.name} has {expected:,}: some masks are not the published ones"
                    )
    return problems


def missing_classes(spec: DatasetSpec, train: Split, values: np.ndarray) -> list[str]:
    """Problems: classes that no training mask shows. `values` (256,) bool: label values that occur."""
    expected = {spec.class_of[value] for value in spec.label_values} - {IGNORE_INDEX}
    missing = sorted(label for label in expected if not train.classes[:, label].any())
    if not missing:
        return []
    named = ", ".join(f"{label} ({spec.class_names[label]})" for label in missing)
    hint = ""
    if values[IGNORE_INDEX] and not values[1:IGNORE_INDEX].any():
        hint = f"; the masks hold 0 and {IGNORE_INDEX} alone, and {IGNORE_INDEX} is ignored: number the classes from 1"
    return [f"no training mask shows class {named}{hint}"]


def empty_steps(sets: Sequence[StepSets], task: Task) -> list[str]:
    """Problems: steps that would have nothing to train or test on."""
    return [
        f"{task.name}, step {step}: no image in the {role} set"
        for step, of_step in enumerate(sets)
        for role, samples in of_step._asdict().items()
        if not samples
    ]
