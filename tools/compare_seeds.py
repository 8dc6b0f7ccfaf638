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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.figures import curve
from metrics.results import Row, count_first, forgetting, read_rows, summary
from metrics.tables import Spread, seeds_table
from utils.errors import UserError, one_line
from utils.files import atomic_write


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 2 if a folder does not serve."""
    parser = argparse.ArgumentParser(description="Compare methods over seeds, in percent.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="one per seed, with results/*.csv")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table in Markdown")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw mIoU over steps into this file")
    parser.add_argument("--title", default="", help="of the picture")
    parser.add_argument("--latex", action="store_true", help="print the table for a paper (booktabs)")
    options = parser.parse_args(arguments)
    try:
        runs = read_seeds(options.folders)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    figures = spreads(runs)
    seeds = {name: len(runs[name]) for name in figures}
    table = seeds_table(figures, seeds)
    print(table.latex() if options.latex else table)
    if options.markdown:
        with atomic_write(options.markdown, "w") as file:
            file.write(table.markdown())
    if options.png:
        rows = {name: [run.rows for run in runs[name]] for name in figures}
        curve(options.png, rows, len(next(iter(rows.values()))[0][0].iou), title=options.title)
    return 0


class Run(NamedTuple):
    """One method with one seed."""

    rows: list[Row]
    figures: dict[str, float]


def read_seeds(folders: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs by method, one a seed.

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
            rows, name = read_rows(path), path.stem.split("_", 3)[-1]
            last_steps[path] = rows[-1].step
            figures = figures_of(rows, path) | {"minutes": minutes.get(name, float("nan"))}
            runs.setdefault(name, []).append(Run(rows, figures))
    for path, step in last_steps.items():
        if step != max(last_steps.values()):
            raise UserError(f"{path} ends at step {step}, others at step {max(last_steps.values())}: finish it first")
    return runs


def spreads(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Spread]]:
    """Figures over the seeds by method, best last."""
    found = {
        name: {title: Spread.of([run.figures[title] for run in of_seeds]) for title in of_seeds[0].figures}
        for name, of_seeds in runs.items()
    }
    return dict(sorted(found.items(), key=lambda item: item[1]["all"].mean))


def figures_of(rows: Sequence[Row], path: Path) -> dict[str, float]:
    """The figures of one run, fractions of 1."""
    found = summary(rows, count_first(rows, path))
    return {
        "all": found.final,
        "average": found.average,
        "old": found.first,
        "new": found.later,
        "harmonic": harmonic_mean(found.first, found.later),
        "forgetting": forgetting(rows),
    }


def harmonic_mean(old: float, new: float) -> float:
    """0 where one of them is, NaN where one of them is."""
    return 2 * old * new / (old + new) if old + new != 0 else 0.0


def read_minutes(path: Path) -> dict[str, float]:
    """Minutes by method, the parts of a run that was cut off added up; empty without such a file."""
    minutes: dict[str, float] = {}
    if path.is_file():
        for name, value in csv.reader(path.read_text().splitlines()):
            minutes[name] = minutes.get(name, 0.0) + float(value)
    return minutes


if __name__ == "__main__":
    sys.exit(main())
