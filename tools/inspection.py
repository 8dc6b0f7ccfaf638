"""What tools/check_data.py finds: every file opened and decoded, and a data set against what is known of it.

What is wrong with a file is noted, and the others are still looked at.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset import make_split
from dataset.base import DatasetSpec, Sample
from dataset.index import map_in_threads, scan_sample
from dataset.reading import probe
from dataset.splits import Split, SplitRules, StepSets
from tasks import Task, get_task
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

FEW_FOLDERS = 8
"""More are counted together: Cityscapes has one for each city."""


class Finding(NamedTuple):
    """What one sample holds."""

    sample: Sample  # with its size where nothing is wrong
    counts: np.ndarray | None  # (256,) pixels per label value, None where something is wrong with a file
    kinds: list[str]  # format and mode of image and mask
    problems: list[str]


class Survey(NamedTuple):
    """A split as it lies on disk."""

    findings: list[Finding]
    problems: list[str]  # those of the split as a whole, then those of its files
    counts: np.ndarray  # (N,256) pixels of each label value in the masks of the samples that can be used
    split: Split  # these samples as the loaders would see them


def survey(spec: DatasetSpec, root: Path, name: str) -> Survey:
    """Read every image and mask of split `name` on all cores. UserError where folders or lists lack."""
    samples = spec.list_samples(root, name)
    findings = map_in_threads(partial(examine, label_values=spec.label_values), samples, f"{spec.name} {name}")
    twice = [path for path, count in Counter(sample.image for sample in samples).items() if count > 1]
    problems = [f"image {path} is listed more than once in {name}" for path in twice]
    problems += [problem for finding in findings for problem in finding.problems]
    sound = [finding for finding in findings if not finding.problems]
    counts = np.array([finding.counts for finding in sound]).reshape(-1, 256)
    return Survey(findings, problems, counts, make_split(spec, [finding.sample for finding in sound], counts > 0))


def examine(sample: Sample, label_values: frozenset[int]) -> Finding:
    """Open and decode both files of a sample."""
    problems, kinds, counts = [], [], None
    try:
        counts, size = scan_sample(sample, label_values)
        sample = sample._replace(size=size)
    except UserError as error:
        problems.append(str(error))
    for path, role in ((sample.image, "image"), (sample.mask, "mask")):
        try:
            kinds.append(f"{role} {probe(path, role)}")
        except UserError as error:
            problems.append(str(error))
    return Finding(sample, counts, kinds, list(dict.fromkeys(problems)))


def count_files(findings: Sequence[Finding]) -> dict[Path, tuple[int, int]]:
    """Folder -> (files in it, those that samples name), for the folders of images and masks, or those around them."""
    named = Counter(path.parent for finding in findings for path in set(finding.sample[:2]))
    totals: dict[Path, tuple[int, int]] = {}
    for folder in filter(Path.is_dir, sorted(named)):
        place = folder if len(named) <= FEW_FOLDERS else folder.parent
        there, used = totals.get(place, (0, 0))
        totals[place] = there + sum(path.is_file() for path in folder.iterdir()), used + named[folder]
    return totals


def shared_images(train: Survey, val: Survey) -> list[str]:
    """Problems: images that serve both splits, so that a test would see what was trained on."""
    trained = {finding.sample.image for finding in train.findings}
    both = [finding.sample.image for finding in val.findings if finding.sample.image in trained]
    return [f"image {path} is listed for training and for validation" for path in both]


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


def against_published(spec: DatasetSpec, train: Split, val: Split) -> list[str]:
    """Problems: numbers of images, in all and per step, that differ from those of a complete copy (SPEC 2)."""
    problems = []
    for name, split, expected in zip(("training", "validation"), (train, val), spec.num_images or (), strict=False):
        if len(split.samples) != expected:
            problems.append(f"{len(split.samples):,} {name} images; a complete {spec.name} has {expected:,}")
    if problems:
        return problems  # the steps would differ too, and say nothing new
    for sizes in spec.step_sizes if spec.num_images else ():
        for step in get_task(spec.facts, sizes.task).steps:
            sets = spec.select(train, val, step, SplitRules(scenario=sizes.scenario))
            for role in ("train", "test"):
                found, expected = len(getattr(sets, role)), getattr(sizes, role)[step.number]
                if found != expected:
                    problems.append(
                        f"{sizes.task} {sizes.scenario}, step {step}: {found:,} {role} images; a complete "
                        f"{spec.name} has {expected:,}: some masks are not the published ones"
                    )
    return problems
