"""Compare runs of one task by their results files; differences, in points, are from the first file.

    python tools/compare_csv.py results/2026-01-31_voc_15-1_FT.csv results/2026-01-31_voc_15-1_RCIL.csv

Percent. `first` (background included), `later` and `all` are mIoU after the last step, `average` is that over steps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.figures import curve
from metrics.results import Row, read_results
from metrics.tables import Grid, runs_table
from tools.command import exit_code
from utils.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = table_parser("Compare runs of one task, in percent.")
    add_picture_options(parser)
    return exit_code(compare, parser.parse_args(arguments))


def compare(options: argparse.Namespace) -> None:
    """Print the table, draw the curves if asked to."""
    runs = read_runs(options.files, options.first)
    print_table(runs_table(runs, differences=len(runs) > 1), options)
    if options.png:
        [num_first, *_] = (first for _, first in runs.values())
        curve(options.png, {name: [rows] for name, (rows, _) in runs.items()}, num_first, options.title)


def table_parser(description: str) -> argparse.ArgumentParser:
    """The options of a table of results files."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DATE_DATASET_TASK_NAME.csv")
    text = "classes of step 0, background included (default: from its row)"
    parser.add_argument("--first", type=int, metavar="N", help=text)
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    return parser


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """The options of a picture beside the table."""
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw mIoU over steps into this file")
    parser.add_argument("--title", default="", help="of the picture")


def print_table(table: Grid, options: argparse.Namespace) -> None:
    """As `--latex` says."""
    print(table.latex() if options.latex else table)


def read_runs(paths: Sequence[Path], num_first: int | None) -> dict[str, tuple[list[Row], int]]:
    """Rows, and classes of step 0, by short name of the file. UserError unless the files fit together."""
    runs = [read_results(path, num_first) for path in paths]
    kinds = [(rows[0].num_classes, first) for rows, first in runs]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            found, wanted = ("{} classes, {} in step 0".format(*of_run) for of_run in (kind, kinds[0]))
            raise UserError(f"{path} has {found}, and {paths[0]} {wanted}: compare runs of one task")
    return dict(zip(short_names(paths), runs, strict=True))


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
