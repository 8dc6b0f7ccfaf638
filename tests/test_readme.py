"""Every command and every piece of code in the README is one that works, and the parts in docs/RUNNING.md."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from argparser import parse

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
# The one on a folder needs the folder: benchmarks/proofs/test_worked_examples.py runs it.
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
