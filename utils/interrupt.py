"""Signals that ask a run to stop: what must not be cut in two is finished first."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; a scheduler, or torchrun, that wants the machine back; Slurm's warning before it does."""


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
    """While it is entered, a signal raises Stopped at once; within `deferred` the first one is kept in `pending`."""

    def __init__(self) -> None:
        self.pending = 0
        self._deferred = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block see to `pending` itself; whoever is in a hurry sends a second signal.

        Raises Stopped at its end if it has not. An exception leaves signals deferred: the run ends then, and is to say
        why undisturbed.
        """
        self._deferred = True
        yield
        self._deferred = False
        if self.pending:
            raise Stopped(self.pending)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self._deferred or self.pending:
            raise Stopped(signum)
        self.pending = signum


@contextmanager
def when_stopped(save: Callable[[], str]) -> Iterator[None]:
    """Where the block is stopped, `save` is called, and says how far the run came."""
    try:
        yield
    except Stopped as stop:
        raise Stopped(stop.signum, save()) from None


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
