"""Sum up results files: the first step's classes, the later ones, all, and the average over the steps.

    python tools/average_csv.py results/2022-10-17_voc_15-5s_RCIL_overlap.csv [...]

Percent. `first` (background included), `later` and `all` are mIoU after the last step, `average` is that over steps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.results import read_results
from metrics.tables import runs_table
from tools.command import exit_code
from tools.compare_csv import print_table, table_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return exit_code(sum_up, table_parser("Sum up results files, in percent.").parse_args(arguments))


def sum_up(options: argparse.Namespace) -> None:
    """Print the table."""
    print_table(runs_table({path.stem: read_results(path, options.first) for path in options.files}), options)


if __name__ == "__main__":
    sys.exit(main())
