"""The trace of a few iterations."""

import json
from pathlib import Path

import pytest
import torch

from utils.log import setup_logging
from utils.profiling import WARM_UP, profiled


def work(count: int, path: Path, *, iterations: int) -> list[int]:
    """Multiply matrices `count` times under the profiler; what came out of it."""
    seen = []
    for batch in profiled(range(count), iterations=iterations, path=path):
        with torch.profiler.record_function(f"iteration {batch}"):
            torch.ones(8, 8) @ torch.ones(8, 8)
        seen.append(batch)
    return seen


def test_the_trace_holds_the_iterations_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture):
    setup_logging(is_main=True)
    path = tmp_path / "profile" / "step0.json"
    assert work(WARM_UP + 5, path, iterations=3) == list(range(WARM_UP + 5))
    names = [event.get("name", "") for event in json.loads(path.read_text())["traceEvents"]]
    traced = {name for name in names if name.startswith("iteration ")}
    assert traced == {f"iteration {number}" for number in range(WARM_UP, WARM_UP + 3)}
    assert [file.name for file in path.parent.iterdir()] == ["step0.json"]
    output = capsys.readouterr().out
    assert f"3 iterations traced in {path}" in output and "aten::mm" in output


def test_an_epoch_too_short_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    setup_logging(is_main=True)
    assert work(2, tmp_path / "step0.json", iterations=3) == [0, 1]
    assert f"--profile 3: {WARM_UP + 3} iterations are needed, and an epoch has 2" in capsys.readouterr().out
