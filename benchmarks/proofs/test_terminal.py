"""Nobody listens: a terminal that is closed, a pipe whose reader left, a full disk, a terminal of ASCII."""

import fcntl
import io
import os
import pty
import subprocess
import sys
import termios
import time
from contextlib import suppress
from functools import partial

import pytest

from tests.workplace import REPOSITORY, Workplace, assert_same, load

RUN = ("--step", 0, "--no_visualize")


def test_a_terminal_that_is_closed_stops_the_run_and_its_state_is_saved(workplace: Workplace):
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, REPOSITORY / "run.py", *workplace.options(*RUN, "--epochs", 1000, "--save_minutes", 0.0001)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        os.close(terminal)
        os.set_blocking(controller, False)
        while not workplace.checkpoint(0).exists():
            assert process.poll() is None
            with suppress(BlockingIOError):
                os.read(controller, 10_000)  # a terminal that nobody reads would make it wait
            time.sleep(0.01)
        os.close(controller)
        assert process.wait(60) == 129
    finally:
        process.kill()
    assert not load(workplace.checkpoint(0))["trainer_state"]["finished"]


def as_heard_by(listener: str, arguments: list[str]) -> int:
    """The run in a process of its own, whose standard output is not what it was."""
    if listener == "a pipe whose reader left":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    elif listener == "a full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    encoding = "ascii" if listener == "a terminal of ASCII" else "utf-8"
    sys.stdout = None if listener == "none" else io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding)
    return Workplace.main(arguments)


@pytest.mark.parametrize("listener", ["a pipe whose reader left", "a full disk", "none", "a terminal of ASCII"])
def test_who_is_not_heard_goes_on(trained: Workplace, workplace: Workplace, listener: str):
    process = workplace.start(*RUN, main=partial(as_heard_by, listener))
    said, error = process.communicate()
    assert process.returncode == 0, error
    assert "Traceback" not in error and "Logging error" not in error
    lost = listener in ("a pipe whose reader left", "a full disk")
    assert error.count("warning: nothing more is said: standard output: ") == lost, error
    assert said.isascii() and ("mIoU" in said) == (listener == "a terminal of ASCII")
    assert_same(load(workplace.checkpoint(0)), load(trained.checkpoint(0)))
