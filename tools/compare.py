"""Compare runs by their results tables: files of one task, or methods over seeds, a folder each (scripts/compare.sh).

    python tools/compare.py results/2026-01-31_voc_15-1_FT.csv results/2026-01-31_voc_15-1_RCIL.csv
    python tools/compare.py compare/seed42 compare/seed43 [--markdown FILE] [--png FILE]

Percent. Of files: `first` (background included), `later` and `all` are mIoU after the last step, `average` is that over
steps; differences, in points, are from the first file. A folder has results/*.csv, one a method, and maybe minutes.csv
with lines METHOD,MINUTES. The table of folders is mean ± standard deviation of the same figures, there called `old`,
`new`, `all` and `average`; of `harmonic`, the harmonic mean of old and new, which knowing only one of them does not
raise; of `forgetting`, how far classes known before the last step fell from their best; and of `minutes`, which
scripts/compare.sh writes for the steps after the first, since methods share that one.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.figures import curve
from metrics.results import Row, figures
from metrics.scores import present_mean
from metrics.tables import Grid, shorten_middle, spread
from tools.reporting.runs import Run as Read
from tools.reporting.runs import read_run, require_same_kind
from utils.errors import UserError, exit_code
from utils.files import atomic_write, read_text
from utils.options import ToolParser, a_path, a_png

MAX_NAME, MAX_COMPARED_NAME = 58, 32
COLUMNS = {"first": "old", "later": "new", "all": "all", "average": "average"}
"""Of the table of files: title -> figure."""

Run = tuple[list[Row], dict[str, float]]
"""One run: its rows, and their figures."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Compare runs of one task, or methods over seeds, in percent.")
    text = "DATE_DATASET_TASK_NAME.csv; or folders, one per seed, with results/*.csv"
    parser.add_argument("paths", nargs="+", type=a_path, metavar="PATH", help=text)
    parser.add_argument("--first", type=int, metavar="N", help="classes of step 0, background included [from its row]")
    text = "sum up each file by itself, under its whole name and without differences; they may be of several tasks"
    parser.add_argument("--each", action="store_true", help=text)
    parser.add_argument("--markdown", type=a_path, metavar="FILE", help="also write the table in Markdown")
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    parser.add_argument("--png", type=a_png, metavar="FILE", help="also draw mIoU over steps into this file")
    parser.add_argument("--title", default="", help="of the picture")
    return exit_code(compare, parser.parse_args(arguments))


def compare(options: argparse.Namespace) -> None:
    """Print the table, write and draw what is asked for."""
    seeds = not any(path.is_file() or path.suffix == ".csv" for path in options.paths)
    runs = read_seeds(options.paths, options.first) if seeds else read_files(options)
    table = comparison(runs, seeds=seeds, differences=len(runs) > 1 and not seeds and not options.each)
    print(table.latex() if options.latex else table)
    if options.markdown:
        with atomic_write(options.markdown, "w") as file:
            file.write(table.markdown())
    if options.png:
        rows = {name: [rows for rows, _ in of_seeds] for name, of_seeds in runs.items()}
        [[first_row, *_], *_] = next(iter(rows.values()))
        curve(options.png, rows, options.first or len(first_row.per_class), options.title)


def read_files(options: argparse.Namespace) -> dict[str, list[Run]]:
    """The run of each file, by short name, or by whole name with `--each`. UserError unless they fit together."""
    found = [read_run(path, options.first) for path in options.paths]
    for run in found:
        if options.png or not options.each:
            require_same_kind(run, found[0])
    results = [(run.rows, run.num_first) for run in found]
    names = [path.stem for path in options.paths] if options.each else short_names(options.paths)
    return {name: [(rows, figures(rows, first))] for name, (rows, first) in zip(names, results, strict=True)}


def short_names(paths: Sequence[Path]) -> list[str]:
    """The parts of the file names that tell them apart; whole paths where none does."""
    parts = [path.stem.split("_") for path in paths]
    for end in (0, -1):
        while all(len(part) > 1 for part in parts) and len({part[end] for part in parts}) == 1:
            for part in parts:
                del part[end]
    names = ["_".join(part) for part in parts]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def read_seeds(folders: Sequence[Path], num_first: int | None = None) -> dict[str, list[Run]]:
    """The runs by method, one a seed; best last.

    UserError where a folder has no results, or where a run is of another kind than the first, or has not come to the
    last step of the others.
    """
    first: Read | None = None
    runs: dict[str, list[Run]] = {}
    last_steps: dict[Path, int] = {}
    for folder in folders:
        paths = sorted((folder / "results").glob("*.csv"))
        if not paths:
            raise UserError(f"{folder}/results holds no results file; name the folders that scripts/compare.sh wrote")
        minutes, file = Counter(), folder / "minutes.csv"
        lines = read_text(file, "delete it").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            name, _, value = line.rpartition(",")
            try:
                minutes[name] += float(value)  # a run that was cut off has several parts
            except ValueError:
                raise UserError(f"{file}, line {number}: {value!r} is no number; a line is METHOD,MINUTES") from None
        for path in paths:
            read = read_run(path, num_first)
            first = first or read
            require_same_kind(read, first)
            name = read.name
            last_steps[path] = read.rows[-1].step
            found = figures(read.rows, read.num_first) | {"minutes": minutes.get(name, float("nan"))}
            runs.setdefault(name, []).append((read.rows, found))
    for path, step in last_steps.items():
        if step != max(last_steps.values()):
            raise UserError(f"{path} ends at step {step}, others at step {max(last_steps.values())}: finish it first")
    return dict(sorted(runs.items(), key=lambda item: present_mean([found["all"] for _, found in item[1]])))


def comparison(runs: Mapping[str, Sequence[Run]], *, seeds: bool = False, differences: bool = False) -> Grid:
    """A row per run: last step, and mIoU after it, with the `differences` from the first run in points.

    Of `seeds`, their number, and mean ± standard deviation of all figures.
    """
    [(_, reference), *_] = next(iter(runs.values()))
    titles = {title: title for title in reference} if seeds else COLUMNS
    columns = [name for title in titles for name in ([title, "diff"] if differences else [title])]
    width = MAX_COMPARED_NAME if differences or seeds else MAX_NAME
    cells = []
    for name, of_seeds in runs.items():
        row = [shorten_middle(name, width), str(len(of_seeds) if seeds else of_seeds[0][0][-1].step)]
        for figure in titles.values():
            values = [found[figure] for _, found in of_seeds]
            row.append(spread(values, 1, 1) if figure == "minutes" else spread(values))
            if differences:
                points = 100 * (values[0] - reference[figure])
                row.append("" if not cells else "-" if math.isnan(points) else f"{points:+.2f}")
        cells.append(row)
    return Grid(["", "seeds" if seeds else "step", *columns], cells, left=1)


if __name__ == "__main__":
    sys.exit(main())
