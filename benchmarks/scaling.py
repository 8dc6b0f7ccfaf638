"""How time and memory of an RCIL iteration grow with the crop, the batch, the classes and the processes.

    python -m benchmarks.scaling                         # a small body, minutes on two cores
    python -m benchmarks.scaling --backbone resnet101    # the paper's size

One of the four grows at a time. Every setting runs in a process of its own, so that its peak of memory is its own;
several processes talk through DistributedDataParallel and share the cores of the machine, or have a GPU each.
"""

import json
import os
import socket
import subprocess
import sys

import torch

from benchmarks.harness import median_seconds, parser, peak_bytes, report
from benchmarks.networks import BODIES, make_batch, make_trainer, our_iteration, step_of
from utils.distributed import init_distributed, shut_down

BASE = {"crop": 256, "batch": 2, "classes": 1, "processes": 1}
GROWTH = {"crop": (128, 256, 384, 512), "batch": (2, 4, 8), "classes": (1, 5, 20, 100), "processes": (1, 2)}


def measure(backbone: str, setting: dict[str, int], repeats: int) -> None:
    """In a process of its own: print seconds and bytes of one setting as JSON."""
    dist = init_distributed()
    before = peak_bytes()
    batch, step = make_batch(setting["crop"], setting["batch"]), step_of(new_classes=setting["classes"])
    trainer = make_trainer(f"--method RCIL {BODIES[backbone]}", batch, step=step, dist=dist)
    seconds = median_seconds(our_iteration(trainer), repeats=repeats, warmup=2)
    if dist.is_main:
        print(json.dumps({"seconds": seconds, "bytes": peak_bytes() - before}))
    shut_down()


def start(backbone: str, setting: dict[str, int], repeats: int) -> dict[str, float]:
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


def main() -> None:
    """Measure every setting, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--backbone", choices=BODIES, default="resnet26")
    options.add_argument("--measure", type=json.loads, help="measure this one setting, given as JSON, and end")
    options = options.parse_args()
    if options.measure:
        return measure(options.backbone, options.measure, options.repeats)
    found = {}
    for axis, values in GROWTH.items():
        print(f"{axis:<12}{'seconds':>9}{'MB':>9}")
        for value in values:
            figures = found[f"{axis} {value}"] = start(options.backbone, BASE | {axis: value}, options.repeats)
            print(f"{value:<12}{figures['seconds']:9.3f}{figures['bytes'] / 1e6:9.0f}", flush=True)
    report(f"scaling_{options.backbone}", options.out, [], base=BASE, settings=found)
    return None


if __name__ == "__main__":
    sys.exit(main())
