"""A table of text cells, written for the terminal, for Markdown or for LaTeX."""

import re
from collections.abc import Sequence
from typing import NamedTuple

LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


class Grid(NamedTuple):
    """Rows under a header; the first `left` columns are flush left, the others, of figures, right."""

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    left: int

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.cells, strict=True)]

        def line(fields: Sequence[str]) -> str:
            return "  ".join(
                field.ljust(width) if column < self.left else field.rjust(width)
                for column, (field, width) in enumerate(zip(fields, widths, strict=True))
            ).rstrip()

        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([line(self.header), rule, *map(line, self.cells)])

    def markdown(self) -> str:
        """For a document."""
        rule = "|" + "---|" * self.left + "--:|" * (len(self.header) - self.left)
        header, *rows = (
            f"| {' | '.join(field.replace('|', chr(92) + '|') for field in row)} |"
            for row in (self.header, *self.cells)
        )
        return "\n".join([header, rule, *rows]) + "\n"

    def latex(self) -> str:
        """For a paper; wants the package booktabs."""
        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        header, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.cells))
        lines = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}"])


def _latex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^±–]", lambda match: LATEX[match[0]], text)
