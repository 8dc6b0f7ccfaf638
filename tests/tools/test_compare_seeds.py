"""tools/compare_seeds.py: the table says what the results files say."""

import statistics
from pathlib import Path

import pytest
from PIL import Image

from metrics.results import Row, write_row
from metrics.tables import spread
from tools.compare_seeds import main, read_seeds, seeds_table

RUNS = {  # seed: method: IoU by step, of 2 classes and then one more a step
    "seed1": {
        "FT": [(0.8, 0.6), (0.5, 0.2, 0.9), (0.4, 0.1, 0.3, 0.7)],
        "RCIL": [(0.7, 0.7), (0.7, 0.6, 0.4), (0.7, 0.6, 0.5, 0.2)],
    },
    "seed2": {
        "FT": [(0.9, 0.5), (0.4, 0.2, 0.7), (0.3, 0.1, 0.1, 0.8)],
        "RCIL": [(0.8, 0.6), (0.6, 0.6, 0.3), (0.6, 0.7, 0.4, 0.4)],
    },
}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for seed, runs in RUNS.items():
        for method, steps in runs.items():
            for step, iou in enumerate(steps):
                row = Row(step, iou, 4, statistics.fmean(iou))
                write_row(tmp_path / seed / "results" / f"shapes_voc_2-1_{method}.csv", row)
    (tmp_path / "seed1" / "minutes.csv").write_text("FT,1.5\nRCIL,4\nFT,0.5\n")
    (tmp_path / "seed2" / "minutes.csv").write_text("FT,3\nRCIL,5\n")
    return [tmp_path / seed for seed in RUNS]


def test_the_table_is_mean_and_deviation_over_the_seeds(folders: list[Path], capsys: pytest.CaptureFixture):
    runs_by_method = read_seeds(folders)
    assert list(runs_by_method) == ["FT", "RCIL"]  # the best is last
    found = {}
    for method, of_seeds in runs_by_method.items():
        runs = [RUNS[seed][method] for seed in RUNS]
        expected = {
            "all": [statistics.fmean(run[-1]) for run in runs],
            "average": [statistics.fmean(statistics.fmean(iou) for iou in run) for run in runs],
            "old": [statistics.fmean(run[-1][:2]) for run in runs],
            "new": [statistics.fmean(run[-1][2:]) for run in runs],
            "harmonic": [2 / (1 / statistics.fmean(run[-1][:2]) + 1 / statistics.fmean(run[-1][2:])) for run in runs],
            # Class 2 is known since step 1, class 3 only in the last.
            "forgetting": [
                statistics.fmean(max(iou[c] for iou in run[:-1] if len(iou) > c) - run[-1][c] for c in range(3))
                for run in runs
            ],
        }
        for title, values in expected.items():
            assert [figures[title] for _, figures in of_seeds] == pytest.approx(values), title
        found[method] = {title: spread(values) for title, values in expected.items()}
    grid = seeds_table(runs_by_method)
    # The parts of a run that was cut off count together.
    assert grid.cells[0] == ["FT", "2", *found["FT"].values(), "2.5 ± 0.7"]
    assert grid.header == ["", "seeds", *found["FT"], "minutes"]
    table = folders[0].parent / "table.md"
    picture = table.with_suffix(".png")
    assert main([*map(str, folders), "--markdown", str(table), "--png", str(picture)]) == 0
    with Image.open(picture) as drawn:
        assert drawn.width > 2 * drawn.height
    said = capsys.readouterr().out
    assert said == f"{grid}\n" and table.read_text() == grid.markdown()


def test_one_seed_has_no_deviation(folders: list[Path], capsys: pytest.CaptureFixture):
    assert main([str(folders[0])]) == 0
    assert "±" not in capsys.readouterr().out


def test_a_table_for_a_paper(folders: list[Path], capsys: pytest.CaptureFixture):
    assert main([*map(str, folders), "--latex"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(r"\begin{tabular}{lrr") and r"2.5 $\pm$ 0.7" in said


def test_what_cannot_be_compared_is_refused(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(tmp_path / "none")]) == 2
    assert "holds no results file" in capsys.readouterr().err
    path = folders[1] / "results" / "shapes_voc_2-1_FT.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert main([*map(str, folders)]) == 2
    error = capsys.readouterr().err
    assert f"{path} ends at step 1, others at step 2: finish it first" in error and error.count("\n") == 1
