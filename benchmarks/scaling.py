"""How time and memory of an RCIL iteration grow: with the crop, the batch, the classes, the steps and the processes.

    python -m benchmarks.scaling                         # a small body, minutes on two cores
    python -m benchmarks.scaling --backbone resnet101    # the paper's size
    python -m benchmarks.scaling --plot growth.png       # and a picture

One of them grows at a time. And how long a run takes to read the class index of its images when it starts again.
Every setting runs in a process of its own, so that its peak of memory is its own; several processes talk through
DistributedDataParallel and share the cores of the machine, or have a GPU each. The exponent e says that time, or
memory, grows as size^e: the slope of a line through the logarithms.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import median_seconds, parser, peak_bytes, report
from benchmarks.networks import BODIES, NUM_OLD, make_batch, make_trainer, our_iteration, step_of
from benchmarks.pictures import make_samples
from dataset.index import load_index
from dataset.voc import SPEC
from utils.distributed import init_distributed, shut_down

Setting = Mapping[str, int]
BASE = {"crop": 256, "batch": 2, "old": NUM_OLD, "new": 1, "step": 1, "processes": 1, "images": 0}
GROWTH: dict[str, dict[int, Setting]] = {
    "pixels a side": {crop: {"crop": crop} for crop in (128, 256, 384, 512)},
    "images a batch": {batch: {"batch": batch} for batch in (2, 4, 8)},
    "classes": {old + new: {"old": old, "new": new} for old, new in ((16, 1), (100, 50), (150, 1))},
    "steps": {step: {"old": 20, "step": step} for step in (1, 5, 10)},
    "processes": {count: {"processes": count} for count in (1, 2)},
    "images of the data set": {count: {"images": count} for count in (300, 1000, 3000, 10_000)},
}
"""What grows -> its sizes, and the setting of each. Steps: as many classes, in more classifiers."""
FIGURES = {"seconds": "time", "bytes": "memory"}


def measure(backbone: str, setting: Setting, repeats: int) -> None:
    """In a process of its own: print seconds and bytes of one setting as JSON."""
    dist = init_distributed()
    before = peak_bytes()
    if setting["images"]:
        seconds = seconds_to_start(setting["images"], repeats)
    else:
        step = step_of(setting["step"], old=setting["old"], new=setting["new"])
        batch = make_batch(setting["crop"], setting["batch"])
        trainer = make_trainer(f"--method RCIL {BODIES[backbone]}", batch, step=step, dist=dist)
        seconds = median_seconds(our_iteration(trainer), repeats=repeats, warmup=2)
    if dist.is_main:
        print(json.dumps({"seconds": seconds, "bytes": peak_bytes() - before}))
    shut_down()


def seconds_to_start(images: int, repeats: int) -> float:
    """How long a run takes to know the classes of all its images, when an earlier run has looked at them."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        samples = make_samples(root, images)
        # Once to look at them, which is not timed.
        return median_seconds(
            lambda: load_index(samples, root=root, name="growth", label_values=SPEC.label_values), repeats=repeats
        )


def start(backbone: str, setting: Setting, repeats: int) -> dict[str, float]:
    """Run `measure` in as many processes as `setting` says; what the first one found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--backbone", backbone, "--repeats", str(repeats), "--measure", json.dumps(setting)]
    count = setting["processes"]
    threads = max(1, torch.get_num_threads() // count)
    running = []
    for rank in range(count):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {key: str(value) for key, value in (group | {"OMP_NUM_THREADS": threads}).items()}
        command = [sys.executable, "-m", "benchmarks.scaling", *words]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f"{setting} failed")
    return json.loads(outputs[0].splitlines()[-1])


def exponents(sizes: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Of both figures, where they grow as size^exponent."""
    at = np.log([*sizes])
    return {name: float(np.polyfit(at, np.log([of[name] for of in sizes.values()]), 1)[0]) for name in FIGURES}


def plot(found: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """Time and memory, in times of the smallest, over size, in times of the smallest."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, sizes) in zip(figure.subplots(2, 3).flat, found.items(), strict=True):
        at, grown = [*sizes], exponents(sizes)
        for name, label in FIGURES.items():
            values = [of[name] for of in sizes.values()]
            axes.plot(at, [value / values[0] for value in values], "o-", label=f"{label}, exponent {grown[name]:.2f}")
        axes.plot(at, [size / at[0] for size in at], ":", color="grey", label="as the size")
        shown = [size for size, before in zip(at, [0, *at], strict=False) if size > 1.1 * before]
        axes.set(xscale="log", yscale="log", xlabel=title, xticks=shown, xticklabels=[f"{size:,}" for size in shown])
        axes.minorticks_off()
        axes.legend(fontsize=8)
    figure.suptitle("Growth, in times of the smallest")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure every setting, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--backbone", choices=BODIES, default="resnet26")
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw growth into this file")
    options.add_argument("--measure", type=json.loads, help="measure this one setting, given as JSON, and end")
    options = options.parse_args()
    if options.measure:
        return measure(options.backbone, options.measure, options.repeats)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for axis, settings in GROWTH.items():
        print(f"| {axis} | s | MB |\n|--:|--:|--:|")
        found[axis] = {}
        for size, setting in settings.items():
            figures = found[axis][size] = start(options.backbone, BASE | setting, options.repeats)
            print(f"| {size:,} | {figures['seconds']:.3g} | {figures['bytes'] / 1e6:,.0f} |", flush=True)
        grown = exponents(found[axis])
        print(f"| exponent | {grown['seconds']:.2f} | {grown['bytes']:.2f} |\n")
    if options.plot:
        plot(found, options.plot)
    report(f"scaling_{options.backbone}", options.out, [], base=BASE, settings=found)
    return None


if __name__ == "__main__":
    sys.exit(main())
