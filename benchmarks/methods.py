"""What each method costs: time and peak memory of a training iteration of step 1, relative to FT's.

    python -m benchmarks.methods                        # ResNet-101, crops of 256, batch 2
    python -m benchmarks.methods --crop 512 --batch 24  # the paper's size; bf16 autocast on a GPU

Student, teacher where there is one, losses, backward, what the method does with the gradients, optimiser. All methods
are timed in turn, so that a busy spell of the machine hits all; their networks are in memory together. A method that
trains nothing in step 1 is left out; so is one that differs from another by a memory alone.
"""

import statistics
import sys

from benchmarks.harness import parser, peak_memory, print_peak, report, seconds
from benchmarks.networks import BODIES, Iteration, make_batch, make_trainer, our_iteration, step_of
from methods import METHODS as TABLE

METHODS = [
    name
    for name, method in TABLE.items()
    if method(method.Config(), step_of()).phases_of_step and not name.endswith("-M")
]


def make_iteration(name: str, backbone: str, crop: int, batch: int) -> Iteration:
    """An iteration of step 1 of the method `name`, as run.py does it."""
    return our_iteration(make_trainer(f"--method {name} {BODIES[backbone]}", make_batch(crop, batch)))


def main() -> None:
    """Time all methods in turn; or, called by itself with --measure, only print the peak memory of one."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--backbone", choices=BODIES, default="resnet101")
    options.add_argument("--measure", choices=METHODS, help="print the peak memory of four iterations and end")
    options = options.parse_args()
    size = (options.backbone, options.crop, options.batch)
    if options.measure:

        def work() -> None:
            iteration = make_iteration(options.measure, *size)
            for _ in range(4):
                iteration()

        return print_peak(work)

    iterations = {name: make_iteration(name, *size) for name in METHODS}
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for number in range(1 + options.repeats):
        for name, iteration in iterations.items():
            elapsed = seconds(iteration)
            if number:
                times[name].append(elapsed)
    iterations.clear()
    arguments = ("--crop", options.crop, "--batch", options.batch, "--backbone", options.backbone, "--measure")
    memory = {name: peak_memory("benchmarks.methods", *arguments, name) for name in METHODS}
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':<8} {'seconds':>8} {'x FT':>6} {'peak MB':>9} {'x FT':>6}")
    for name, value in medians.items():
        time_ratio, memory_ratio = value / medians["FT"], memory[name] / memory["FT"]
        print(f"{name:<8} {value:8.3f} {time_ratio:6.2f} {memory[name] / 1e6:9.0f} {memory_ratio:6.2f}")
    report("methods", options.out, [], seconds=medians, peak_bytes=memory)
    return None


if __name__ == "__main__":
    sys.exit(main())
