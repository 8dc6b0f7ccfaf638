"""A table says the same in the terminal, in Markdown and in LaTeX."""

import re

from metrics.grid import Grid

GRID = Grid(["", "mIoU", "50%"], [["RC_IL", "59.4 ± 1.2", "7"], ["a|b & {c}", "5", "-"]], left=1)


def test_columns_of_figures_end_below_each_other():
    lines = str(GRID).splitlines()
    assert lines[0].endswith("mIoU  50%") and lines[2].startswith("RC_IL ") and lines[2].endswith("59.4 ± 1.2    7")
    assert set(lines[1]) == {"─"} and len(lines[1]) == len(lines[2])


def test_markdown_has_a_rule_with_the_alignment():
    header, rule, first, second = GRID.markdown().splitlines()
    assert Grid(["a|b"], [], left=0).markdown().startswith(r"| a\|b |")
    assert rule == "|---|--:|--:|" and first == "| RC_IL | 59.4 ± 1.2 | 7 |"
    assert header.count("|") == 4 and len(re.findall(r"(?<!\\)\|", second)) == 4


def test_latex_escapes_what_it_would_read_otherwise():
    lines = GRID.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r" & mIoU & 50\% \\"
    assert lines[4] == r"RC\_IL & 59.4 $\pm$ 1.2 & 7 \\"
    assert lines[5] == r"a|b \& \{c\} & 5 & - \\"
