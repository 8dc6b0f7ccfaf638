"""Draw the data set that ships with the project: `python tools/make_shapes.py --root data/shapes` (SPEC 13).

The pictures depend on the options alone, not on the number of cores. The folder appears under its name once it is
whole; a second run with the same options finds it and returns at once.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.shapes.draw import draw_picture
from tools.shapes.layout import LAYOUTS, write_lists, write_picture
from utils.errors import UserError, exit_code
from utils.options import ToolParser, a_float, a_path
from utils.progress import progress

GENERATOR = 2
"""Version of the pictures. Raise it whenever a change of the code changes a pixel."""
MARKER = "shapes.json"
UNSAID = {"layout": "voc", "company": 1.0}
"""What a marker leaves out: it is older than these options."""
LARGEST = 4096
"""Side of a picture, in pixels."""
SPLITS = ("train", "val")
IMAGES_PER_WORKER = 64
"""Below this a further process costs more to start than it saves."""


def make_shapes(
    root: str | Path,
    *,
    layout: str = "voc",
    train: int = 2400,
    val: int = 400,
    size: int = 112,
    seed: int = 0,
    company: float = 1.0,
    workers: int | None = None,
) -> bool:
    """Draw `train` + `val` pictures of `size` x `size` pixels under `root`, in one of LAYOUTS.

    `company` 0 puts one class on each picture, 1 as many as usual. `workers` processes share the work (default: all
    cores). Returns False where the data was there already.
    UserError: an unknown layout, a number out of range, or a `root` that holds something else.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout!r}: choose from {', '.join(LAYOUTS)}")
    if not 0 <= company <= 1:
        raise UserError(f"--company {company}: 0 to 1")
    workers = os.cpu_count() or 1 if workers is None else workers
    numbers = {"train": train, "val": val, "size": size, "seed": seed}
    for name, value in (numbers | {"workers": workers}).items():
        least, most = {"size": (32, LARGEST), "seed": (0, 2**32 - 1)}.get(name, (1, 10**6))
        if not least <= value <= most:
            raise UserError(f"--{name} {value}: {least} to {most}")
    options = {"layout": layout, "company": float(company), "generator": GENERATOR} | numbers
    root = Path(root).resolve()
    if _is_complete(root, options):
        return False
    staging = root.parent / f".{root.name}.{os.getpid()}"
    try:
        _draw_all(staging, options, workers)
        os.replace(staging, root)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return True


def _is_complete(root: Path, options: dict[str, Any]) -> bool:
    """Whether `root` holds this data set, rather than nothing; UserError where it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = "delete it, or choose another --root"
    if not (root / MARKER).is_file():
        raise UserError(f"{root} is not empty and holds no {MARKER} of this tool: {advice}")
    found = UNSAID | json.loads((root / MARKER).read_text())
    if found != options:
        has, wanted = (" ".join(f"{name} {value}" for name, value in given.items()) for given in (found, options))
        raise UserError(f"{root} was drawn with {has}, not with {wanted}: {advice}")
    return True


def _draw_all(root: Path, options: dict[str, Any], workers: int) -> None:
    """Draw everything under `root`, a folder that does not exist yet; the marker comes last."""
    root.mkdir(parents=True)
    jobs = [(split, index) for split in SPLITS for index in range(options[split])]
    draw = partial(_draw_one, root, options)
    workers = min(workers, -(-len(jobs) // IMAGES_PER_WORKER))
    # A caller that has imported torch has threads, which a forked child would inherit half-alive.
    # Ctrl-C is for this process alone: it cancels what is left and clears up.
    children = {"mp_context": get_context("spawn"), "initializer": signal.signal}
    children["initargs"] = signal.SIGINT, signal.SIG_IGN
    with ProcessPoolExecutor(workers, **children) if workers > 1 else nullcontext() as pool:
        drawn = pool.map(draw, jobs, chunksize=16) if pool else map(draw, jobs)
        for _ in progress(drawn, "shapes", unit="image", total=len(jobs)):
            pass
    write_lists(root, options["layout"], {split: options[split] for split in SPLITS})
    said = {name: value for name, value in options.items() if (name, value) not in UNSAID.items()}
    (root / MARKER).write_text(json.dumps(said) + "\n")


def _draw_one(root: Path, options: dict[str, Any], job: tuple[str, int]) -> None:
    (split, index), layout = job, options["layout"]
    of_picture = options["seed"], SPLITS.index(split), index, options["size"]
    company = options["company"] if LAYOUTS[layout].mask else 0.0  # one class is all that the folder can say
    picture = draw_picture(*of_picture, LAYOUTS[layout].num_classes, company)
    write_picture(root, layout, split, index, picture)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(
        description="Draw the shapes data set in the layout of a real one, or in a plain one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--root", type=a_path, default="data/shapes", help="folder to write")
    text = "voc: 20 classes, all seen in 24 images of either split; ade: 150, in 150 images; cityscapes: 19, in 20 "
    text += "images, and every city in 18; folder: those of voc in images/, masks/ and classes.txt; "
    text += "imagefolder: a folder of pictures for each of these classes"
    add("--layout", choices=LAYOUTS, default="voc", help=text)
    add("--train", type=int, default=2400, help="training images, in any layout")
    add("--val", type=int, default=400, help="validation images, in any layout")
    add("--size", type=int, default=112, help="side of the images, in pixels")
    add("--seed", type=int, default=0, help="another seed draws other images")
    add("--company", type=a_float, default=1.0, help="0: one class on each picture; 1: as usual")
    add("--workers", type=int, default=os.cpu_count(), help="processes")
    return exit_code(_draw_and_say, vars(parser.parse_args(arguments)))


def _draw_and_say(options: dict[str, Any]) -> None:
    state = "drawn" if make_shapes(**options) else "already there"
    print(f"{options['root']}: {options['train']} training and {options['val']} validation images {state}")


if __name__ == "__main__":
    sys.exit(main())
