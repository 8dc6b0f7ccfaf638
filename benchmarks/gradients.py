"""How hard each term of an objective pulls on the weights, while a step is trained: norms of its gradient.

    python -m benchmarks.gradients --iterations 0 10 20 -- --method RCIL --step 1 [options of run.py]

The options are those of a run whose step before is trained. It trains as run.py does, and writes nothing but the table.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from argparser import parse
from run import build_trainer, open_run
from train import Trainer
from utils.distributed import init_distributed
from utils.log import setup_logging
from utils.stopping import Interrupts

Pulls = dict[str, tuple[float, float]]
"""Loss -> its value, and the norm of its gradient."""


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
        run = open_run(parsed._replace(config=config), dist, Interrupts())
        for iteration, pulls in watch(build_trainer(run, parsed.steps[0], None), looks).items():
            print(f"after {iteration} iterations: loss, norm of its gradient")
            for name, (value, norm) in pulls.items():
                print(f"  {name:<14}{value:>10.4f}{norm:>10.4f}")
    return 0


def watch(trainer: Trainer, looks: Sequence[int]) -> dict[int, Pulls]:
    """Train; after each count of iterations in `looks`: how each loss of the next batch pulls."""
    weights = [weight for weight in trainer.student.parameters() if weight.requires_grad]
    seen = {}

    def look(module: torch.nn.Module, batch: object, losses: dict[str, Tensor]) -> None:
        if trainer.updates in looks:
            seen[trainer.updates] = {name: (loss.item(), pull(loss, weights)) for name, loss in losses.items()}

    trainer.model.register_forward_hook(look)
    while not trainer.is_done:
        for _ in trainer.train_epoch():
            if trainer.updates > max(looks):
                return seen
        trainer.end_epoch()
    return seen


def pull(loss: Tensor, weights: Sequence[Tensor]) -> float:
    """Norm of the gradient of `loss` over all weights."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return float(torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
