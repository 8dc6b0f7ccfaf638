"""The command that sums up results files, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.published import write_published
from tools.average_csv import main

ROOT = Path(__file__).parents[2]
NAME = "2022-10-17_voc_15-5s_RCIL_overlap"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_published(tmp_path, NAME)[0]


def test_runs_from_anywhere(tmp_path, published):
    command = [sys.executable, str(ROOT / "tools" / "average_csv.py"), str(published)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == [NAME, "5", "71.54", "22.53", "59.87", "69.83"]


def test_several_files_make_a_table(tmp_path, published, capsys):
    other = tmp_path / "2026-01-31_voc_15-1_FT.csv"
    other.write_text("0,0.5,0.7,x,0.6\n1,0.25,0.75,0.5,0.5\n")
    assert main([str(published), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[3].split() == [other.stem, "1", "50.00", "50.00", "50.00", "55.00"]


def test_first_step_may_be_missing_if_its_classes_are_told(tmp_path, capsys):
    path = tmp_path / "later.csv"
    path.write_text("1,0.25,0.75,0.5,0.5\n")
    assert main([str(path)]) == 2
    assert "--first N" in capsys.readouterr().err
    assert main([str(path), "--first", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [*("later", "1", "25.00", "62.50", "50.00", "50.00")]


def test_bad_file_is_one_line_and_code_2(tmp_path, published, capsys):
    bad = tmp_path / "bad.csv"
    bad.write_text("step,IoU\n")
    for path in (bad, tmp_path / "none.csv", tmp_path):
        assert main([str(published), str(path)]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and str(path) in err


def test_a_table_for_a_paper(published, capsys):
    assert main([str(published), "--latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrr}" and lines[-1] == r"\end{tabular}"
    assert lines[4].endswith(r"5 & 71.54 & 22.53 & 59.87 & 69.83 \\") and r"15-5s\_RCIL" in lines[4]
