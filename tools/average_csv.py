"""Sum up results files: last step, final and average mIoU, the first step's classes and the later ones.

    python tools/average_csv.py results/2022-10-17_voc_15-5s_RCIL_overlap.csv [...]

Percent. `first` and `later` are means after the last step; `first` counts the background.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.results import count_first, read_rows, summary
from metrics.tables import summary_table
from utils.errors import UserError, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 2 if a file is not one of results."""
    parser = argparse.ArgumentParser(description="Sum up results files, in percent.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DATE_DATASET_TASK_NAME.csv")
    parser.add_argument(
        "--first",
        type=int,
        metavar="N",
        help="classes of step 0, background included (default: from its row)",
    )
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    options = parser.parse_args(arguments)
    try:
        summaries = {}
        for path in options.files:
            rows = read_rows(path)
            summaries[path.stem] = summary(rows, options.first or count_first(rows, path))
    except UserError as error:
        print(one_line(error), file=sys.stderr)
        return 2
    table = summary_table(summaries)
    print(table.latex() if options.latex else table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
