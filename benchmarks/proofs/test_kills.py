"""SIGKILL at random moments: the same command ends the run as if nothing had been. The long form of this, with two
processes, is benchmarks/kill_resume.py."""

import os
import re
import signal
import time
from pathlib import Path
from random import Random

import pytest

from benchmarks.kill_resume import half_written, reached
from tests.workplace import Workplace, assert_same, load


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(trained: Workplace, workplace: Workplace):
    chance, seen = Random(1), []
    for step in (0, 0, 1):
        process = workplace.start("--step", 0, 1, "--save_minutes", 0.0001, "--no_visualize")
        before = workplace.files().get(workplace.checkpoint(step))
        deadline = time.monotonic() + 120
        while workplace.files().get(workplace.checkpoint(step)) == before:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.communicate()
        seen.append(reached(workplace.folder))  # whatever has a final name is whole
    assert seen[0].startswith("step 0, epoch") and len({*seen}) == 3, seen
    assert workplace.run("--step", 0, 1, "--no_visualize") == 0
    for step in (0, 1):
        assert_same(load(workplace.checkpoint(step)), load(trained.checkpoint(step)))
    assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert not half_written(workplace.folder)


def test_a_loader_process_that_dies_ends_the_run_and_is_named(workplace: Workplace):
    process = workplace.start("--step", 0, "--epochs", 1000, "--ckpt_interval", 1, "--num_workers", 1, "--no_visualize")
    try:
        workplace.wait_for(process, workplace.checkpoint(0))
        worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(worker, signal.SIGKILL)
        start = time.monotonic()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1 and time.monotonic() - start < 60
    assert err.count("\n") == 1 and re.search(rf"a loader process died: DataLoader worker \(pid\S* {worker}\)", err)
    assert "--num_workers" in err and "resumes from the last checkpoint" in err


@pytest.mark.parametrize("launcher", ["terminal", "scheduler"])
def test_a_stop_of_all_processes_leaves_nothing_half_written(trained: Workplace, workplace: Workplace, launcher: str):
    """Twice, and loader processes get it, too: Ctrl-C from a terminal, SIGTERM from a scheduler or torchrun."""
    options = ["--step", 0, "--num_workers", 1, "--no_visualize"]
    signum = {"terminal": signal.SIGINT, "scheduler": signal.SIGTERM}[launcher]
    process = workplace.start(*options, "--save_minutes", 0.0001)

    def stop(group: int) -> None:
        os.killpg(group, signum)
        time.sleep(0.01)  # two signals of a kind that wait are one
        os.killpg(group, signum)

    _, err = workplace.end(process, workplace.checkpoint(0), stop)
    assert process.returncode == 128 + signum
    assert err.startswith(f"stopped by {signum.name}: step 0 is saved at epoch ") and err.count("\n") == 1
    assert not half_written(workplace.folder)
    assert not load(workplace.checkpoint(0))["trainer_state"]["finished"] and not workplace.results().exists()
    assert workplace.run(*options) == 0
    assert_same(load(workplace.checkpoint(0)), load(trained.checkpoint(0)))
