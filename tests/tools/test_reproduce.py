"""The verdict on a published row: on what was published, on the same with points off, on what is of another row."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from argparser import parse
from config import options_of
from metrics.results import plain, write_row
from tests.published import RUNS, write_published
from tools.reporting.runs import read_run
from tools.reproduce import PAGE, find, judge, main, options, page, require_of, rows, tolerance
from utils.errors import UserError

OVERLAPPED, DISJOINT = "2022-10-17_voc_15-5s_RCIL_overlap", "2022-10-17_voc_15-5s_RCIL_disjoint"
ROW = ["RCIL", "voc", "15-1", "overlapped"]


def shifted(path: Path, points: float, name: str = OVERLAPPED) -> Path:
    """A published run with so many points more in each step."""
    for row in RUNS[name]:
        write_row(path, row._replace(overall=row.overall + points / 100))
    return path


def journal_of(table: Path, *, config: tuple[str, ...] = (), **about: object) -> None:
    """The journal of a run with the published settings, but for what is said."""
    parsed = parse([*options(find(*ROW)), *config])
    said = {"event": "run", "dataset": "voc", "task": "15-1", "scenario": "overlapped", "name": "RCIL"}
    said |= {"published_pictures": True, "config": plain(options_of(parsed.config))} | about
    table.with_suffix(".jsonl").write_text(json.dumps(said) + "\n")


@pytest.mark.parametrize(
    ("points", "verdict", "code"),
    [(0.0, "reproduced", 0), (-1.6, "reproduced", 0), (-3.0, "below", 1), (3.0, "above", 0)],
)
def test_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture, points: float, verdict: str, code: int):
    table = shifted(tmp_path / f"{OVERLAPPED}.csv", points)
    assert main([*ROW, "--results", str(table), "--out", str(tmp_path / "report")]) == code
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if line.endswith(("reproduced", "below", "above"))]
    assert [line[0] for line in lines] == [*"012345", "final"] and {line[-1] for line in lines} == {verdict}
    assert lines[-1][1:4] == [f"{59.87 + points:.2f}", "59.40", f"{0.47 + points:+.2f}"]
    assert f"RCIL voc 15-1 overlapped: {verdict}, within {tolerance(1):.2f} points" in said
    assert (tmp_path / "report" / "report.html").is_file()


def test_every_published_run_reproduces_its_row_but_one(tmp_path: Path):
    """The paper has 18.2 for VOC 10-1 disjoint, its authors' later run 23.7."""
    verdicts = {}
    for path in write_published(tmp_path):
        run = read_run(path)
        for row in (row for row in rows() if row.method == "RCIL"):
            try:
                require_of(run, row)
            except UserError:
                continue
            verdicts[path.stem] = judge([run], row)[1]
    assert verdicts == dict.fromkeys(RUNS, "reproduced") | {"2022-08-28_voc_10-1_RCIL_disjoint": "above"}


def test_several_runs_are_judged_by_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture):
    tables = [
        shifted(tmp_path / f"2026-01-0{n}_voc_15-1_RCIL_overlap{n}.csv", p) for n, p in ((1, -2.0), (2, 0.0), (3, 2.0))
    ]
    assert main([*ROW, "--results", *map(str, tables), "--out", str(tmp_path / "report")]) == 0
    assert f"reproduced, within {tolerance(3):.2f} points" in capsys.readouterr().out
    assert tolerance(3) < tolerance(1) == pytest.approx(tolerance(3) * (2 / (4 / 3)) ** 0.5)


def test_the_tolerance_is_that_of_the_repeats():
    pairs = [(f"2022-08-26_{OVERLAPPED[11:]}", OVERLAPPED), (f"2022-08-28_{DISJOINT[11:]}", DISJOINT)]
    differences = [
        100 * (a.overall - b.overall) for one, other in pairs for a, b in zip(RUNS[one], RUNS[other], strict=True)
    ]
    assert tolerance(1) == pytest.approx(4.303 * np.sqrt(np.mean(np.square(differences))))


def wrong(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        table = shifted(folder / f"{OVERLAPPED}.csv", 0)
        change(table)
        return [*ROW, "--results", str(table)]

    return make


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda folder: ["RCIL", "voc", "15-1"], "RCIL voc 15-1: no one published row; choose from RCIL voc"),
        (lambda folder: ["RCIL", "voc", "19-1", "overlapped"], "RCIL voc 19-1 overlapped: no one published row"),
        (lambda folder: ["RCIL"], "name a row: METHOD DATASET TASK [SCENARIO]"),
        (lambda folder: ["RCIL", "voc", "10-1", "overlapped", *wrong(str)(folder)[4:]], "is of task 15-1, not 10-1"),
        (lambda folder: ["RCIL", "voc", "15-1", "disjoint", *wrong(str)(folder)[4:]], "is of scenario overlapped"),
        (wrong(lambda table: journal_of(table, config=("--method", "MiB"))), "is of method MiB, not RCIL"),
        (wrong(lambda table: journal_of(table, published_pictures=False)), "is of other pictures"),
        (wrong(lambda table: journal_of(table, config=("--label_protocol", "mib"))), "learnt labels as MiB's code"),
        (wrong(lambda table: journal_of(table, processes=2)), "--batch_size 48 (published: 24)"),
        (
            wrong(lambda table: journal_of(table, config=("--lr", "0.1", "--crop_size", "96"))),
            "has other settings than were published: --crop_size 96 (published: 512), --lr [0.1",
        ),
        (wrong(lambda table: table.write_text(table.read_text().rpartition("5,")[0])), "line "),
        (wrong(lambda table: table.write_text("\n".join(table.read_text().splitlines()[:-1]))), "has not all steps"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_row_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture, make, line: str):
    assert main(make(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and line in said, said


def test_a_run_with_the_published_settings_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture):
    table = shifted(tmp_path / f"{OVERLAPPED}.csv", 0)
    journal_of(table)
    assert main([*ROW, "--results", str(table), "--out", str(tmp_path / "report")]) == 0
    assert "no journal beside" not in capsys.readouterr().out
    journal_of(table, processes=4, config=("--batch_size", "6"))  # the batch of all processes counts
    assert main([*ROW, "--results", str(table), "--out", str(tmp_path / "report")]) == 0
    journal_of(table)
    said = json.loads(table.with_suffix(".jsonl").read_text())
    said["config"] = {"method": "RCIL", "label_protocol": "plop"}  # of another version, which told less
    table.with_suffix(".jsonl").write_text(json.dumps(said) + "\n")
    assert main([*ROW, "--results", str(table), "--out", str(tmp_path / "report")]) == 0


def test_it_trains_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Where no table is given; the shell notes what it is asked for."""
    shell = tmp_path / "sh"
    shell.write_text(f'#!/bin/dash\necho "$@" > {tmp_path}/asked\nexit 130\n')
    shell.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main([*ROW, "--dry-run"]) == 0 and not (tmp_path / "asked").exists()
    said = capfd.readouterr().out
    assert "sh scripts/train.sh RCIL voc 15-1 overlap\n" in said and "published  59.4 after the last step" in said
    assert "356,790 images of 512 x 512" in said  # (9568 + 487 + 299 + 491 + 500 + 548) * 30
    assert main(ROW) == 130
    assert (tmp_path / "asked").read_text().endswith("scripts/train.sh RCIL voc 15-1 overlap\n")


def test_the_page_is_up_to_date():
    assert page() == PAGE.read_text()
    assert page().count("not run: no GPU yet") == sum(row.method == "RCIL" for row in rows()) == 14
