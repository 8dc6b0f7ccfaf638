"""The samples of a data set as they lie on the disk: listed, indexed, doubted, and dealt out to the steps of a task."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from config import DataConfig
from dataset.base import DatasetSpec, Sample
from dataset.index import load_index
from dataset.splits import Split, SplitRules, StepSets
from tasks import Task
from utils.checkpoint import fingerprint_of
from utils.errors import UserError

SHAPES_MARKER = "shapes.json"
"""What tools/make_shapes.py leaves in a data set that it drew."""


def scenario_of(config: DataConfig, spec: DatasetSpec) -> str:
    """Which images serve a step: what the options say where the data set leaves a choice."""
    if len(spec.scenarios) == 1:
        return spec.scenarios[0]
    return config.scenario or ("overlapped" if config.overlap else "disjoint")


def select_steps(config: DataConfig, spec: DatasetSpec, task: Task) -> list[StepSets]:
    """The samples of every step of the task. UserError where the data are not what they should be."""
    rules = SplitRules(
        scenario=scenario_of(config, spec),
        domain_test=config.domain_test,
        test_on_val=config.test_on_val,
        val_on_trainset=config.val_on_trainset,
        cross_val=config.cross_val,
    )
    root = root_of(config, spec)
    splits = {name: load_split(spec, root, name) for name in spec.splits(root)}
    shared = in_both({name: split.samples for name, split in splits.items()})
    if shared:
        raise UserError(f"{shared[0]}{f' (and {len(shared) - 1} more)' if len(shared) > 1 else ''}; take it out of one")
    return select_sets(spec, splits, task, rules)


def select_sets(spec: DatasetSpec, splits: Mapping[str, Split], task: Task, rules: SplitRules) -> list[StepSets]:
    """The sets of every step, from the splits by name."""
    train, val, *test = splits.values()
    return [spec.select(train, val, step, rules, **({"test": test[0]} if test else {})) for step in task.steps]


def root_of(config: DataConfig, spec: DatasetSpec) -> Path:
    """Where the data set lies: absolute, so that its index is the same whatever folder the run was started from."""
    return (config.data_root or Path("data") / spec.folder).absolute()


def are_published(spec: DatasetSpec, root: Path) -> bool:
    """Whether these are the pictures that published figures are about: a complete copy, and none that was drawn."""
    if spec.num_images is None or (root / SHAPES_MARKER).is_file():
        return False
    return tuple(len(spec.list_samples(root, name)) for name in ("train", "val")) == spec.num_images


def images_digest(samples: Sequence[Sample], *, with_bytes: bool = True) -> str:
    """Which images these are, wherever the data set lies: their names, pixels and bytes, in order. Old checkpoints were
    written without bytes."""
    facts = ([sample.image.parent.name, sample.image.name, *sample.size] for sample in samples)
    if with_bytes:
        facts = ([*of_it, *sample.bytes] for of_it, sample in zip(facts, samples, strict=True))
    return fingerprint_of([*facts])


def load_split(spec: DatasetSpec, root: Path, name: str) -> Split:
    """The samples of split `name` with the classes that occur in each."""
    samples = spec.list_samples(root, name)
    if faults := spec.list_faults(root, name) + listed_twice(samples, name):
        others = f" (and {len(faults) - 1} more: see tools/check_data.py)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{others}")
    index = load_index(samples, root=root, name=f"{spec.folder}-{name}", label_values=spec.label_values)
    if doubt := spec.doubts(index.values):
        raise UserError(f"{root}, {name}: {doubt}; nothing was trained on them")
    known = zip(samples, index.sizes.tolist(), index.bytes, index.places, strict=True)
    samples = [sample._replace(size=tuple(size), bytes=of_it, place=place) for sample, size, of_it, place in known]
    return make_split(spec, samples, index.values)


def in_both(splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Problems: images to score that are training images, by name or by a link to the same file."""
    train, *scored = splits.values()
    trained = {sample.place: sample.image for sample in train if sample.place}
    problems = []
    for sample in (sample for samples in scored for sample in samples if sample.place in trained):
        other = trained[sample.place]
        same = f"image {sample.image} and the training image {other} are the same file"
        listed = f"image {sample.image} is listed for training and for validation"
        problems.append(listed if sample.image == other else same)
    return problems


def listed_twice(samples: Sequence[Sample], name: str) -> list[str]:
    """Problems: images that come more than once in split `name`."""
    times = Counter(sample.image for sample in samples)
    return [f"image {path} is listed more than once in {name}" for path, count in times.items() if count > 1]


def make_split(spec: DatasetSpec, samples: Sequence[Sample], values: np.ndarray) -> Split:
    """A split of N samples; `values` (N,256) bool: which label values occur in the mask of each."""
    classes = np.zeros_like(values)
    for value in spec.label_values:
        classes[:, spec.class_of[value]] |= values[:, value]
    shown = [tuple(np.flatnonzero(row).tolist()) for row in classes]
    samples = [sample._replace(classes=of_it) for sample, of_it in zip(samples, shown, strict=True)]
    return Split(samples, classes)
