"""Two runs of one name do not write to the same files; a run that was killed does not keep the next one out."""

import os
import signal
import time

import pytest
from filelock import FileLock

from tests.workplace import Workplace

TEST = ["--step", 0, "--test", "--no_visualize"]


def test_a_second_run_of_the_same_name_is_refused_and_changes_nothing(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    """Whatever the two have in common: the folder of checkpoints, that of logs or that of results."""
    monkeypatch.setattr("checkpoints.LOCK_SECONDS", 0.05)
    workplace.take_checkpoints(trained, 0)
    first = workplace.start("--step", 1, "--epochs", 1000, "--ckpt_interval", 1, "--no_visualize")
    try:
        workplace.wait_for(first, workplace.checkpoint(1))
        os.kill(first.pid, signal.SIGSTOP)  # it need not compute to hold its locks
        places = {"--checkpoint": "checkpoints", "--logdir": "logs", "--results_dir": "results"}
        for shared in places:
            folder = workplace.folder / "elsewhere" / shared[2:]
            others = [word for option, name in places.items() if option != shared for word in (option, folder / name)]
            start = time.monotonic()
            assert workplace.run(*TEST, *others) == 2
            assert time.monotonic() - start < 3  # nearly all of it is the start of the run
            error = capfd.readouterr().err
            assert "is in use by another run of the same name (it holds ." in error and error.count("\n") == 1
            assert [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []
        # Under another name it may run beside the first.
        assert workplace.run(*TEST, "--name", "other", "--ckpt", workplace.checkpoint(0)) == 0
    finally:
        first.kill()
        first.communicate()
    assert workplace.run(*TEST) == 0


def test_where_nothing_can_be_locked_the_run_says_so(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    def acquire(self: FileLock, timeout: float) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    workplace.take_checkpoints(trained, 0)
    assert workplace.run(*TEST) == 0
    assert "cannot be locked (no locks here): see to it that no other run writes there" in "".join(capfd.readouterr())
