"""What checkpoints cost: seconds in saving, as a share of the training of a step on shapes, at the default intervals.

    python -m benchmarks.saving [--data data/shapes] [--step 0 1]

The network and schedule of scripts/demo.sh. Training is the time in the epochs, without validations and tests.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import run
from tools.make_shapes import make_shapes

NETWORK = "--backbone resnet26 --width 32 --head_channels 128 --no_pretrained --crop_size 96 --batch_size 16"
RUN = "--task 15-1 --overlap --num_workers 0 --no_visualize --name saving"
SCHEDULES = {0: "--lr 0.05 --warmup 30 --epochs 4", 1: "--lr 0.005 --epochs 2"}


def timed(work: Callable, seconds: dict[str, float], name: str) -> Callable:
    """`work`, which adds the time that it takes to `seconds`."""

    def timing(*arguments: object, **options: object) -> object:
        start = perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            seconds[name] += perf_counter() - start

    return timing


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("saving", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/shapes"))
    parser.add_argument("--step", type=int, nargs="+", default=[0, 1], choices=list(SCHEDULES))
    options = parser.parse_args(arguments)
    if not options.data.exists():
        make_shapes(options.data)
    seconds: dict[str, float] = defaultdict(float)
    iterations, timed_next = run.iterations, timed(next, seconds, "training")

    def timed_iterations(*arguments: object) -> Iterator:
        epoch = iterations(*arguments)
        return iter(lambda: timed_next(epoch, None), None)

    run.iterations, run.save = timed_iterations, timed(run.save, seconds, "saving")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for step in options.step:
            seconds.clear()
            places = f"--checkpoint {folder}/checkpoints --logdir {folder}/logs --results_dir {folder}/results"
            words = f"{NETWORK} {RUN} {SCHEDULES[step]} --step {step} {places}".split()
            if run.main([*words, "--data_root", str(options.data)]):
                return 1
            size = next(Path(folder, "checkpoints").glob(f"*_{step}.pth")).stat().st_size / 1e6
            share = 100 * seconds["saving"] / seconds["training"]
            rows.append(
                f"| {step} | {seconds['training']:.1f} | {seconds['saving']:.2f} | {size:.0f} | {share:.2f} % |"
            )
    print("| step | training, s | saving, s | checkpoint, MB | share |\n|--:|--:|--:|--:|--:|", *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
