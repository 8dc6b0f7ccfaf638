"""Every command and every piece of code in the README is one that works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from argparser import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
SHELL_LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
RUN_LINES = [line for line in SHELL_LINES if "run.py" in line]


def test_the_readme_has_commands():
    assert len(SHELL_LINES) > 8 and len(RUN_LINES) > 2


@pytest.mark.parametrize("line", RUN_LINES)
def test_options_of_run_py_are_taken(line: str):
    parse(shlex.split(line.split("run.py", 1)[1]))


@pytest.mark.parametrize("name", re.findall(r"(?:sh|python) ((?:scripts|tools)/\S+?\.(?:sh|py))", README))
def test_scripts_and_tools_are_there(name: str):
    assert (ROOT / name).is_file()
    if name.endswith(".sh"):
        subprocess.run(["sh", "-n", str(ROOT / name)], check=True)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m benchmarks\.(\w+)", README + BENCHMARKS))))
def test_benchmarks_are_there(name: str):
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_and_pictures_are_there(target: str):
    assert (ROOT / target).is_file()


def test_the_python_example_runs(tmp_path: Path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    figures = dict(line.rsplit(" ", 1) for line in output.splitlines())
    assert float(figures["largest difference"]) < 1e-4
    assert float(figures["spatial"]) > 0 and float(figures["channel"]) > 0
