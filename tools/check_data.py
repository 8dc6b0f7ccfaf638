"""Look at a data set before trusting it: every file is read, counted and compared; nothing is changed.

    python tools/check_data.py voc data/voc --task 15-1 --scenario overlapped
    python tools/check_data.py folder data/mine --class_order order.txt

Prints what there is and, for the task, the images of each step and the pixels of each class; draws images with their
labels per step into one picture. Exit code: 0 all is well, 1 problems, each named with its file, 2 not to be read.
"""

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS, open_dataset, open_task, scenario_of
from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.labels import map_labels, training_lut
from dataset.reading import read_image, read_mask
from dataset.splits import SplitRules, StepSets
from metrics.pictures import draw_samples, save_picture
from metrics.tables import MAX_NAME, images_table, in_columns, shorten
from tasks import Task
from tools.command import exit_code
from tools.inspection import Survey, against_published, count_files, empty_steps, missing_classes, shared_images, survey

SHAPES_MARKER = "shapes.json"
PER_STEP = 4
"""Images of the contact sheet."""
SHEET_SIDE = 150
"""Longer side of a picture there, in pixels."""


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
    train, val = (survey(spec, root, name) for name in ("train", "val"))
    print_files(spec, train, val)
    rules = SplitRules(scenario=scenario_of(config, spec))
    sets = [spec.select(train.split, val.split, step, rules) for step in task.steps]
    arriving, counts = [spec.arriving(step) for step in task.steps], [tuple(map(len, of_step)) for of_step in sets]
    title = f"{spec.name} {task.name}, {rules.scenario}: images per step"
    print(f"{images_table(arriving, counts, title)}\n\n{classes_table(spec, task, train, val)}\n")
    problems = train.problems + val.problems + shared_images(train, val)
    problems += missing_classes(spec, train.split, train.counts.any(axis=0)) + empty_steps(sets, task)
    if (root / SHAPES_MARKER).is_file():
        print("drawn by tools/make_shapes.py: not compared with the published numbers")
    else:
        problems += against_published(spec, train.split, val.split)
    if any(of_step.train for of_step in sets):
        name = options.class_order.stem if options.class_order else options.task
        sheet = options.sheet or Path(f"{options.dataset}-{name}.png")
        save_picture(contact_sheet(spec, task, sets), sheet)
        print(f"contact sheet: {sheet}")
    print("\n  ".join([f"{len(problems)} problem(s):", *problems]) if problems else "no problem found")
    return 1 if problems else 0


def print_files(spec: DatasetSpec, train: Survey, val: Survey) -> None:
    """How many files there are, and of what kinds, sizes and label values."""
    findings = train.findings + val.findings
    print(f"{spec.name}: {len(train.findings):,} training and {len(val.findings):,} validation images with masks")
    for folder, (there, used) in count_files(findings).items():
        print(f"  {folder}: {there:,} files" + ("" if used == there else f", {used:,} of them used"))
    kinds = Counter(kind for finding in findings for kind in finding.kinds)
    print("  kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    sizes = Counter(f"{size[1]} x {size[0]}" for finding in findings if (size := finding.sample.size)).most_common()
    shown = [f"{size} {count:,}" for size, count in sizes[:4]]
    if len(sizes) > 4:
        shown.append(f"{len(sizes) - 4} others {sum(count for _, count in sizes[4:]):,}")
    print("  sizes: " + ", ".join(shown))
    values = np.flatnonzero(train.counts.any(axis=0) | val.counts.any(axis=0))
    print(f"  label values: {ranges(values.tolist())}\n")


def classes_table(spec: DatasetSpec, task: Task, train: Survey, val: Survey) -> str:
    """Pixels of each class, as percent of all that have one, and the images that show it, in columns."""
    pixels = np.bincount(spec.class_of, weights=train.counts.sum(axis=0), minlength=256)
    images = [of_split.split.classes.sum(axis=0) for of_split in (train, val)]
    # Where domains arrive, all classes are there from step 0 on.
    labels = [(step, label) for step in task.steps for label in step.arriving if step.classes_arrive]
    labels = labels or [(task.step(0), label) for label in task.step(0).order]
    names = [shorten(spec.class_names[label], MAX_NAME) for _, label in labels]
    width = max(map(len, names))
    total = int(sum(pixels[label] for _, label in labels))
    cells = [
        f"{step.number:>2}  {name:<{width}} {100 * pixels[label] / max(1, total):6.2f}%"
        f"{images[0][label]:>7,} {images[1][label]:>6,}"
        for name, (step, label) in zip(names, labels, strict=True)
    ]
    title = f"step, class, percent of {total:,} labelled training pixels, training and validation images that show it"
    return "\n".join([title, *in_columns(cells)])


def contact_sheet(spec: DatasetSpec, task: Task, sets: Sequence[StepSets]) -> Image.Image:
    """A row per step: some of its training images, spread evenly, with their labels as the step sees them."""
    rows = []
    for step, of_step in zip(task.steps, sets, strict=True):
        lut, count = training_lut(step, data_masking="current", class_of=spec.class_of), len(of_step.train)
        names = shorten(", ".join(spec.arriving(step)), 90)
        row = [textwrap.fill(f"step {step}: {count:,} training images; new: {names}", 24)]
        for sample in [of_step.train[count * i // PER_STEP] for i in range(min(PER_STEP, count))]:
            row += [read_image(sample.image).numpy(), map_labels(read_mask(sample.mask), lut)]
        rows.append(row + [None] * (1 + 2 * PER_STEP - len(row)))
    order, titles = task.steps[-1].order, ["", *["image", "labels"] * PER_STEP]
    palette, names = [spec.palette[label] for label in order], [spec.class_names[label] for label in order]
    return draw_samples(rows, titles, palette, names, side=SHEET_SIDE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check a data set; nothing in it is changed.")
    parser.add_argument("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--task", default="offline", metavar="T", help="task as for run.py (default: all in one step)")
    parser.add_argument("--class_order", type=Path, metavar="FILE", help="class order as for run.py, instead of --task")
    parser.add_argument("--scenario", metavar="S", help="overlapped (default), disjoint or partitioned")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="contact sheet (default: DATASET-TASK.png)")
    return exit_code(check, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
