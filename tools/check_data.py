"""Look at a data set before trusting it: every file is read, counted and compared; nothing is changed.

    python tools/check_data.py voc data/voc --task 15-1 --scenario overlapped
    python tools/check_data.py folder data/mine --class_order order.txt

Prints what there is and, for the task, the images of each step and the pixels of each class; draws images with their
labels per step into one picture. Where all is well it ends with what to train, and a command line to copy. Exit code: 0
all is well, 1 problems, each named with its file, 2 not to be read.
"""

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS, open_dataset, open_task, scenario_of
from dataset.base import DatasetSpec, Sample
from dataset.catalogue import SHAPES_MARKER, in_both, listed_twice, make_split, select_sets
from dataset.index import map_in_threads, ranges, scan_sample
from dataset.labels import map_labels, training_lut
from dataset.reading import probe, read_image
from dataset.splits import Split, SplitRules, StepSets
from metrics.pictures import draw_samples, save_picture
from metrics.tables import MAX_NAME, images_table, in_columns, shorten
from tasks import Task, get_task
from tools.proposal import propose, tasks_of, this_machine
from utils.constants import IGNORE_INDEX
from utils.errors import UserError, exit_code
from utils.files import digest_of
from utils.options import ToolParser, a_path, a_png

PER_STEP = 4
"""Images of the contact sheet."""
SHEET_SIDE = 150
"""Longer side of a picture there, in pixels."""
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


def check(options: argparse.Namespace) -> int:
    """Read, report and draw; 1 where there are problems."""
    config = DataConfig(
        dataset=options.dataset,
        data_root=options.root,
        task=options.task,
        class_order=options.class_order,
        scenario=options.scenario,
        overlap=None if options.scenario else True,
    )
    spec = open_dataset(config)
    task = open_task(config, spec)
    root = options.root.absolute()
    surveys = {name: survey(spec, root, name) for name in spec.splits(root)}
    splits = {name: of_split.split for name, of_split in surveys.items()}
    print_files(spec, surveys)
    rules = SplitRules(scenario=scenario_of(config, spec))
    sets = select_sets(spec, splits, task, rules)
    arriving, counts = [spec.arriving(step) for step in task.steps], [tuple(map(len, of_step)) for of_step in sets]
    title = f"{spec.name} {task.name}, {rules.scenario}: images per step"
    print(f"{images_table(arriving, counts, title)}\n\n{classes_table(spec, task, surveys)}\n")
    problems = [problem for of_split in surveys.values() for problem in of_split.problems]
    problems += inconsistencies(spec, task, surveys, sets)
    if (root / SHAPES_MARKER).is_file():
        print("drawn by tools/make_shapes.py: not compared with the published numbers")
    else:
        problems += against_published(spec, splits["train"], splits["val"])
    if any(of_step.train for of_step in sets):
        name = options.class_order.stem if options.class_order else options.task
        sheet = options.sheet or Path(f"{options.dataset}-{name}.png")
        save_picture(contact_sheet(spec, task, sets), sheet)
        print(f"contact sheet: {sheet}")
    print("\n  ".join([f"{len(problems)} problem(s):", *problems]) if problems else "no problem found")
    if not problems:
        tasks = {} if task.num_steps == 1 else {task.name: sets}
        tasks |= {name: select_sets(spec, splits, get_task(spec.facts, name), rules) for name in tasks_of(spec.facts)}
        sides = [min(sample.size) for sample in splits["train"].samples]
        print("", *propose(config, spec, tasks, sides, this_machine()), sep="\n")
    return 1 if problems else 0


def survey(spec: DatasetSpec, root: Path, name: str) -> Survey:
    """Read every image and mask of split `name` on all cores. UserError where folders or lists lack."""
    samples, faults = spec.list_samples(root, name), spec.list_faults(root, name)
    findings = map_in_threads(partial(examine, label_values=spec.label_values), samples, f"{spec.name} {name}")
    problems = faults + listed_twice(samples, name)
    problems += [problem for finding in findings for problem in finding.problems]
    sound = [finding for finding in findings if not finding.problems]
    counts = np.array([finding.counts for finding in sound]).reshape(-1, 256)
    if doubt := spec.doubts(counts > 0):
        problems.insert(0, f"{name}: {doubt}")
    return Survey(findings, problems, counts, make_split(spec, [finding.sample for finding in sound], counts > 0))


