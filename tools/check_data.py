"""Look at a data set before trusting it: every file is read, counted and compared; nothing is changed.

    python tools/check_data.py voc data/voc --task 15-1 --scenario overlapped
    python tools/check_data.py folder data/mine --class_order order.txt

Prints what there is and, for the task, the images of each step and the pixels of each class; draws images with their
labels per step into one picture. Exit code: 0 all is well, 1 problems, each named with its file, 2 not to be read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS, open_dataset, open_task, scenario_of
from dataset.base import DatasetSpec
from dataset.index import ranges
from dataset.splits import Split, SplitRules, StepSets
from metrics.pictures import save_picture
from metrics.tables import ClassCount, classes_table, images_table
from tasks import Task
from tools.inspection.compare import against_published, empty_steps, missing_classes
from tools.inspection.scan import Survey, count_files, shared_images, survey
from tools.inspection.sheet import contact_sheet
from utils.errors import UserError, one_line

SHAPES_MARKER = "shapes.json"


def check(config: DataConfig, sheet: Path) -> int:
    """Read, report and draw; the number of problems."""
    spec = open_dataset(config)
    task = open_task(config, spec)
    root = config.data_root.absolute()
    train, val = (survey(spec, root, name) for name in ("train", "val"))
    print_files(spec, train, val)
    splits = train.split(spec), val.split(spec)
    rules = SplitRules(scenario=scenario_of(config, spec))
    sets = [spec.select(*splits, task, step, rules) for step in range(task.num_steps)]
    print_task(spec, task, rules.scenario, sets, splits, train.counts())
    problems = train.all_problems + val.all_problems + shared_images(train, val)
    problems += missing_classes(spec, splits[0], train.counts().any(axis=0)) + empty_steps(sets, task)
    if (root / SHAPES_MARKER).is_file():
        print("drawn by tools/make_shapes.py: not compared with the published numbers")
    else:
        problems += against_published(spec, *splits)
    if any(of_step.train for of_step in sets):
        save_picture(contact_sheet(spec, task, sets), sheet)
        print(f"contact sheet: {sheet}")
    print_problems(problems)
    return len(problems)


def print_files(spec: DatasetSpec, train: Survey, val: Survey) -> None:
    """How many files there are, and of what kinds, sizes and label values."""
    findings = train.findings + val.findings
    print(f"{spec.name}: {len(train.findings):,} training and {len(val.findings):,} validation images with masks")
    for folder, (there, used) in count_files(findings).items():
        print(f"  {folder}: {there:,} files" + ("" if used == there else f", {used:,} of them used"))
    kinds = Counter(kind for finding in findings for kind in finding.kinds)
    print("  kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    sizes = Counter(f"{size[1]} x {size[0]}" for finding in findings if (size := finding.size))
    rest = sum(sizes.values()) - sum(count for _, count in sizes.most_common(4))
    print(
        "  sizes: "
        + ", ".join(f"{size} {count:,}" for size, count in sizes.most_common(4))
        + (f", {len(sizes) - 4} others {rest:,}" if rest else "")
    )
    values = np.flatnonzero(train.counts().any(axis=0) | val.counts().any(axis=0))
    print(f"  label values: {ranges(values.tolist())}\n")


def print_task(
    spec: DatasetSpec,
    task: Task,
    scenario: str,
    sets: Sequence[StepSets],
    splits: tuple[Split, Split],
    counts: np.ndarray,
) -> None:
    """Images per step, and pixels and images per class. `counts` (N,256): pixels of the N training masks."""
    arriving = [spec.arriving(task, step) for step in range(task.num_steps)]
    title = f"{spec.name} {task.name}, {scenario}: images per step"
    print(images_table(arriving, [tuple(map(len, of_step)) for of_step in sets], title) + "\n")
    pixels = np.bincount(spec.class_of, weights=counts.sum(axis=0), minlength=256)
    shown = [split.classes.sum(axis=0) for split in splits]
    labels_by_step = task.steps if task.kind == "class" else [task.order(0)]
    classes = [
        ClassCount(step, spec.class_names[label], int(pixels[label]), int(shown[0][label]), int(shown[1][label]))
        for step, labels in enumerate(labels_by_step)
        for label in labels
    ]
    print(classes_table(classes) + "\n")


def print_problems(problems: Sequence[str]) -> None:
    """A line for each problem, or that there is none."""
    if not problems:
        print("no problem found")
        return
    print(f"{len(problems)} problem(s):")
    for problem in problems:
        print(f"  {problem}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check a data set; nothing in it is changed.")
    parser.add_argument("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--task", default="offline", metavar="T", help="task as for run.py (default: all in one step)")
    parser.add_argument("--class_order", type=Path, metavar="FILE", help="class order as for run.py, instead of --task")
    parser.add_argument("--scenario", metavar="S", help="overlapped (default), disjoint or partitioned")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="contact sheet (default: DATASET-TASK.png)")
    options = parser.parse_args(arguments)
    try:
        config = DataConfig(
            dataset=options.dataset,
            data_root=options.root,
            task=options.task,
            class_order=options.class_order,
            scenario=options.scenario,
            overlap=None if options.scenario else True,
        )
        name = options.class_order.stem if options.class_order else options.task
        return 1 if check(config, options.sheet or Path(f"{options.dataset}-{name}.png")) else 0
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'while writing'}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
