"""The results file: what is written is read, bit for bit; what is no results file is told so in one line."""

import math
from datetime import date

import numpy as np
import pytest

from argparser import parse
from metrics.results import Row, figures, read_results, read_rows, results_of, write_row
from metrics.scores import Scores
from tests.published import FIGURES, write_published
from utils.errors import UserError


def row(step: int, seen: int, num_classes: int = 6, absent: int | None = None) -> Row:
    random = np.random.default_rng(100 * step + seen)
    iou = [float(value) for value in random.random(seen) / 3]
    if absent is not None:
        iou[absent] = math.nan
    return Row(step, tuple(iou), num_classes, float(np.nanmean(iou)))


def bits(rows: list[Row]) -> list[tuple]:
    """Rows in a form in which NaN equals NaN and nothing else is lost."""
    return [(r.step, np.array(r.per_class).tobytes(), r.num_classes, np.float64(r.overall).tobytes()) for r in rows]


def test_published_runs_sum_up(tmp_path):
    for path in write_published(tmp_path, *FIGURES):
        rows, num_first = read_results(path)
        assert all(one.overall == pytest.approx(np.mean(one.per_class), abs=2e-6) for one in rows)
        found = figures(rows, num_first)
        percents = [f"{100 * found[name]:.2f}" for name in ("all", "average", "old", "new")]
        assert (num_first, rows[-1].step, *percents) == FIGURES[path.stem]


def test_round_trip_is_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "results.csv"
    rows = [row(0, 3), row(1, 4, absent=2), row(2, 6, absent=5)]
    for one in rows:
        write_row(path, one)
    assert bits(read_rows(path)) == bits(rows)


def test_marks_of_unseen_and_absent_classes(tmp_path):
    path = tmp_path / "results.csv"
    scores = Scores.from_matrix(np.array([[1, 0, 1], [0, 0, 0], [0, 0, 5]]))
    write_row(path, Row(7, tuple(scores.iou), 5, scores.mean_iou))
    fields = path.read_text().strip().split(",")
    assert len(fields) == 7
    assert fields[0] == "7" and fields[2] == "X" and fields[4:6] == ["x", "x"]
    assert [float(fields[1]), float(fields[3]), float(fields[6])] == [
        scores.iou[0],
        scores.iou[2],
        scores.mean_iou,
    ]


def test_a_step_is_replaced_and_the_others_kept_in_order(tmp_path):
    path = tmp_path / "results.csv"
    for one in (row(2, 6), row(0, 3), row(1, 4)):
        write_row(path, one)
    again = row(1, 5)
    write_row(path, again)
    assert bits(read_rows(path)) == bits([row(0, 3), again, row(2, 6)])
    assert [line[0] for line in path.read_text().splitlines()] == ["0", "1", "2"]


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.csv"
    write_row(path, row(0, 3))
    before = path.read_bytes()
    broken = Row(1, (0.5, "not a number"), 6, 0.5)
    with pytest.raises(TypeError):
        write_row(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_ground_truth_at_all(tmp_path):
    path = tmp_path / "results.csv"
    write_row(path, Row(0, (math.nan, math.nan), 3, math.nan))
    assert path.read_text() == "0,X,X,x,X\n"
    assert all(map(math.isnan, figures(read_rows(path), 2).values()))


def test_domain_task_has_no_later_classes():
    found = figures([row(0, 6), row(1, 6)], num_first=6)
    assert math.isnan(found["new"]) and found["old"] == pytest.approx(found["all"])


def test_the_harmonic_mean_of_knowing_one_part_only_is_nothing():
    for old, new, harmonic in ((0.8, 0.0, 0.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)):
        assert figures([Row(0, (old, new), 2, 0.5)], num_first=1)["harmonic"] == pytest.approx(harmonic)


def test_forgetting_is_the_mean_fall_from_the_best_of_earlier_steps():
    rows = [Row(0, (0.5, 0.4), 4, 0.45)]
    assert math.isnan(figures(rows, 2)["forgetting"])  # it needs two steps
    absent = Row(1, (math.nan, 0.1, 0.3), 4, 0.2)
    # A class without ground truth does not count.
    assert figures([*rows, absent], 2)["forgetting"] == pytest.approx(0.3)


def test_file_of_another_task_is_left_alone(tmp_path):
    path = tmp_path / "results.csv"
    write_row(path, row(0, 3))
    with pytest.raises(UserError, match="6 classes and this run has 9"):
        write_row(path, row(1, 4, num_classes=9))
    assert bits(read_rows(path)) == bits([row(0, 3)])


def test_a_malformed_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "results.csv"
    for text, said in (
        ("", "empty"),
        ("0,0.5\n", "2 fields"),
        ("0,0.5,0.5,0.5\n1,0.5,0.5\n", "line 2: 3 fields, the first row has 4"),
        ("zero,0.5,0.5\n", "'zero' is no step"),
        ("-1,0.5,0.5\n", "'-1' is no step"),
        ("0,fish,0.5\n", "'fish' is neither"),
        ("0,nan,0.5\n", "'nan' is neither"),
        ("0,59.87,0.5\n", "'59.87' is neither"),
        ("0,0.5,x,0.5,0.5\n", "a figure after 'x'"),
        ("0,0.5,x\n", "'x' is neither"),
        ("0,x,x,0.5\n", "no class was seen"),
        ("0,0.5,0.5\n0,0.5,0.5\n", "two rows of the same step"),
        ("0,0.5,µ\n", "is neither a fraction"),
        ("9" * 5000 + ",0.5,0.5\n", f"line 1: '{'9' * 40}'... is no step"),
        (f"0,{'fish' * 1000},0.5\n", f"'{'fish' * 10}'... is neither"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            read_rows(path)
        message = str(caught.value)
        assert said in message and str(path) in message and "\n" not in message


def test_missing_file_and_missing_first_step(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_rows(tmp_path / "none.csv")
    write_row(tmp_path / "later.csv", row(1, 4))
    with pytest.raises(UserError, match="--first N"):
        read_results(tmp_path / "later.csv")
    assert read_results(tmp_path / "later.csv", 3)[1] == 3


def test_the_name_of_the_file_is_that_of_the_run(tmp_path):
    def found(*words: str) -> str:
        line = f"--data_root . --task 15-1 --name a[1] --results_dir {tmp_path}".split()
        return results_of(parse([*line, *words]).config, "voc", "15-1").name

    today = f"{date.today()}_voc_15-1_a[1].csv"
    assert found() == today and found("--date", "2022-10-17") == "2022-10-17_voc_15-1_a[1].csv"
    for started in ("2021-01-01", "2021-02-01"):
        write_row(tmp_path / f"{started}_voc_15-1_a[1].csv", row(0, 3))
    assert found() == "2021-02-01_voc_15-1_a[1].csv" and found("--no_resume") == today


def test_a_note_heads_the_file_and_is_no_row(tmp_path):
    path = tmp_path / "a.csv"
    for step in (0, 1):
        write_row(path, Row(step, (0.5,), 2, 0.5), note="labels of MiB, and so on")
    lines = path.read_text().splitlines()
    assert lines[0] == "# labels of MiB, and so on" and len(lines) == 3
    assert [row.step for row in read_rows(path)] == [0, 1]