def examine(sample: Sample, label_values: frozenset[int]) -> Finding:
    """Open and decode the files of a sample."""
    problems, kinds, counts = [], [], None
    try:
        if sample.image.is_file():
            status = sample.image.stat()
            sample = sample._replace(bytes=(status.st_size,), place=(status.st_dev, status.st_ino))
        counts, size = scan_sample(sample, label_values)
        sample = sample._replace(size=size)
    except UserError as error:
        problems.append(str(error))
    for path, role in zip(sample.files, ("image", "mask"), strict=False):
        try:
            kinds.append(f"{role} {probe(path, role)}")
        except UserError as error:
            problems.append(str(error))
    return Finding(sample, counts, kinds, list(dict.fromkeys(problems)))


def inconsistencies(
    spec: DatasetSpec, task: Task, surveys: Mapping[str, Survey], sets: Sequence[StepSets]
) -> list[str]:
    """Images that train and score, classes that no training mask shows, steps with nothing to train or test on."""
    samples = {name: [finding.sample for finding in of_split.findings] for name, of_split in surveys.items()}
    problems = in_both(samples) + copies(samples)
    if missing := sorted(unseen(spec, surveys) - ({0} if spec.facts.has_background else set())):
        named = ", ".join(f"{label} ({spec.class_names[label]})" for label in missing)
        problems.append(f"no training image shows class {named}")
    for step, of_step in enumerate(sets):
        empty = [role for role, samples in of_step._asdict().items() if not samples]
        problems += [f"{task.name}, step {step}: no image in the {role} set" for role in empty]
    return problems


def unseen(spec: DatasetSpec, surveys: Mapping[str, Survey]) -> set[int]:
    """Classes that no training mask shows."""
    expected = {spec.class_of[value] for value in spec.label_values} - {IGNORE_INDEX}
    return {label for label in expected if not surveys["train"].split.classes[:, label].any()}


