"""How fast a training runs, how much memory it takes, and how long it has yet to go."""

import resource
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from tqdm import tqdm

from utils.progress import SECONDS

GIB = 2**30


class Position(NamedTuple):
    """How far the training of a step has come, and what the last iterations took."""

    updates: int  # iterations of the step so far, over all phases
    total: int  # iterations of the whole step
    epoch: int  # the present one, from 1 on, over all phases
    epochs: int
    images: int  # of an iteration, in all processes
    iterations: int  # since the last position that was told
    seconds: float  # that these took: without validations and checkpoints

    @property
    def images_per_second(self) -> float:
        """Over the last iterations."""
        return self.images * self.iterations / self.seconds


class Pace:
    """Makes a line a minute. `plan`: how many iterations each step of the run has."""

    def __init__(self, plan: Mapping[int, int]) -> None:
        self.plan = plan
        self.told = -SECONDS
        self.iterations, self.seconds = 0, 0.0

    def line(self, step: int, place: Position, loss: float) -> str | None:
        """What to say of the iterations since the last line; None until a minute has passed."""
        self.iterations, self.seconds = self.iterations + place.iterations, self.seconds + place.seconds
        if time.monotonic() < self.told + SECONDS:
            return None
        each = self.seconds / self.iterations
        left = place.total - place.updates
        later = sum(iterations for number, iterations in self.plan.items() if number > step)
        self.told, self.iterations, self.seconds = time.monotonic(), 0, 0.0
        line = (
            f"step {step}, epoch {place.epoch}/{place.epochs}, iteration {place.updates}/{place.total}: loss "
            f"{loss:.4g}, {place.images / each:.3g} images/s, {peak_memory() / GIB:.1f} GiB, "
            f"{tqdm.format_interval(left * each)} left in the step"
        )
        return f"{line}, {tqdm.format_interval((left + later) * each)} in the task" if later else line


def peak_memory() -> int:
    """Bytes that this process held at most: of the GPU's memory where it has one, else of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
