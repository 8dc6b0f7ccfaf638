"""Every data set goes through a whole run: two steps, then --test, on drawn pictures in its layout."""

from pathlib import Path

import pytest

from metrics.results import read_rows
from tests.workplace import DATE, Workplace
from tools.make_shapes import make_shapes

SETS = {  # data set: layout, task, images, classes seen after steps 0 and 1
    "ade": ("ade", "100-50", (80, 40), (101, 151)),
    "cityscapes_domain": ("cityscapes", "11-5", (36, 6), (19, 19)),
    "cityscape": ("cityscapes", "10-9", (36, 24), (11, 20)),
    "folder": ("folder", "15-5", (48, 24), (16, 21)),
}


@pytest.mark.parametrize("dataset", SETS)
def test_two_steps_and_their_test(tmp_path: Path, dataset: str, capfd: pytest.CaptureFixture):
    layout, task, (train, val), seen = SETS[dataset]
    make_shapes(tmp_path / "data", layout=layout, train=train, val=val, size=64, workers=1)
    workplace = Workplace(tmp_path, tmp_path / "data")
    options = [word for word in workplace.options() if word != "--overlap"]
    scenario = ["--overlap"] if dataset in ("ade", "folder") else []
    command = [*options, *scenario, "--dataset", dataset, "--task", task, "--epochs", "1", "--step", "0", "1"]
    command += ["--sample_num", "2", "--width", "16"]  # wide enough to predict what is there
    assert workplace.main(command) == 0
    said = capfd.readouterr().out
    title = {"cityscapes_domain": "by domain", "cityscape": "by class"}.get(dataset, "overlapped")
    assert f"images per step, {title}\n" in said
    assert said.index("images per step") < said.index("step 0: ")
    table = tmp_path / "results" / f"{DATE}_{dataset}_{task}_tiny.csv"
    rows = read_rows(table)
    assert [len(row.per_class) for row in rows] == list(seen)
    assert all(0 < row.overall < 1 for row in rows)
    assert (tmp_path / "logs" / f"{task}-{dataset}" / "tiny" / "pictures" / "samples_step1.png").is_file()
    # Evaluation of what was saved: the very same figures.
    before = table.read_text()
    table.unlink()
    assert workplace.main([*command, "--test", "--no_visualize"]) == 0
    assert table.read_text() == before


def test_classes_of_another_data_set_are_noticed(tmp_path: Path, capfd: pytest.CaptureFixture):
    """Two data sets of one's own with as many classes: only the names tell their checkpoints apart."""
    make_shapes(tmp_path / "data", layout="folder", train=40, val=24, size=64, workers=1)
    workplace = Workplace(tmp_path, tmp_path / "data")
    command = [*workplace.options("--dataset", "folder", "--task", "15-5", "--epochs", 1, "--no_visualize")]
    assert workplace.main([*command, "--step", "0"]) == 0
    classes = tmp_path / "data" / "classes.txt"
    classes.write_text(classes.read_text().replace("star", "sun"))
    capfd.readouterr()
    assert workplace.main([*command, "--step", "0", "--test"]) == 2
    error = capfd.readouterr().err
    assert "is of another run: it has classes" in error and "correct --data_root" in error and error.count("\n") == 1


def test_a_class_order_of_one_s_own(tmp_path: Path, capfd: pytest.CaptureFixture):
    make_shapes(tmp_path / "data", layout="folder", train=40, val=24, size=64, workers=1)
    workplace = Workplace(tmp_path, tmp_path / "data")
    order = tmp_path / "late-stars.txt"
    names = [line.split(" #")[0] for line in (tmp_path / "data" / "classes.txt").read_text().splitlines()[1:]]
    others = [name for name in names if name not in ("star", "gear")]
    order.write_text(", ".join(others) + "\nstar, gear\n")
    options = workplace.options("--dataset", "folder", "--class_order", order, "--epochs", 1, "--no_visualize")
    task_given = options.index("--task")
    assert workplace.main(options) == 2
    assert "--task and --class_order both say which classes come when" in capfd.readouterr().err
    assert workplace.main(options[:task_given] + options[task_given + 2 :]) == 0
    said = capfd.readouterr().out
    assert "folder late-stars, overlapped" in said and "+ star" in said and "+ gear" in said
    rows = read_rows(tmp_path / "results" / f"{DATE}_folder_late-stars_tiny.csv")
    assert [len(row.per_class) for row in rows] == [19, 21]
