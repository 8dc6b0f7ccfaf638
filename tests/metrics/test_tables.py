"""Tables for the terminal: right figures, all names, never wider than the screen."""

import re

import numpy as np

from metrics.results import Row
from metrics.scores import Scores, present_mean
from metrics.tables import WIDTH, Grid, run_table, shorten, shorten_middle, spread, step_table
from tests.published import RUNS

ROWS = RUNS["2022-10-17_voc_15-5s_RCIL_overlap"]
GRID = Grid(["", "mIoU", "50%"], [["RC_IL", "59.4 ± 1.2", "7"], ["a|b & {c}", "5", "-"]], left=1)


def scores(count: int, absent: int | None = None) -> Scores:
    random = np.random.default_rng(count)
    matrix = random.integers(0, 9, (count, count)) + np.diag(random.integers(50, 99, count))
    if absent is not None:
        matrix[absent] = 0
    return Scores.from_matrix(matrix)


def test_step_table_shows_every_class_and_marks_the_new():
    names = [f"name{position}" for position in range(18)]
    made = scores(18, absent=4)
    table = step_table(made, names, num_old=16, title="step 2")
    fields = table.replace("─", "").split()
    for position, name in enumerate(names):
        index = fields.index(name)
        expected = "-" if position == 4 else f"{100 * made.iou[position]:.1f}"
        assert fields[index + 1] == expected
        assert (fields[index - 1] == "+") == (position >= 16)
    assert f"old classes {100 * present_mean(made.iou[:16]):.2f}" in table
    assert f"new classes {100 * present_mean(made.iou[16:]):.2f}" in table
    assert f"mIoU {100 * made.mean_iou:.2f}" in table
    assert f"accuracy {100 * made.overall_accuracy:.2f}" in table


def test_nothing_is_new_in_step_0_or_in_another_domain():
    names = [f"name{position}" for position in range(18)]
    for num_old in (0, 18):
        table = step_table(scores(18), names, num_old=num_old, title="step")
        assert "+" not in table and "old" not in table


def test_tables_fit_the_screen():
    names = [f"a name as long as those of ADE {position}" for position in range(151)]
    tables = [
        step_table(scores(151), names, num_old=101, title="step"),
        step_table(scores(2), ["background", "b"], num_old=1, title="step"),
        run_table(ROWS, 16),
    ]
    for table in tables:
        lines = str(table).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert all(line == line.rstrip() for line in lines)
    assert tables[0].count("\n") < 50


def test_run_table_has_a_row_a_step():
    lines = str(run_table(ROWS, 16)).splitlines()
    names = ["old", "new", "all", "first", "0-15", "later", "16-20", "average", "forgetting"]
    assert lines[0].split() == ["step", "classes", *names]
    assert lines[2].split() == ["0", "16", "-", "80.79", "80.79", "80.79", "-", "80.79", "-"]
    last = ROWS[-1].per_class
    old, new = f"{100 * present_mean(last[:20]):.2f}", f"{100 * last[20]:.2f}"
    best = np.max([(*row.per_class, *[0.0] * (21 - len(row.per_class))) for row in ROWS[:-1]], axis=0)
    fall = f"{100 * (best - last)[:20].mean():.2f}"
    assert lines[-1].split() == ["5", "21", old, new, "59.87", "71.54", "22.53", "69.83", fall]
    assert len(lines) == 2 + len(ROWS)


def test_a_domain_task_has_no_later_classes():
    rows = [Row(step, (0.5, 0.7), 2, 0.6) for step in range(2)]
    shown = str(run_table(rows, 2)).splitlines()[-1].split()
    assert shown == ["1", "2", "60.00", "-", "60.00", "60.00", "-", "60.00", "0.00"]


def test_what_is_old_is_not_known_without_the_step_before():
    assert str(run_table(ROWS[4:], 16)).splitlines()[2].split()[2:4] == ["-", "-"]


def test_shortening():
    assert shorten("sofa", 4) == "sofa" and shorten("television", 5) == "tele…"
    for width in (8, 9):
        short = shorten_middle("0123456789ab", width)
        assert len(short) == width and short.startswith("0123") and short.endswith("9ab")


def test_a_spread_leaves_out_what_there_is_not():
    nan = float("nan")
    assert spread([0.5, nan, 0.7]) == "60.00 ± 14.14" and spread([2.5], 1, 1) == "2.5" and spread([nan]) == "-"


def test_a_grid_says_the_same_in_the_terminal_in_markdown_and_in_latex():
    lines = str(GRID).splitlines()
    assert lines[0].endswith("mIoU  50%") and lines[2].startswith("RC_IL ") and lines[2].endswith("59.4 ± 1.2    7")
    assert set(lines[1]) == {"─"} and len(lines[1]) == len(lines[2])
    header, rule, first, second = GRID.markdown().splitlines()
    assert Grid(["a|b"], [], left=0).markdown().startswith(r"| a\|b |")
    assert rule == "|---|--:|--:|" and first == "| RC_IL | 59.4 ± 1.2 | 7 |"
    assert header.count("|") == 4 and len(re.findall(r"(?<!\\)\|", second)) == 4
    lines = GRID.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r" & mIoU & 50\% \\"
    assert lines[4] == r"RC\_IL & 59.4 $\pm$ 1.2 & 7 \\"
    assert lines[5] == r"a|b \& \{c\} & 5 & - \\"
