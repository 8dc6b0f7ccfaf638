"""Two runs of one name do not write to the same files; a run that was killed does not keep the next one out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workplace import REPOSITORY, Workplace
from utils.errors import UserError
from utils.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from utils.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen:
    """Another process that holds the lock."""
    words = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_says_who_holds_it_and_is_gone_afterwards(tmp_path: Path):
    path = tmp_path / "new" / "folder" / ".run.lock"
    with locked(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())  # the folders were made for it
    with pytest.raises(RuntimeError), locked(path):
        (path.parent / "file").touch()
        raise RuntimeError
    assert [*path.parent.iterdir()] == [path.parent / "file"]


def test_a_lock_keeps_another_process_out_until_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / ".run.lock"
    other = hold(path, 60)
    for _ in range(2):  # being refused does no harm to the lock
        with pytest.raises(UserError, match=f"in use: process {other.pid} on .*--name"), locked(path):
            pass
    assert path.exists()
    other.send_signal(signal.SIGKILL)
    other.wait()
    with caplog.at_level("INFO", "rcil"), locked(path):
        pass
    assert f"process {other.pid} on" in caplog.text and "taken over" in caplog.text
    assert not path.exists()


def test_a_lock_left_without_a_word_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / ".run.lock"
    path.write_text("{half a li")
    with caplog.at_level("INFO", "rcil"), locked(path):
        pass
    assert "an unknown host" in caplog.text


def test_a_second_run_of_the_same_name_is_refused_and_changes_nothing(
    trained: Workplace, workplace: Workplace, capfd: pytest.CaptureFixture
):
    """Whatever the two have in common: the folder of checkpoints, that of logs or that of results."""
    workplace.take_checkpoints(trained, 0)
    first = workplace.start("--step", 1, "--epochs", 1000, "--ckpt_interval", 1, "--no-visualize")
    try:
        workplace.wait_for(first, workplace.checkpoint(1))
        elsewhere = {
            option: workplace.folder / "elsewhere" / option[2:]
            for option in ("--checkpoint", "--logdir", "--results_dir")
        }
        for shared in elsewhere:
            others = [word for option, path in elsewhere.items() if option != shared for word in (option, path)]
            assert workplace.run("--step", 0, "--test", "--no-visualize", *others) == 2
            error = capfd.readouterr().err
            assert f"is in use: process {first.pid} on" in error and error.count("\n") == 1
            assert not (workplace.folder / "elsewhere").exists()
        # Under another name it may go on beside the first.
        assert (
            workplace.run("--step", 0, "--test", "--no-visualize", "--name", "other", "--ckpt", workplace.checkpoint(0))
            == 0
        )
    finally:
        first.kill()
        first.communicate()
    assert list(workplace.folder.rglob("*lock"))
    assert workplace.run("--step", 0, "--test", "--no-visualize") == 0
    assert f"process {first.pid} on" in (out := capfd.readouterr().out) and "is taken over" in out
    assert not list(workplace.folder.rglob("*lock"))
