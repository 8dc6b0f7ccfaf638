"""The published runs as results files, for the tests that read some."""

from pathlib import Path

from metrics.results import write_row
from tools.reporting.published import all_runs


def write_published(folder: Path, *names: str) -> list[Path]:
    """Results files of the runs `names`, of all without any."""
    runs = all_runs()
    paths = [folder / f"{name}.csv" for name in names or runs]
    for path in paths:
        for row in runs[path.stem]:
            write_row(path, row)
    return paths
