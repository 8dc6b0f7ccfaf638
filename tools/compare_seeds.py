"""Compare methods over seeds: one table of mean ± standard deviation, from a folder per seed (scripts/compare.sh).

    python tools/compare_seeds.py compare/seed42 compare/seed43 [--markdown FILE] [--png FILE]

Each folder has results/*.csv, one a method, and maybe minutes.csv with lines METHOD,MINUTES. Percent. `all`, `old` and
`new` are mIoU after the last step, of all classes, of those of step 0 and of the later ones; `harmonic` is the harmonic
mean of old and new, which knowing only one of them does not raise; `average` is `all` over the steps; `forgetting` is
how far classes known before the last step fell from their best; `minutes` are those of minutes.csv, which
scripts/compare.sh writes for the steps after the first, since methods share that one.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.figures import curve
from metrics.results import Row, figures, read_results
from metrics.scores import present_mean
from metrics.tables import MAX_COMPARED_NAME, Grid, shorten_middle, spread
from tools.command import exit_code
from tools.compare_csv import add_picture_options, print_table
from utils.errors import UserError
from utils.files import atomic_write


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare methods over seeds, in percent.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="one per seed, with results/*.csv")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table in Markdown")
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    add_picture_options(parser)
    return exit_code(compare, parser.parse_args(arguments))


def compare(options: argparse.Namespace) -> None:
    """Print the table, write and draw what is asked for."""
    runs = read_seeds(options.folders)
    table = seeds_table(runs)
    print_table(table, options)
    if options.markdown:
        with atomic_write(options.markdown, "w") as file:
            file.write(table.markdown())
    if options.png:
        rows = {name: [rows for rows, _ in of_seeds] for name, of_seeds in runs.items()}
        curve(options.png, rows, len(next(iter(rows.values()))[0][0].iou), options.title)


Run = tuple[list[Row], dict[str, float]]
"""One method with one seed: its rows, and their figures."""


def read_seeds(folders: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs by method, one a seed; best last.

    UserError where a folder has no results, or where a run has not come to the last step of the others.
    """
    runs: dict[str, list[Run]] = {}
    last_steps: dict[Path, int] = {}
    for folder in folders:
        paths = sorted((folder / "results").glob("*.csv"))
        if not paths:
            raise UserError(f"{folder}/results holds no results file; name the folders that scripts/compare.sh wrote")
        minutes = read_minutes(folder / "minutes.csv")
        for path in paths:
            rows, num_first = read_results(path)
            name = path.stem.split("_", 3)[-1]
            last_steps[path] = rows[-1].step
            found = figures(rows, num_first) | {"minutes": minutes.get(name, float("nan"))}
            runs.setdefault(name, []).append((rows, found))
    for path, step in last_steps.items():
        if step != max(last_steps.values()):
            raise UserError(f"{path} ends at step {step}, others at step {max(last_steps.values())}: finish it first")
    return dict(sorted(runs.items(), key=lambda item: present_mean([found["all"] for _, found in item[1]])))


def read_minutes(path: Path) -> dict[str, float]:
    """Minutes by method, the parts of a run that was cut off added up; empty without such a file."""
    minutes: dict[str, float] = {}
    if path.is_file():
        for name, value in csv.reader(path.read_text().splitlines()):
            minutes[name] = minutes.get(name, 0.0) + float(value)
    return minutes


def seeds_table(runs: Mapping[str, Sequence[Run]]) -> Grid:
    """A row per method with mean ± standard deviation of each figure over its seeds."""
    _, titles = next(iter(runs.values()))[0]
    cells = []
    for name, of_seeds in runs.items():
        found = {title: [of_run[title] for _, of_run in of_seeds] for title in titles}
        texts = [spread(found[title], 1, 1) if title == "minutes" else spread(found[title]) for title in titles]
        cells.append([shorten_middle(name, MAX_COMPARED_NAME), str(len(of_seeds)), *texts])
    return Grid(["", "seeds", *titles], cells, left=1)


if __name__ == "__main__":
    sys.exit(main())
