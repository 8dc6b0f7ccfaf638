"""The worked examples of the pages train: one's own data, a new method, a new data set."""

import re
import shlex
from pathlib import Path

import pytest

from tests.test_docs import PAGES, README, ROOT, commands
from tests.worked_example import blocks, change, copy_of_the_tree, tree_with_the_method
from tests.workplace import Workplace, load, run_in
from tools import check_data, make_shapes


def test_the_worked_example_of_one_s_own_data_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    section = README.split("## Your own data")[1].split("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]
    *commands, run = re.sub(r"\\\n *", "", block).splitlines()
    order = re.search(r"each class on one line\.\n\n```\n(.*?)```", section, re.DOTALL)[1]
    for path in ROOT.iterdir():
        # The checkout, but for the data, which appear here.
        if path.name != "data" and not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    for folder in ("checkpoints", "logs", "results"):
        (tmp_path / folder).unlink(missing_ok=True)
    (tmp_path / "order.txt").write_text(order)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    draw, check = (shlex.split(line)[2:] for line in commands)
    assert make_shapes.main([*draw, "--train", "100", "--val", "40", "--size", "64"]) == check_data.main(check) == 0
    said = capsys.readouterr().out
    assert "no problem found" in said and (tmp_path / "data" / "mine.png").is_file()
    # What it proposes is the line of the page, but for what smaller and fewer pictures ask for.
    of_size = r"--(crop_size|batch_size|epochs)( \d+)+"
    proposed = said.splitlines()[-1].split(" && ")[-1].replace(str(tmp_path / "data"), "data")
    assert re.sub(of_size, "", proposed) == re.sub(of_size, "", run)
    quick = "--width 8 --head_channels 16 --no_pretrained --crop_size 64 --batch_size 8 --epochs 1"
    run = f"{run} {quick}"
    assert Workplace.main(shlex.split(run)[2:]) == 0
    assert "step 1: test IoU in percent" in capsys.readouterr().out
    [table] = (tmp_path / "results").glob("*_folder_15-5_mine.csv")
    assert len(table.read_text().splitlines()) == 2
    with_order = run.replace("--task 15-5", "--class_order order.txt --step 0")
    assert Workplace.main(shlex.split(with_order)[2:]) == 0
    assert "folder order, overlapped: step 0 of 3" in capsys.readouterr().out


def train_and_test(arguments: list[str]) -> int:
    import run

    assert run.main(arguments) == 0
    return pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", "test_hold.py"])


def test_the_worked_example_of_a_method_trains(tmp_path: Path, shapes: Path):
    tree = tree_with_the_method(tmp_path)
    [command] = commands(PAGES["ADDING_A_METHOD.md"])
    said = run_in(tree, train_and_test, *shlex.split(command.replace("data/shapes", str(shapes)))[2:])
    assert "step 1: test IoU in percent" in said and "passed" in said
    left = load(tree / "checkpoints" / "step" / "15-5-voc_hold_1.pth")
    assert {"project.weight", "scale"} <= left["method_state"].keys() and left["method_state"]["scale"] != 1


def test_the_worked_example_of_a_data_set_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = PAGES["ADDING_A_DATA_SET.md"]
    spec, line, entry = blocks(text, "python")
    copy_of_the_tree(tmp_path, "dataset")
    (tmp_path / "dataset" / "sketches.py").write_text(spec)
    change(tmp_path / "dataset" / "__init__.py", line, entry, "\n}")
    *_, draw_some, train = commands(text)
    monkeypatch.chdir(tmp_path)
    assert make_shapes.main(shlex.split(draw_some)[2:]) == 0
    assert "step 0: test IoU in percent" in run_in(tmp_path, Workplace.main, *shlex.split(train)[2:])
