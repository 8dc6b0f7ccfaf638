"""How hard each term of an objective pulls on the weights, while a step is trained: norms of its gradient.

    python -m benchmarks.gradients --iterations 0 10 20 -- --method RCIL --step 1 [options of run.py]

The options are those of a run whose step before is trained. It trains as run.py does, and writes nothing but the table.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import torch
from torch import Tensor

from argparser import parse
from config import at_step
from experiment import Experiment
from run import build_report, scan
from train import Precision, Updater, forward_losses, placed
from utils.distributed import init_distributed
from utils.log import setup_logging
from utils.optim import build_optimizer, build_schedule


def main(arguments: Sequence[str]) -> int:
    """Train the step as far as asked for, and print the table."""
    own = argparse.ArgumentParser("benchmarks.gradients", description=__doc__.splitlines()[0])
    own.add_argument("--iterations", nargs="+", type=int, default=[0, 5, 10, 20], help="after how many to look")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    looks = own.parse_args(arguments[:split]).iterations
    parsed = parse(arguments[split + 1 :])
    dist = init_distributed(parsed.local_rank)
    setup_logging(is_main=False, debug=False)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(parsed.config, logdir=Path(folder), results_dir=Path(folder), resume=False)
        parsed = parsed._replace(config=config)
        run = Experiment(config, parsed.spec, parsed.task, parsed.steps, dist, build_report(parsed, dist))
        for iteration, pulls in watch(run, parsed.steps[0], looks):
            print(f"after {iteration} iterations: loss, norm of its gradient")
            for name, (value, norm) in pulls.items():
                print(f"  {name:<14}{value:>10.4f}{norm:>10.4f}")
    return 0


def watch(run: Experiment, step: int, looks: Sequence[int]) -> list[tuple[int, dict[str, tuple[float, float]]]]:
    """Train `step`; after each count of iterations in `looks`: value and gradient norm of each loss of the batch."""
    run.seed(step, epoch=0)
    config, device = run.config, run.dist.device
    precision = Precision(device, mixed=config.opt_level == "O1")
    method, loader = run.method(step), run.loaders(step).train
    student, teacher = run.networks(step, None, method, dtype=precision.activations, is_first=True)
    optimizer = build_optimizer(student.parameter_groups(), config.optim, at_step(config.optim.lr, step))
    iterations = at_step(config.optim.epochs, step) * len(loader)
    updater = Updater(optimizer, build_schedule(optimizer, config.optim, iterations), precision)
    if teacher is not None and method.scans:
        scan(run, step, method, teacher, loader)
    student.train()
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    seen = []
    batches = chain.from_iterable(repeat(loader))
    for iteration, batch in zip(range(max(looks) + 1), batches, strict=False):
        losses = forward_losses(student, teacher, method, *placed(batch, device), precision)
        if iteration in looks:
            seen.append((iteration, {name: (loss.item(), pull(loss, weights)) for name, loss in losses.items()}))
        updater.clear()
        updater.step(losses, method)
    return seen


def pull(loss: Tensor, weights: Sequence[Tensor]) -> float:
    """Norm of the gradient of `loss` over all weights."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return float(torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
