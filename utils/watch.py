"""When to save and when to stop: two questions that all processes of a run answer alike."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as distributed
from torch import Tensor

from utils.distributed import Dist, world_size
from utils.interrupt import Interrupts

COST = 0.01
"""Largest share of the time that goes into checkpoints where nobody asks for more."""
FIRST_GUESS = 0.3
"""Seconds that one takes, until it is known."""


class Watch:
    """After each `look`: is a checkpoint due (`save_is_due`), and which signal asks to stop (`stop_signal`, or 0)?

    Processes hear each other one look late, so that none waits for another; a process alone hears itself at once.
    """

    def __init__(self, interrupts: Interrupts, dist: Dist) -> None:
        self.save_is_due = False
        self.stop_signal = 0
        self._interrupts = interrupts
        self._is_main = dist.is_main
        self._saved_at = time.monotonic()
        self._seconds = FIRST_GUESS
        self._just_saved = False
        self._last: tuple[distributed.Work, Tensor] | None = None

    def look(self, save_after: float, *, wait: bool = False) -> None:
        """Ask both questions. A checkpoint is due `save_after` seconds after the last, by the first process's clock.

        `wait`: hear what the others say now.
        """
        due = self._is_main and time.monotonic() - self._saved_at >= save_after
        said = [int(due and not self._interrupts.pending), self._interrupts.pending]
        if world_size() == 1:
            self.save_is_due, self.stop_signal = bool(said[0]), said[1]
            return
        self._hear()
        given = torch.tensor(said)
        self._last = distributed.all_reduce(given, distributed.ReduceOp.MAX, async_op=True), given
        if wait:
            earlier = self.save_is_due
            self._hear()
            self.save_is_due |= earlier

    def _hear(self) -> None:
        """What the processes said at the last look."""
        self.save_is_due, self.stop_signal = False, 0
        if self._last is not None:
            work, given = self._last
            work.wait()
            self._last = None
            # What was due one look ago may have been done since.
            self.save_is_due, self.stop_signal = bool(given[0]) and not self._just_saved, int(given[1])
        self._just_saved = False

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a checkpoint, whose time is taken."""
        start = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - start
        self._just_saved = True

    @property
    def seconds_between(self) -> float:
        """Seconds between two checkpoints such that they take no more than COST of the time."""
        return self._seconds / COST
