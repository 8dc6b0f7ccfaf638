"""The journal: every line is JSON, none is half, and what comes again is there once."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metrics.results import Journal, read_journal
from utils.errors import UserError

ABOUT = {"name": "run", "classes": ("cat", "dog"), "path": Path("a/b")}


def test_the_first_line_says_what_ran_and_figures_come_back(tmp_path: Path):
    journal = Journal(tmp_path / "results" / "a.jsonl", ABOUT)
    assert not journal.path.parent.exists()  # a run that says nothing leaves nothing
    journal.write("test", step=1, miou=0.1, iou={"cat": float("nan"), "dog": 1 / 3})
    run, test = map(json.loads, journal.path.read_text().splitlines())
    assert run["event"] == "run" and run["classes"] == ["cat", "dog"] and run["path"] == "a/b"
    assert test["iou"] == {"cat": None, "dog": 1 / 3} and test["time"] > 1.7e9


def test_dropped_events_are_gone_and_others_stay(tmp_path: Path):
    journal = Journal(tmp_path / "a.jsonl", ABOUT)
    for iteration in range(4):
        journal.write("losses", iteration=iteration)
    journal.drop(lambda event: event["event"] == "losses" and event["iteration"] > 1)
    journal.write("losses", iteration=2)
    assert [event.get("iteration") for event in read_journal(journal.path)] == [None, 0, 1, 2]


def test_a_line_that_was_cut_off_is_left_out_and_then_removed(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    Journal(path, ABOUT).write("losses", iteration=0)
    whole = path.read_text()
    path.write_text(whole + '{"event": "los')
    assert len(read_journal(path)) == 2
    Journal(path, ABOUT).write("losses", iteration=1)
    assert path.read_text().startswith(whole)
    assert [event["event"] for event in read_journal(path)] == ["run", "losses", "run", "losses"]


def test_another_file_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    for text in ("no json\n", "[1]\n", '{"time": 1}\n', "\xff\n"):
        path.write_bytes(text.encode("latin1"))
        with pytest.raises(UserError, match=r"a\.jsonl") as caught:
            read_journal(path)
        assert "\n" not in str(caught.value)


def test_the_code_in_the_document_reads_one(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "LOGS.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    journal = Journal(tmp_path / re.search(r'Path\("(.*?)"\)', code)[1], ABOUT)
    for step in (0, 1):
        journal.write("losses", step=step, iteration=10, total=step / 2)
    command = [sys.executable, "-c", f"{code}\nprint(curve)"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == "[(10, 0.5)]\n"
