"""tools/compare.py: the tables say what the results files say, and are refused where runs do not fit together."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from metrics.results import Row, figures, write_row
from metrics.tables import WIDTH, Grid, spread
from tests.published import RUNS as PUBLISHED
from tests.published import write_published
from tools.compare import comparison, main, read_seeds, short_names

ROOT = Path(__file__).parents[2]
NAME = "2022-10-17_voc_15-5s_RCIL_overlap"
ROWS = PUBLISHED[NAME]

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
                write_row(tmp_path / seed / "results" / f"shapes_cityscapes_domain_2-1_{method}.csv", row)
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
            assert [of_run[title] for _, of_run in of_seeds] == pytest.approx(values), title
        found[method] = {title: spread(values) for title, values in expected.items()}
    grid = comparison(runs_by_method, seeds=True)
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


def test_seeds_for_a_paper(folders: list[Path], capsys: pytest.CaptureFixture):
    assert main([*map(str, folders), "--latex"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(r"\begin{tabular}{lrr") and r"2.5 $\pm$ 0.7" in said


def test_seeds_that_cannot_be_compared_are_refused(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(tmp_path / "none")]) == 2
    assert "holds no results file" in capsys.readouterr().err
    path = folders[1] / "results" / "shapes_cityscapes_domain_2-1_FT.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert main([*map(str, folders)]) == 2
    error = capsys.readouterr().err
    assert f"{path} ends at step 1, others at step 2: finish it first" in error and error.count("\n") == 1


def write(folder: Path, name: str, scale: float, num_classes: int = 3) -> Path:
    path = folder / f"2026-01-31_voc_2-1_{name}.csv"
    unseen = ",x" * (num_classes - 2)
    path.write_text(f"0,{scale},{scale / 2}{unseen},{0.75 * scale}\n")
    return path


def test_differences_and_picture(tmp_path, capsys):
    files = [str(write(tmp_path, "FT", 0.4)), str(write(tmp_path, "RCIL", 0.8))]
    assert main([*files, "--png", str(tmp_path / "curve.png"), "--title", "VOC"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["FT", "0", "30.00", "-", "30.00", "30.00"]
    assert lines[3].split() == [
        "RCIL",
        "0",
        "60.00",
        "+30.00",
        "-",
        "-",
        "60.00",
        "+30.00",
        "60.00",
        "+30.00",
    ]
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_comparison_for_a_paper(tmp_path, capsys):
    assert main([str(write(tmp_path, "a", 0.4)), "--latex"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(r"\begin{tabular}{lr") and r"step & first & later & all & average \\" in said


def test_runs_of_different_tasks_are_refused(tmp_path, capsys):
    assert main([str(write(tmp_path, "a", 0.4)), str(write(tmp_path, "b", 0.4, num_classes=5))]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "compare runs of one task" in err


def test_short_names_tell_files_apart():
    def names(*stems: str) -> list[str]:
        return short_names([Path("results") / f"{stem}.csv" for stem in stems])

    assert names("d_voc_15-1_FT", "d_voc_15-1_RCIL") == ["FT", "RCIL"]
    assert names("d_voc_15-1_RCIL_a", "d_voc_15-1_RCIL_b") == ["a", "b"]
    assert names("one_voc_15-1_RCIL", "two_voc_15-1_RCIL") == ["one", "two"]
    assert names("d_voc_15-1_RCIL", "d_voc_15-1_RCIL_long") == ["RCIL", "RCIL_long"]
    assert names("d_voc_15-1_FT") == ["FT"]
    assert names("same", "same") == ["results/same.csv", "results/same.csv"]


def compared(runs: dict[str, list[Row]], num_first: int, differences: bool = False) -> Grid:
    return comparison(
        {name: [(rows, figures(rows, num_first))] for name, rows in runs.items()}, differences=differences
    )


def test_tables_fit_the_screen():
    long = {f"2026-01-31_voc_15-1_{'very_' * 20}{letter}": ROWS for letter in "ab"}
    for differences in (True, False):
        lines = str(compared(long, 16, differences)).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert all(line == line.rstrip() for line in lines)


def test_comparison_takes_differences_from_the_first():
    worse = [Row(row.step, tuple(v / 2 for v in row.per_class), row.num_classes, row.overall / 2) for row in ROWS]
    lines = str(compared({"FT": worse, "RCIL": ROWS}, 16, differences=True)).splitlines()
    assert lines[2].split() == ["FT", "5", "35.77", "11.26", "29.94", "34.91"]
    expected = ["RCIL", "5", "71.54", "+35.77", "22.53", "+11.26", "59.87", "+29.94", "69.83", "+34.91"]
    assert lines[3].split() == expected
    assert "diff" not in str(compared({"FT": worse}, 16))


def test_domain_task_compares_without_later_classes():
    rows = [Row(step, (0.5, 0.7), 2, 0.6) for step in range(2)]
    table = compared({"a": rows, "b": rows}, 2, differences=True)
    assert str(table).splitlines()[3].split() == [
        *("b", "1", "60.00", "+0.00", "-", "-", "60.00", "+0.00", "60.00", "+0.00")
    ]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_published(tmp_path, NAME)[0]


def test_runs_from_anywhere(tmp_path, published):
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--each", str(published)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == [NAME, "5", "71.54", "22.53", "59.87", "69.83"]


def test_several_files_make_a_table(tmp_path, published, capsys):
    other = tmp_path / "2026-01-31_voc_15-1_FT.csv"
    other.write_text("0,0.5,0.7,x,0.6\n1,0.25,0.75,0.5,0.5\n")
    assert main(["--each", str(published), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[3].split() == [other.stem, "1", "50.00", "50.00", "50.00", "55.00"]


def test_first_step_may_be_missing_if_its_classes_are_told(tmp_path, capsys):
    path = tmp_path / "later.csv"
    path.write_text("1,0.25,0.75,0.5,0.5\n")
    assert main(["--each", str(path)]) == 2
    assert "--first N" in capsys.readouterr().err
    assert main(["--each", str(path), "--first", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [*("later", "1", "25.00", "62.50", "50.00", "50.00")]


def test_bad_file_is_one_line_and_code_2(tmp_path, published, capsys):
    bad = tmp_path / "bad.csv"
    bad.write_text("step,IoU\n")
    for path in (bad, tmp_path / "none.csv", tmp_path):
        assert main(["--each", str(published), str(path)]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and str(path) in err


def test_a_file_for_a_paper(published, capsys):
    assert main(["--each", str(published), "--latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrr}" and lines[-1] == r"\end{tabular}"
    assert lines[4].endswith(r"5 & 71.54 & 22.53 & 59.87 & 69.83 \\") and r"15-5s\_RCIL" in lines[4]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"scenario": "disjoint"}, "scenario disjoint, and"),
        ({"task": "10-5"}, "task 10-5, and"),
        ({"class_names": [f"name {n}" for n in range(21)]}, "another order of the classes than"),
        ({"config": {"label_protocol": "mib"}}, "label protocol mib, and"),
        ({"config": {"label_protocol": "plop"}, "published_pictures": True}, "another set of pictures than"),
    ],
)
def test_figures_that_mean_something_else_are_refused_or_stand_apart(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture, about: dict, said: str
):
    """As journals say; `--each` sets them apart."""
    tables = [published.with_name(f"2026-01-0{number}_voc_15-1_a.csv") for number in (1, 2)]
    usual = {"event": "run", "dataset": "voc", "task": "15-1", "scenario": "overlapped", "name": "a"}
    usual |= {"config": {"label_protocol": "plop"}, "published_pictures": False}
    for table, more in zip(tables, ({}, about), strict=True):
        table.write_bytes(published.read_bytes())
        table.with_suffix(".jsonl").write_text(json.dumps(usual | more) + "\n")
    assert main([*map(str, tables)]) == 2
    error = capsys.readouterr().err
    assert f"{tables[1]} is of {said} {tables[0]}" in error and error.count("\n") == 1
    assert main(["--each", *map(str, tables)]) == 0
    folders = [tmp_path / f"seed{number}" for number in (1, 2)]
    for folder, table in zip(folders, tables, strict=True):
        (folder / "results").mkdir(parents=True)
        for path in (table, table.with_suffix(".jsonl")):
            path.rename(folder / "results" / path.name)
    assert main([*map(str, folders)]) == 2 and said in capsys.readouterr().err
