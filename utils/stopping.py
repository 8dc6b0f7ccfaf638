"""When a run saves, stops or ends: signals, the clock, what the other processes say, and the last line of a run."""

import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as distributed
from torch import Tensor

from utils.distributed import Dist, world_size
from utils.errors import RunError, ending, one_line

COST = 0.01
"""Largest share of the time that goes into checkpoints where nobody asks for more."""
FIRST_GUESS = 0.3
"""Seconds that one takes, until it is known."""
LONGEST = 300
"""Characters of a library's own message that are shown."""
LOST_CONTACT = re.compile("Dist[A-Za-z]*Error|gloo/transport|peer")
"""In an error of torch.distributed: another process no longer answers."""
RESUME = "the same command resumes from the last checkpoint"
ECHO = 10.0
"""Seconds in which further signals are the same request: a terminal or a scheduler tells torchrun and its processes,
torchrun, which may be slow where the machine is busy, tells the processes once more, and people press Ctrl-C twice."""
HANGUP = getattr(signal, "SIGHUP", None)
SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, HANGUP)))
"""Ctrl-C; a scheduler, or torchrun, that wants the machine back; Slurm's warning before it does; a terminal that is
closed, unless nohup has told to ignore that."""


class Stopped(BaseException):
    """The run was asked to stop by `signum`; `where` says how far it came, if that was saved."""

    def __init__(self, signum: int, where: str = "") -> None:
        super().__init__(signum, where)
        self.signum = signum
        self.where = where

    @property
    def exit_code(self) -> int:
        """As a shell reports a process that a signal ended: 130 for Ctrl-C."""
        return 128 + self.signum


class Interrupts:
    """While it is entered, a signal raises Stopped at once; within `deferred` the first one is kept in `pending`.

    What follows within ECHO seconds says nothing new. What comes later is in a hurry, and raises Stopped at once.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._first = -math.inf
        self._deferred = False
        self._before: dict[int, object] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "Interrupts":
        wanted = [signum for signum in SIGNALS if signum != HANGUP or signal.getsignal(signum) != signal.SIG_IGN]
        self._before = {signum: signal.signal(signum, self._handle) for signum in wanted}
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block see to `pending` itself, or what follows it: `obey`, `saved`, or another such block.

        An exception leaves signals deferred: the run ends then, and is to say why undisturbed.
        """
        self._deferred = True
        yield
        self._deferred = False

    def obey(self) -> None:
        """Raises Stopped where a signal is pending."""
        if self.pending:
            raise Stopped(self.pending)

    @contextmanager
    def saved(self, save: Callable[[], str]) -> Iterator[None]:
        """Where the block is stopped, by what is pending, too, `save` is called, and says how far the run came."""
        try:
            self.obey()
            yield
        except Stopped as stop:
            raise Stopped(stop.signum, save()) from None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum == HANGUP:
            self._leave_terminal()
        if time.monotonic() - self._first < ECHO:
            return
        self._first = time.monotonic()
        if not self._deferred or self.pending:
            raise Stopped(signum)
        self.pending = signum

    def _leave_terminal(self) -> None:
        """Say what is still said to nobody: to write to a terminal that is gone would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in self._terminals:
            os.dup2(nowhere, stream)
        os.close(nowhere)


def ignore_in_worker(worker: int) -> None:
    """For loader processes: leave it to the run to end them, which may need a last batch, whoever else asks.

    A terminal sends its signals to all processes of a run, and so does torchrun.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Wait for signals, and obey SIGTERM of the parent alone, with which it ends loaders that it has no use for."""
    while True:
        received = signal.sigwaitinfo(SIGNALS)
        if received.si_signo == signal.SIGTERM and received.si_pid == parent:
            os._exit(0)


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


def ending_of(error: BaseException) -> tuple[str, int] | None:
    """Message and exit code: 2 for bad input, 3 for a loss or gradient that is not finite, 1 for a process that died,
    and 128 + N if signal N stopped the run. None for what is a fault of the program."""
    if isinstance(error, RunError | OSError):
        return ending(error)
    if isinstance(error, Stopped):
        where = f"{error.where}; the same command resumes there" if error.where else RESUME
        return f"stopped by {signal.Signals(error.signum).name}: {where}", error.exit_code
    if not isinstance(error, RuntimeError):
        return None
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        cure = "lower --batch_size or --crop_size, or spread the batch over more GPUs"
        return f"error: out of memory: {first_sentences(text)}; {cure}; {RESUME}", 1
    if distributed.is_initialized() and "NCCL" in repr(error):
        cure = "NCCL_DEBUG=INFO says more; NCCL_SOCKET_IFNAME names the network, and containers want --shm-size 8g"
        return f"error: contact with another process was lost: {first_sentences(text)}; {cure}; {RESUME}", 1
    if distributed.is_initialized() and LOST_CONTACT.search(repr(error)):
        return f"error: contact with another process was lost, which torchrun names below; {RESUME}", 1
    if "DataLoader worker" in text:
        cure = "too little memory is the usual reason: lower --num_workers or --batch_size, or in a container give "
        cure += "--shm-size 8g"
        return f"error: a loader process died: {one_line(error)}; {cure}; {RESUME}", 1
    return None


def first_sentences(text: str) -> str:
    """What a library says, without the advice for its developers behind it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} ..."
