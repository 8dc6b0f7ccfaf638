"""The results file: what is written is read, bit for bit; what is no results file is told so in one line."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from metrics.results import Row, count_first, read_rows, results_path, summary, write_row
from metrics.scores import Scores
from tests.published import FIGURES, write_published
from utils.errors import UserError

"""The last line is SPEC 8's; the others follow from the same rule, `first` counting the background."""


def row(step: int, seen: int, num_classes: int = 6, absent: int | None = None) -> Row:
    random = np.random.default_rng(100 * step + seen)
    iou = [float(value) for value in random.random(seen) / 3]
    if absent is not None:
        iou[absent] = math.nan
    return Row(step, tuple(iou), num_classes, float(np.nanmean(iou)))


def bits(rows: list[Row]) -> list[tuple]:
    """Rows in a form in which NaN equals NaN and nothing else is lost."""
    return [(r.step, np.array(r.iou).tobytes(), r.num_classes, np.float64(r.mean_iou).tobytes()) for r in rows]


@pytest.mark.parametrize("name", FIGURES)
def test_published_runs_sum_up(name, tmp_path):
    [path] = write_published(tmp_path, name)
    rows = read_rows(path)
    num_first = count_first(rows, path)
    figures = summary(rows, num_first)
    percents = [f"{100 * value:.2f}" for value in (figures.final, figures.average, figures.first, figures.later)]
    assert (num_first, figures.last_step, *percents) == FIGURES[name]


@pytest.mark.parametrize("name", FIGURES)
def test_published_files_survive_reading_and_writing(name, tmp_path):
    [path] = write_published(tmp_path, name)
    rows = read_rows(path)
    for one in rows:
        assert one.mean_iou == pytest.approx(np.mean(one.iou), abs=2e-6)
        write_row(tmp_path / "copy.csv", one)
    assert bits(read_rows(tmp_path / "copy.csv")) == bits(rows)
    with open(path) as old, open(tmp_path / "copy.csv") as new:
        for before, after in zip(csv.reader(old), csv.reader(new), strict=True):
            assert [field == "x" or float(field) for field in before] == [
                field == "x" or float(field) for field in after
            ]


def test_round_trip_is_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "results.csv"
    rows = [row(0, 3), row(1, 4, absent=2), row(2, 6, absent=5)]
    for one in rows:
        write_row(path, one)
    assert bits(read_rows(path)) == bits(rows)


def test_marks_of_unseen_and_absent_classes(tmp_path):
    path = tmp_path / "results.csv"
    scores = Scores.from_matrix(np.array([[1, 0, 1], [0, 0, 0], [0, 0, 5]]))
    write_row(path, Row.from_scores(7, scores, num_classes=5))
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
    figures = summary(read_rows(path), 2)
    assert math.isnan(figures.final) and math.isnan(figures.average) and math.isnan(figures.later)


def test_domain_task_has_no_later_classes():
    figures = summary([row(0, 6), row(1, 6)], num_first=6)
    assert math.isnan(figures.later) and figures.first == pytest.approx(figures.final)


def test_file_of_another_task_is_left_alone(tmp_path):
    path = tmp_path / "results.csv"
    write_row(path, row(0, 3))
    with pytest.raises(UserError, match="6 classes and this run has 9"):
        write_row(path, row(1, 4, num_classes=9))
    assert bits(read_rows(path)) == bits([row(0, 3)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
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
        ("0,0.5,µ\n", "not plain text"),
        ("9" * 5000 + ",0.5,0.5\n", f"line 1: '{'9' * 40}'... is no step"),
        (f"0,{'fish' * 1000},0.5\n", f"'{'fish' * 10}'... is neither"),
    ],
)
def test_malformed_file_is_told_in_one_line(tmp_path, text, said):
    path = tmp_path / "results.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message


def test_missing_file_and_missing_first_step(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(UserError, match="--first N"):
        count_first([row(1, 4)], tmp_path / "none.csv")


def test_path_names_the_run():
    path = results_path(Path("results"), "2022-10-17", "voc", "15-5s", "RCIL_overlap")
    assert path == Path("results/2022-10-17_voc_15-5s_RCIL_overlap.csv")


def test_a_note_heads_the_file_and_is_no_row(tmp_path):
    path = tmp_path / "a.csv"
    for step in (0, 1):
        write_row(path, Row(step, (0.5,), 2, 0.5), note="labels of MiB, and so on")
    lines = path.read_text().splitlines()
    assert lines[0] == "# labels of MiB, and so on" and len(lines) == 3
    assert [row.step for row in read_rows(path)] == [0, 1]