def copies(splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Problems: images to score with the same bytes as a training image of another name."""
    train, scored = splits["train"], [sample for name in splits if name != "train" for sample in splits[name]]
    sizes = {sample.bytes for sample in scored if sample.bytes}
    trained: dict[bytes, Path] = {}
    for sample in (sample for sample in train if sample.bytes in sizes):
        trained.setdefault(digest_of(sample.image).digest(), sample.image)
    sizes, places = {path.stat().st_size for path in trained.values()}, {sample.place for sample in train}
    problems = []
    for sample in (sample for sample in scored if sample.bytes and sample.bytes[0] in sizes):
        other = trained.get(digest_of(sample.image).digest())
        if other and sample.place not in places:
            problems.append(f"image {sample.image} is a copy of the training image {other}")
    return problems


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


def print_files(spec: DatasetSpec, surveys: Mapping[str, Survey]) -> None:
    """How many files there are, and of what kinds, sizes and label values."""
    findings = [finding for of_split in surveys.values() for finding in of_split.findings]
    masks = " with masks" if findings[0].sample.mask else ""
    titles = {"train": "training", "val": "validation", "test": "test"}
    counts = [f"{len(of_split.findings):,} {titles[name]}" for name, of_split in surveys.items()]
    print(f"{spec.name}: {', '.join(counts[:-1])} and {counts[-1]} images{masks}")
    named = Counter(path.parent for finding in findings for path in set(finding.sample.files))
    there, used = Counter(), Counter()
    for folder in filter(Path.is_dir, sorted(named)):
        place = folder if len(named) <= FEW_FOLDERS else folder.parent
        there[place] += sum(path.is_file() for path in folder.iterdir())
        used[place] += named[folder]
    for place, count in there.items():
        print(f"  {place}: {count:,} files" + ("" if used[place] == count else f", {used[place]:,} of them used"))
    kinds = Counter(kind for finding in findings for kind in finding.kinds)
    print("  kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    sizes = Counter(f"{size[1]} x {size[0]}" for finding in findings if (size := finding.sample.size)).most_common()
    shown = [f"{size} {count:,}" for size, count in sizes[:4]]
    if len(sizes) > 4:
        shown.append(f"{len(sizes) - 4} others {sum(count for _, count in sizes[4:]):,}")
    print("  sizes: " + ", ".join(shown))
    values = np.flatnonzero(np.any([of_split.counts.any(axis=0) for of_split in surveys.values()], axis=0))
    print(f"  label values: {ranges(values.tolist())}")
    if spec.facts.has_background and 0 in unseen(spec, surveys):
        print(f"  note: no mask shows class 0, {spec.class_names[0]}: it stands for classes to come alone")
    print()


def classes_table(spec: DatasetSpec, task: Task, surveys: Mapping[str, Survey]) -> str:
    """Pixels of each class, as percent of all that have one, and the images that show it, in columns."""
    train = surveys["train"]
    pixels = np.bincount(spec.class_of, weights=train.counts.sum(axis=0), minlength=256)
    images = [of_split.split.classes.sum(axis=0) for of_split in surveys.values()]
    # Where domains arrive, all classes are there from step 0 on.
    labels = [(step, label) for step in task.steps for label in step.arriving if step.classes_arrive]
    labels = labels or [(task.step(0), label) for label in task.step(0).order]
    names = [shorten(spec.class_names[label], MAX_NAME) for _, label in labels]
    width = max(map(len, names))
    total = int(sum(pixels[label] for _, label in labels))
    cells = [
        f"{step.number:>2}  {name:<{width}} {100 * pixels[label] / max(1, total):6.2f}%"
        f"{images[0][label]:>7,}" + "".join(f" {of_split[label]:>6,}" for of_split in images[1:])
        for name, (step, label) in zip(names, labels, strict=True)
    ]
    what = "labelled training pixels" if train.findings[0].sample.mask else "training images"
    splits = "training, validation and test" if len(images) > 2 else "training and validation"
    title = f"step, class, percent of {total:,} {what}, {splits} images that show it"
    return "\n".join([title, *in_columns(cells)])


def contact_sheet(spec: DatasetSpec, task: Task, sets: Sequence[StepSets]) -> Image.Image:
    """A row per step: some of its training images, spread evenly, with their labels as the step sees them."""
    rows = []
    for step, of_step in zip(task.steps, sets, strict=True):
        lut, count = training_lut(step, data_masking="current", class_of=spec.class_of), len(of_step.train)
        names = shorten(", ".join(spec.arriving(step)), 90)
        row = [textwrap.fill(f"step {step}: {count:,} training images; new: {names}", 24)]
        for sample in [of_step.train[count * i // PER_STEP] for i in range(min(PER_STEP, count))]:
            row += [read_image(sample.image).numpy(), map_labels(sample.labels(), lut)]
        rows.append(row + [None] * (1 + 2 * PER_STEP - len(row)))
    order, titles = task.steps[-1].order, ["", *["image", "labels"] * PER_STEP]
    palette, names = [spec.palette[label] for label in order], [spec.class_names[label] for label in order]
    return draw_samples(rows, titles, palette, names, side=SHEET_SIDE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Check a data set; nothing in it is changed.")
    add = parser.add_argument
    add("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    add("root", type=a_path, metavar="ROOT", help="folder of the data set")
    add("--task", default="offline", metavar="T", help="task as for run.py (default: all in one step)")
    add("--class_order", type=a_path, metavar="FILE", help="class order as for run.py, instead of --task")
    add("--scenario", metavar="S", help="overlapped (default), disjoint or partitioned")
    add("--sheet", type=a_png, metavar="PNG", help="contact sheet (default: DATASET-TASK.png)")
    return exit_code(check, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
