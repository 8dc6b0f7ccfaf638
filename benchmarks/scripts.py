"""A slow proof rather than a benchmark: every launcher of scripts/ runs, on shapes in the layout of its data set.

    python -m benchmarks.scripts [NAME ...]

Each trains its first two steps with a small network and scores them again with --test, which has to give the very same
table. NAME picks launches: voc/rcil_15-1-overlap is a script of RCIL, "PLOP voc 15-1 overlap" are words for
scripts/train.sh. Exit code 1 if one fails.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dataset.imagefolder import LIST, read_class_list
from methods import METHODS
from tools.make_shapes import make_shapes

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "scripts" / "train.sh"
OTHERS = tuple(name for name in METHODS if name != "RCIL")
SETTINGS = (
    *("voc 15-1 overlap", "voc 15-1 disjoint", "ade 100-50 overlap", "cityscapes_domain 11-1"),
    "imagenet100 50-10",
)
"""Those in which the other methods run here, where they serve them."""

NUM_TRAIN, NUM_VAL, SIDE = 170, 160, 64
"""Enough for each of the 150 classes of ADE20K to occur in both splits."""

NETWORK = "--backbone resnet26 --width 8 --head_channels 16 --no_pretrained"
RUN = "--crop_size 64 --epochs 1 --step 0 1 --no_visualize"


def launches() -> dict[str, list]:
    """The words that start a run, by name: each script of RCIL, and every other method in some settings."""
    rcil = {f"{path.parent.name}/{path.stem}": [path] for path in sorted(ROOT.glob("scripts/*/*.sh"))}
    others = {
        f"{m} {setting}": [TRAIN, m, *setting.split()]
        for setting in SETTINGS
        for m in OTHERS
        if next((kind for kind in ("domains", "images") if kind[:-1] in setting), "classes") in METHODS[m].serves
    }
    return rcil | others


def data_for(name: str, folder: Path) -> Path:
    """The data set of a launch, drawn below `folder` where it is not there yet."""
    layout = next(layout for layout in ("voc", "ade", "cityscapes", "imagenet100") if layout in name)
    if layout == "imagenet100":
        return a_hundred_classes(folder)
    make_shapes(folder / layout, layout=layout, train=NUM_TRAIN, val=NUM_VAL, size=SIDE)
    return folder / layout


def a_hundred_classes(folder: Path) -> Path:
    """Shapes in the folders of ImageNet-100, the same ones in five classes each."""
    make_shapes(folder / "imagefolder", layout="imagefolder", train=NUM_TRAIN, val=NUM_VAL, size=SIDE)
    for split in (folder / "imagefolder" / "train", folder / "imagefolder" / "val"):
        shapes = sorted(split.iterdir())
        (folder / "imagenet100" / split.name).mkdir(parents=True, exist_ok=True)
        for number, (name, _) in enumerate(read_class_list(LIST)):
            link = folder / "imagenet100" / split.name / name
            if not link.exists():
                link.symlink_to(shapes[number % len(shapes)])
    return folder / "imagenet100"


def borrowed_environment(folder: Path) -> Path:
    """A folder that scripts/setup.sh takes for an environment with all requirements: its python is this one."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "requirements.txt.installed").write_text((ROOT / "requirements.txt").read_text() * 2)
    return folder


def prove(launch: list, data: Path, folder: Path) -> float:
    """Train two steps and test them, all files below `folder`; seconds. RuntimeError where it fails."""
    variables = {
        "DATA_ROOT": str(data),
        "VENV": str(borrowed_environment(folder / "venv")),
        "CHECKPOINT": str(folder / "checkpoints"),
        "BATCH_SIZE": "4",
        "NUM_WORKERS": "0",
        "OPT_LEVEL": "O0",
        "GPUS": "1",
    }
    start = time.perf_counter()
    tables = []
    for date, more in (("trained", []), ("tested", ["--test"])):
        places = ["--date", date, "--logdir", folder / "logs", "--results_dir", folder / "results"]
        command = ["sh", *launch, *NETWORK.split(), *RUN.split(), *places, *more]
        done = subprocess.run(list(map(str, command)), env=os.environ | variables, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(more)} exit code {done.returncode}\n{done.stderr}")
        [table] = (folder / "results").glob(f"{date}_*.csv")
        tables.append([line for line in table.read_text().splitlines() if not line.startswith("#")])
        table.unlink()
    if tables[0] != tables[1] or len(tables[0]) != 2:
        raise RuntimeError(f"training gave {tables[0]} and --test {tables[1]}")
    return time.perf_counter() - start


def main(arguments: Sequence[str]) -> int:
    """Prove the launches named in `arguments`, or all."""
    known = launches()
    if unknown := set(arguments) - known.keys():
        sys.exit(f"no launch {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments or known:
            data = data_for(name, Path(folder) / "data")
            try:
                print(f"{name:<40} {prove(known[name], data, Path(folder) / name):6.1f} s", flush=True)
            except RuntimeError as error:
                failed += 1
                print(f"{name:<40} FAILED {error}", flush=True)
    print(f"{failed} failed" if failed else "all pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
