"""Compare runs of one task by their results files; differences, in points, are from the first file.

    python tools/compare_csv.py results/2026-01-31_voc_15-1_FT.csv results/2026-01-31_voc_15-1_RCIL.csv

Percent. `first` (background included), `later` and `all` are mIoU after the last step, `average` is that
over steps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.figures import curve
from metrics.results import Row, count_first, read_rows
from metrics.tables import comparison_table
from utils.errors import UserError, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, draw the curves if asked to; 2 if the files cannot be compared."""
    parser = argparse.ArgumentParser(description="Compare runs of one task, in percent.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DATE_DATASET_TASK_NAME.csv")
    parser.add_argument(
        "--first",
        type=int,
        metavar="N",
        help="classes of step 0, background included (default: from its row)",
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw mIoU over steps into this file")
    parser.add_argument("--title", default="", help="of the picture")
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    options = parser.parse_args(arguments)
    try:
        rows_by_run, num_first = read_runs(options.files, options.first)
    except UserError as error:
        print(one_line(error), file=sys.stderr)
        return 2
    table = comparison_table(rows_by_run, num_first)
    print(table.latex() if options.latex else table)
    if options.png:
        curve(options.png, {name: [rows] for name, rows in rows_by_run.items()}, num_first, title=options.title)
    return 0


def read_runs(paths: Sequence[Path], num_first: int | None) -> tuple[dict[str, list[Row]], int]:
    """Rows by short file name, and the classes of step 0. UserError unless the files fit together."""
    runs = [read_rows(path) for path in paths]
    firsts = [num_first or count_first(rows, path) for rows, path in zip(runs, paths, strict=True)]
    kinds = [(rows[0].num_classes, first) for rows, first in zip(runs, firsts, strict=True)]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise UserError(
                f"{path} has {kind[0]} classes, {kind[1]} in step 0, but {paths[0]} has "
                f"{kinds[0][0]} and {kinds[0][1]}: compare runs of one task"
            )
    return dict(zip(short_names(paths), runs, strict=True)), firsts[0]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The parts of the file names that tell them apart; whole paths where none does."""
    parts = [path.stem.split("_") for path in paths]
    for end in (0, -1):
        while all(len(part) > 1 for part in parts) and len({part[end] for part in parts}) == 1:
            for part in parts:
                del part[end]
    names = ["_".join(part) for part in parts]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


if __name__ == "__main__":
    sys.exit(main())
