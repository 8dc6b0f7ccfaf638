"""Nobody listens: a terminal that is closed, a pipe whose reader left, a full disk, a terminal of ASCII."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.workplace import REPOSITORY, Workplace, assert_same, load

RUN = ("--step", 0, "--no_visualize")


def start(workplace: Workplace, *more: object, **streams: object) -> subprocess.Popen:
    words = [sys.executable, str(REPOSITORY / "run.py"), *workplace.options(*RUN, *more)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | streams.pop("environment", {})
    return subprocess.Popen(words, env=environment, cwd=workplace.folder, **streams)


def test_a_terminal_that_is_closed_stops_the_run_and_its_state_is_saved(workplace: Workplace):
    controller, terminal = pty.openpty()
    process = start(
        workplace,
        *("--epochs", 1000, "--save_minutes", 0.0001),
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


@pytest.mark.parametrize("listener", ["a pipe whose reader left", "a full disk", "none"])
def test_who_is_not_heard_goes_on(trained: Workplace, workplace: Workplace, tmp_path: Path, listener: str):
    error = tmp_path / "error"
    with open(error, "w") as file:
        if listener == "none":
            process = start(workplace, stderr=file, preexec_fn=lambda: os.close(1))
        elif listener == "a full disk":
            process = start(workplace, stderr=file, stdout=os.open("/dev/full", os.O_WRONLY))
        else:
            read, write = os.pipe()
            os.close(read)
            process = start(workplace, stderr=file, stdout=write)
            os.close(write)
        assert process.wait(120) == 0
    said = error.read_text()
    assert "Traceback" not in said and "Logging error" not in said
    assert said.count("warning: nothing more is said: standard output: ") == (listener != "none"), said
    assert_same(load(workplace.checkpoint(0)), load(trained.checkpoint(0)))


def test_a_terminal_of_ascii(workplace: Workplace):
    process = start(
        workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, environment={"PYTHONIOENCODING": "ascii"}
    )
    said, error = process.communicate(timeout=120)
    assert process.returncode == 0 and said.isascii() and b"mIoU" in said
    assert b"Error" not in error
