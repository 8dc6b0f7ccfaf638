"""A run of each method that carries a state, cut off twice, ends as one that was not; tests/test_run.py has RCIL."""

import signal
from pathlib import Path

import pytest

from tests.test_every_method import SHORT, SMALL
from tests.workplace import StopAt, Workplace, assert_same, load


@pytest.mark.parametrize("name", ["RW", "PI", "PLOP", "SDR", "STAR", "SSUL-M", "ST"])  # RW holds all that EWC does
def test_a_method_with_a_state_resumes_as_if_nothing_had_been(
    workplace: Workplace, tmp_path: Path, name: str, stop_at: StopAt
):
    whole = Workplace(tmp_path / "whole", workplace.data)
    assert whole.run("--method", name, *SHORT, *SMALL.get(name, ())) == 0
    for step, iteration in ((0, 5), (1, 1)):
        stop_at(signal.SIGTERM, step, iteration)
        assert workplace.run("--method", name, *SHORT, *SMALL.get(name, ())) == 143
    stop_at(0, -1, -1)
    assert workplace.run("--method", name, *SHORT, *SMALL.get(name, ())) == 0
    for step in (0, 1):
        assert_same(load(whole.checkpoint(step)), load(workplace.checkpoint(step)))
    assert workplace.results().read_bytes() == whole.results().read_bytes()
