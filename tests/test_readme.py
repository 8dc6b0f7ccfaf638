"""Every command and every piece of code in the README is one that works, and the parts in docs/RUNNING.md."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from argparser import parse
from tests.workplace import Workplace
from tools import check_data, make_shapes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUNNING = (ROOT / "docs" / "RUNNING.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
SHELL_LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
    if line.split("#")[0].strip()
]
# The one on a folder needs the folder: it is run below.
STARTERS = r"run\.py|slurm\.sh"
RUN_LINES = [line for line in SHELL_LINES if re.search(STARTERS, line) and "--dataset folder" not in line]


def test_the_readme_has_commands():
    assert len(SHELL_LINES) > 8 and len(RUN_LINES) > 2


@pytest.mark.parametrize("line", RUN_LINES)
def test_options_of_run_py_are_taken(line: str):
    parse(shlex.split(re.split(STARTERS, line, maxsplit=1)[1]))


@pytest.mark.parametrize("name", re.findall(r"(?:sh|python) ((?:scripts|tools)/\S+?\.(?:sh|py))", README))
def test_scripts_and_tools_are_there(name: str):
    assert (ROOT / name).is_file()
    if name.endswith(".sh"):
        subprocess.run(["sh", "-n", str(ROOT / name)], check=True)


PAGES = README + BENCHMARKS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m benchmarks\.(\w+)", PAGES))))
def test_benchmarks_are_there(name: str):
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_and_pictures_are_there(target: str):
    assert (ROOT / target).is_file()


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    Path("example_of_the_page.py").write_text(
        re.search(r"```python\n(.*?)```", RUNNING.split("## The parts")[1], re.DOTALL)[1]
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("example_of_the_page")
    output = capsys.readouterr().out
    figures = dict(line.rsplit(" ", 1) for line in output.splitlines())
    assert float(figures["largest difference"]) < 1e-4
    assert float(figures["spatial"]) > 0 and float(figures["channel"]) > 0


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
