"""Progress where there is no terminal: a line now and then."""

import time

import pytest

from utils import progress as module
from utils.progress import progress


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SECONDS", 0.05)


def test_long_work_says_a_line_now_and_then_and_short_work_none(capsys: pytest.CaptureFixture):
    for _ in progress(range(20), "validation", unit="batch"):
        pass
    assert capsys.readouterr().err == ""
    for _ in progress(range(30), "validation", unit="batch"):
        time.sleep(0.01)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert all(line.startswith("validation: ") and "/30 batch, " in line for line in lines)
    assert lines[0].endswith("00:00 left")


def test_what_is_counted_by_hand_and_other_processes(capsys: pytest.CaptureFixture):
    with progress(title="reading", unit="image", total=2) as bar:
        time.sleep(0.06)
        bar.update(1)
    assert capsys.readouterr().err == "reading: 1/2 image, 00:00 left\n"
    for _ in progress(range(5), "reading", unit="image", is_main=False):
        time.sleep(0.02)
    assert capsys.readouterr().err == ""
