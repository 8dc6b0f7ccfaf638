"""How far the training of a step has come, and the checkpoints from which it can be gone on with exactly.

Whatever ends a run, the same command goes on from its last checkpoint, and ends as if nothing had been: weights,
optimiser, schedule and scaler, the method's state, the position in the epoch, the losses not reported yet and the
random numbers of each process are all in it.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from experiment import Checkpoint, Experiment
from methods.base import Method
from segmentation_module import SegmentationNet
from train import GRADIENT, Fault, LossMeter, Updater
from utils.distributed import Poll, all_gather_state, barrier, broadcast_buffers
from utils.errors import NonFiniteError, UserError, one_line
from utils.interrupt import Stopped
from utils.log import log
from utils.random_state import random_state, set_random_state

SAVE = 1
"""What a process says in the poll when it is time for a checkpoint; the number of a signal, above it, when to stop."""

COST = 0.01
"""Largest share of the time that goes into checkpoints where nobody asks for more."""
FIRST_GUESS = 0.3
"""Seconds that one takes, until it is known."""


class Progress:
    """Counts epochs and iterations of a step, and saves: when it is time, when the run is told to stop, at the end."""

    def __init__(
        self, run: Experiment, step: int, student: SegmentationNet, updater: Updater, method: Method, loader: DataLoader
    ) -> None:
        self.run = run
        self.step = step
        self.student = student
        self.updater = updater
        self.method = method
        self.loader = loader
        self.meter = LossMeter()
        self.epoch = 0
        """Whole epochs, their validation included."""
        self.iteration = 0
        """Batches of the epoch after these."""
        self.best_score = 0.0
        self.bad_batches = 0
        self._poll = Poll()
        self._saved_at = time.monotonic()
        self._seconds = FIRST_GUESS
        self._saved_random: dict[str, Any] | None = None

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of `save`. UserError where it is none."""
        try:
            self._restore(saved, saved["trainer_state"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{self.run.saved_path(self.step)} cannot be gone on from: what it holds beside the weights is not "
                f"what this run saves ({type(error).__name__}: {one_line(error)}); train the step anew with --no-resume"
            ) from None

    def _restore(self, saved: Checkpoint, state: dict[str, Any]) -> None:
        self.updater.load(saved)
        self.method.load(state["method"])
        self.epoch, self.iteration = int(saved["epoch"]), int(state["iteration"])
        self.best_score, self.bad_batches = float(saved["best_score"]), int(state["bad_batches"])
        if self.epoch * len(self.loader) + self.iteration != self.updater.iteration:
            raise ValueError(f"epoch {self.epoch}, iteration {self.iteration}, {self.updater.iteration} updates")
        if self.iteration in (0, len(self.loader)):
            return  # nothing random is left of the epoch
        processes, dist = state["processes"], self.run.dist
        if len(processes) != dist.world_size:
            log.warning(
                f"step {self.step} was begun by {len(processes)} process(es) and is gone on with by "
                f"{dist.world_size}: with other random numbers from here on"
            )
            return
        own = processes[dist.rank]
        # Tried now, where it can still be refused.
        set_random_state(own["random"])
        self._saved_random = own["random"]
        self.meter.load(own["meter"], dist.device)
        self.student.load_state_dict(own["buffers"], strict=False)

    def begin_epoch(self) -> None:
        """Choose what is random in the epoch that comes, or in what is left of it."""
        self.run.seed(self.step, self.epoch, self.iteration)
        self.loader.sampler.set_epoch(self.epoch, self.iteration)
        if self._saved_random:
            set_random_state(self._saved_random)
            self._saved_random = None

    def judge(self, done: int) -> None:
        """After `done` batches of the epoch: NonFiniteError where more losses or gradients than allowed were bad."""
        faults = self.meter.faults()
        if not faults:
            return
        self.bad_batches += len({fault.iterations_ago for fault in faults})
        said, allowed = self._described(faults, done), self.run.config.skip_bad_batches
        if self.bad_batches > allowed:
            path = self.run.path(self.step)
            kept = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint of the step yet"
            raise NonFiniteError(
                f"{said}; {kept}; leave such batches out with --skip_bad_batches N (it is {allowed}), or train the "
                "step anew, --no-resume, with a lower --lr or a --warmup"
            )
        log.warning(f"{said}; left out, {self.bad_batches} of --skip_bad_batches {allowed}")

    def after_iteration(self, done: int) -> None:
        """At the end of an iteration, when `done` batches of the epoch are. Raises Stopped, in all processes at the
        same iteration, once the state is saved, if any of them was told to stop."""
        self.iteration = done
        self._heed(self._poll.ask(self._wish(60 * self.run.config.save_minutes)))

    def end_epoch(self, *, validates: bool) -> None:
        """All batches are done; `validates`: the epoch is over only after `validated`, which may take long."""
        # Norms that do not look at their peers hold statistics of their own: those of the first process count.
        broadcast_buffers(self.student)
        interval, done = self.run.config.ckpt_interval, self.epoch + 1
        due_after = self._seconds / COST if interval == 0 else 0 if done % interval == 0 else math.inf
        if not validates:
            self.epoch, self.iteration = done, 0
        self._heed(self._poll.agree(self._wish(due_after)))

    def _wish(self, seconds: float) -> int:
        """What this process says in the poll, if a checkpoint is due so many seconds after the last one."""
        if self.run.interrupts.pending:
            return self.run.interrupts.pending
        # By one clock for all.
        return SAVE if self.run.dist.is_main and time.monotonic() - self._saved_at >= seconds else 0

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Around the validation: where it is stopped, the epoch before it is not lost."""
        try:
            yield
        except Stopped as stop:
            # Of all that a process has for itself nothing is needed at the end of an epoch, so that none waits here.
            if self.run.dist.is_main:
                self._write([], finished=False)
            raise Stopped(stop.signum, self._where()) from None

    def validated(self, score: float, *, finished: bool) -> None:
        """The end of an epoch that was validated, with its mIoU."""
        self.best_score = max(self.best_score, score)
        self.epoch, self.iteration = self.epoch + 1, 0
        if finished:
            self.save(finished=True)

    def _heed(self, heard: int) -> None:
        if heard:
            self.judge(self.iteration)
            self.save()
        if heard > SAVE:
            raise Stopped(heard, self._where())

    def _where(self) -> str:
        return f"step {self.step} is saved at epoch {self.epoch + 1}, iteration {self.iteration}"

    def save(self, *, finished: bool = False) -> None:
        """Write the checkpoint of the step; to be called in all processes."""
        start = time.monotonic()
        processes = all_gather_state(self._own_state()) if self.iteration else []
        if self.run.dist.is_main:
            self._write(processes, finished=finished)
        # Else another process might end, and torchrun this one with it, before the file is whole.
        barrier()
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - start

    def _write(self, processes: list[dict[str, Any]], *, finished: bool) -> None:
        state = self.updater.state() | {"epoch": self.epoch, "best_score": self.best_score}
        state["trainer_state"] |= {
            "method": self.method.state(finished=finished),
            "iteration": self.iteration,
            "bad_batches": self.bad_batches,
            "processes": processes,
        }
        self.run.save(self.step, self.student, finished=finished, state=state)
        self.run.report.flush()

    def _own_state(self) -> dict[str, Any]:
        """What differs between the processes in the middle of an epoch."""
        alone = self.run.dist.world_size == 1
        buffers = {} if alone else {name: buffer.cpu() for name, buffer in self.student.named_buffers()}
        return {"random": random_state(), "meter": self.meter.state(), "buffers": buffers}

    def _described(self, faults: list[Fault], done: int) -> str:
        """The first fault in words: a loss, whose images are those of the processes that had it, before the gradient
        that all share."""
        ago = faults[0].iterations_ago
        first = [fault for fault in faults if fault.iterations_ago == ago]
        losses = [fault for fault in first if fault.term != GRADIENT]
        term = f"the loss {losses[0].term!r}" if losses else "the gradient"
        processes = sorted({fault.process for fault in losses or first})
        sampler, samples = self.loader.sampler, self.loader.dataset.samples
        images = [samples[i].image.name for rank in processes for i in sampler.batch(done - ago - 1, rank)]
        return (
            f"step {self.step}, epoch {self.epoch + 1}, iteration {done - ago}: {term} became "
            f"{(losses or first)[0].value} in process {' '.join(map(str, processes))}, images {' '.join(images)}"
        )
