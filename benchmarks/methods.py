"""What each method costs: time and peak memory of a training iteration of step 1, relative to FT's.

    python -m benchmarks.methods                        # ResNet-101, crops of 256, batch 2
    python -m benchmarks.methods --crop 512 --batch 24  # the paper's size; bf16 autocast on a GPU

Student, teacher where there is one, losses, backward, what the method does with the gradients, optimiser. Each method
is timed in turn with FT, so that a busy spell of the machine hits both. A method that differs from another by a memory
alone is left out. One that trains nothing in step 1 is not in the table: its `finish` over ten batches is timed, and
set against the 30 epochs of ten iterations that MiB has by default.
"""

import sys

from benchmarks.harness import compare, parser, peak_memory, print_peak, report, seconds
from benchmarks.networks import BODIES, EPOCH, Iteration, make_batch, make_trainer, our_iteration, step_of
from methods import METHODS as TABLE

WITHOUT_MEMORY = {name: method(method.Config(), step_of()) for name, method in TABLE.items() if not name.endswith("-M")}
METHODS = [name for name, method in WITHOUT_MEMORY.items() if method.phases_of_step]
SOLVED = [name for name, method in WITHOUT_MEMORY.items() if not method.phases_of_step]
EPOCHS = 30


def make_iteration(name: str, backbone: str, crop: int, batch: int) -> Iteration:
    """An iteration of step 1 of the method `name`, as run.py does it."""
    return our_iteration(make_trainer(f"--method {name} {BODIES[backbone]}", make_batch(crop, batch)))


def seconds_to_solve(name: str, backbone: str, crop: int, batch: int) -> float:
    """Of all that the method `name` does in step 1, over ten batches."""
    trainer = make_trainer(f"--method {name} {BODIES[backbone]}", make_batch(crop, batch))
    return seconds(lambda: trainer.finish(lambda: trainer.student))


def main() -> None:
    """Time each method in turn with FT; or, called by itself with --measure, only print the peak memory of one."""
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

    ft = make_iteration("FT", *size)
    rows = [compare(name, ft, make_iteration(name, *size), repeats=options.repeats) for name in METHODS]
    del ft
    arguments = ("--crop", options.crop, "--batch", options.batch, "--backbone", options.backbone, "--measure")
    memory = {name: peak_memory("benchmarks.methods", *arguments, name) for name in METHODS}
    print(f"{'':<8} {'seconds':>8} {'x FT':>6} {'peak MB':>9} {'x FT':>6}")
    for row in rows:
        bytes_ = memory[row.subject]
        print(f"{row.subject:<8} {row.ours:8.3f} {1 / row.ratio:6.2f} {bytes_ / 1e6:9.0f} {bytes_ / memory['FT']:6.2f}")
    times = {row.subject: {"FT": row.obvious, "its own": row.ours} for row in rows}
    trained = EPOCHS * EPOCH * times["MiB"]["its own"]
    solved = {name: seconds_to_solve(name, *size) for name in SOLVED}
    for name, value in solved.items():
        print(f"{name}: a step in {value:.0f} s; {EPOCHS} epochs of MiB: {trained:.0f} s, {trained / value:.1f} times")
    report("methods", options.out, [], seconds=times, peak_bytes=memory, seconds_of_step=solved | {"MiB": trained})
    return None


if __name__ == "__main__":
    sys.exit(main())
