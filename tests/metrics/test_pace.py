"""The line a minute of a training: what it says of speed and of the time that is left."""

import pytest

from metrics import pace
from metrics.pace import Pace, Position


def place(updates: int, seconds: float) -> Position:
    return Position(updates, 100, 1, 2, images=8, iterations=10, seconds=seconds)


def test_a_line_is_of_all_iterations_since_the_one_before(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    made = Pace({0: 500, 1: 100, 2: 50, 3: 10})
    first = made.line(1, place(10, seconds=5.0), loss=0.25)
    assert first.startswith("step 1, epoch 1/2, iteration 10/100: loss 0.25, 16 images/s, ")
    # 90 iterations of half a second, and those of steps 2 and 3; step 0 is over.
    assert first.endswith(" GiB, 00:45 left in the step, 01:15 in the task")
    now = 59.0
    assert made.line(1, place(20, seconds=10.0), loss=0.2) is None
    now = 61.0
    second = made.line(1, place(30, seconds=30.0), loss=0.2)
    assert "iteration 30/100: loss 0.2, 4 images/s" in second and "02:20 left in the step, 04:20 in" in second


def test_the_last_step_has_nothing_after_it():
    assert Pace({0: 100}).line(0, place(10, seconds=1.0), loss=1.0).endswith(" left in the step")
