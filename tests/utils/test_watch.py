"""When to save and when to stop: all processes hear the same at the same look, and a request is answered once."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ALONE, run_processes
from utils.distributed import Dist
from utils.stopping import COST, FIRST_GUESS, Interrupts, Watch

NEVER = 3600.0
SIGTERM = int(signal.SIGTERM)


def heard(watch: Watch, save_after: float, *, wait: bool = False) -> tuple[bool, int]:
    watch.look(save_after, wait=wait)
    return watch.save_is_due, watch.stop_signal


def test_alone_a_save_is_due_by_the_clock_and_a_signal_wins():
    with Interrupts() as interrupts, interrupts.deferred():
        watch = Watch(interrupts, ALONE)
        assert heard(watch, NEVER) == (False, 0) and watch.seconds_between * COST == pytest.approx(FIRST_GUESS)
        assert heard(watch, 0.0) == (True, 0)
        time.sleep(0.02)
        assert heard(watch, 0.02) == (True, 0)
        with watch.saving():
            time.sleep(0.05)
        # The clock starts anew at the end of the writing, whose time says how often it may be done.
        assert heard(watch, 0.05) == (False, 0)
        assert watch.seconds_between * COST >= 0.05 and watch.seconds_between * COST != pytest.approx(FIRST_GUESS)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard(watch, 0.0, wait=True) == heard(watch, 0.0) == (False, SIGTERM)


def _watch(rank: int, folder: Path) -> dict[str, Any]:
    """What a process of two hears at each look, and at which of them it saves."""
    with Interrupts() as interrupts:
        watch = Watch(interrupts, Dist(rank, 2, ALONE.device))
        told, saved = [], []

        def look(save_after: float, *, wait: bool = False) -> None:
            told.append(heard(watch, save_after, wait=wait))
            if told[-1][0]:
                saved.append(len(told) - 1)
                with watch.saving():
                    pass

        look(0.0 if rank == 0 else NEVER)  # the first process asks,
        look(0.0 if rank == 0 else NEVER)  # and once more before it can know that it was heard
        look(NEVER)
        look(NEVER if rank == 0 else 0.0)  # the clock of the other does not count
        look(NEVER)
        look(0.0, wait=True)  # heard at once
        look(NEVER)
        look(0.0)
        look(NEVER, wait=True)  # what was asked for a look ago is not lost
        look(NEVER)
        with interrupts.deferred():
            if rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            look(NEVER)
            look(NEVER)
            if rank == 0:
                os.kill(os.getpid(), signal.SIGINT)
            look(0.0, wait=True)
    return {"told": told, "saved": saved}


def test_two_processes_hear_the_same_at_the_same_look_and_save_once_a_request(tmp_path: Path):
    first, second = run_processes(_watch, tmp_path)
    assert first == second
    asked = [(False, 0), (True, 0), *[(False, 0)] * 3, (True, 0), (False, 0), (False, 0), (True, 0), (False, 0)]
    assert first == {"told": [*asked, (False, 0), (False, SIGTERM), (False, SIGTERM)], "saved": [1, 5, 8]}
