"""The published runs as results files, for the tests that read some."""

from pathlib import Path

from metrics.results import read_rows, write_row
from tools.reporting.runs import PUBLISHED

RUNS = {path.stem: read_rows(path) for path in sorted(PUBLISHED.glob("*.csv"))}
"""Rows by the name of the file."""

FIGURES = {  # classes of step 0, then last step, final, average, first, later in percent
    "2022-08-26_voc_10-1_RCIL_overlap": (11, 10, "34.13", "57.52", "50.25", "16.40"),
    "2022-08-26_voc_15-5s_RCIL_overlap": (16, 5, "59.34", "69.57", "70.43", "23.86"),
    "2022-08-28_voc_10-1_RCIL_disjoint": (11, 10, "23.69", "46.23", "37.76", "8.22"),
    "2022-08-28_voc_15-5s_RCIL_disjoint": (16, 5, "53.75", "66.35", "64.55", "19.22"),
    "2022-10-04_ade_100-50_RCIL": (101, 1, "34.45", "38.48", "42.35", "18.47"),
    "2022-10-04_ade_100-5_RCIL": (101, 10, "30.15", "35.86", "38.57", "13.15"),
    "2022-10-17_voc_15-5s_RCIL_disjoint": (16, 5, "54.45", "66.73", "65.66", "18.57"),
    "2022-10-17_voc_15-5s_RCIL_overlap": (16, 5, "59.87", "69.83", "71.54", "22.53"),
}


def write_published(folder: Path, *names: str) -> list[Path]:
    """Results files of the runs `names`, of all without any."""
    paths = [folder / f"{name}.csv" for name in names or RUNS]
    for path in paths:
        for row in RUNS[path.stem]:
            write_row(path, row)
    return paths
