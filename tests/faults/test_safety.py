"""Nothing runs that nobody asked for: on import, out of somebody else's file, or out of a word in the environment."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.scripts import borrowed_environment

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
    if path.relative_to(ROOT).parts[0] != "tests"
]
SCRIPTS = sorted([*ROOT.glob("scripts/**/*.sh"), *ROOT.glob("data/*.sh")])

# Each in one process, and everything of others before the first of ours: torch and matplotlib do much when imported.
IMPORT_ALL = """
import importlib, os, sys
from contextlib import suppress

others, ours = (names.split(",") for names in sys.argv[1:])
for name in others:
    with suppress(ImportError):
        importlib.import_module(name)

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.", "socket.",
    "urllib.", "http.", "ftplib.", "smtplib.", "os.chdir", "os.putenv", "os.unsetenv", "os.kill", "signal.",
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "shutil.", "tempfile.", "sqlite3.",
)
current, seen = "", []

def watch(event, arguments):
    if event.startswith(FORBIDDEN) or (event == "open" and (arguments[2] or 0) & WRITES):
        seen.append(f"{current}: {event}{arguments}")

sys.addaudithook(watch)
for current in ours:
    importlib.import_module(current)
print("\\n".join(seen))
"""


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def import_all(modules: list[str], folder: Path) -> str:
    """What importing `modules`, which lie in `folder`, does besides."""
    paths = [folder.joinpath(*name.split(".")) for name in modules]
    # checkpoints/ of a run is no package: the module is checkpoints.py.
    files = [package if (package := path / "__init__.py").is_file() else path.with_suffix(".py") for path in paths]
    own = {name.split(".")[0] for name in modules}
    others = {name for file in files for name in imported(file) if name.split(".")[0] not in own}
    # Without -B it would write its own .pyc files.
    command = [sys.executable, "-B", "-c", IMPORT_ALL, ",".join(sorted(others)), ",".join(modules)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_a_module_does_nothing_but_define():
    assert {"run", "dataset.reading", "tools.download", "benchmarks.kill_resume"} <= {*MODULES}
    assert import_all(MODULES, ROOT) == ""


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import os; os.system('true')", "os.system"),
        ("import socket; socket.socket().close()", "socket."),
        ("open('here', 'w').close()", "open"),
        ("import pathlib; pathlib.Path('here').mkdir()", "os.mkdir"),
        ("import os; os.environ['HERE'] = '1'", "os.putenv"),
    ],
)
def test_what_an_import_does_is_seen(tmp_path: Path, line: str, event: str):
    (tmp_path / "before.py").write_text("import json\n")
    (tmp_path / "guilty.py").write_text(f"import before\n{line}\n")
    assert f"guilty: {event}" in import_all(["before", "guilty"], tmp_path)


RUN_CODE = {"eval", "exec", "os.system", "os.popen", "os.spawnl", "os.spawnv", "os.execl", "os.execv", "runpy.run_path"}
UNPICKLE = {
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "dill") for name in ("load", "loads", "Unpickler")),
    *("marshal.load", "marshal.loads", "shelve.open", "torch.hub.load", "pandas.read_pickle"),
}
TORCH_LOAD, NUMPY_LOAD = {"torch.load", "torch.serialization.load"}, {"numpy.load", "numpy.lib.npyio.load"}
# Makes the malicious files that it is about, and shows that they are.
EXEMPT = {"tests/utils/test_checkpoint.py"}


def dangers(text: str) -> Iterator[str]:
    """Calls that would run, or let a file run, whatever somebody wrote."""
    tree = ast.parse(text)
    full = {}  # the name that an import gives -> the full one
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = ast.unparse(node.func).partition(".")
        name = f"{full.get(first, first)}.{rest}".rstrip(".")
        said = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        words = {word.arg for word in node.keywords}
        if (
            name in RUN_CODE | UNPICKLE
            or ("shell" in words and said.get("shell") is not False)
            or (name in TORCH_LOAD and said.get("weights_only") is not True)
            or (name in NUMPY_LOAD and "allow_pickle" in words and said.get("allow_pickle") is not False)
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_call_runs_what_somebody_else_wrote():
    names = {str(path.relative_to(ROOT)): path for path in FILES}
    assert EXEMPT.issubset(names) and len(names) > 100
    found = {name: [*dangers(path.read_text())] for name, path in names.items() if name not in EXEMPT}
    assert not {name: calls for name, calls in found.items() if calls}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import os\nos.system(x)", 1),
        ("from os import system as run\nrun(x)", 1),
        ("eval(x)\nexec(x)\nnetwork.eval()", 2),
        ("import pickle as p\np.load(f)\np.loads(b)\np.Unpickler(f)\np.dumps(x)", 3),
        ("import subprocess\nsubprocess.run(x, shell=True)\nsubprocess.run(x, shell=a)\nsubprocess.run(x)", 2),
        ("import torch\ntorch.load(f)\ntorch.load(f, weights_only=False)\ntorch.load(f, weights_only=True)", 2),
        ("from torch import load\nload(f, weights_only=flag)", 1),
        ("import numpy as np\nnp.load(f, allow_pickle=True)\nnp.load(f)\nnp.load(f, allow_pickle=False)", 1),
    ],
)
def test_such_calls_are_found(text: str, count: int):
    assert len([*dangers(text)]) == count


def test_no_script_makes_commands_of_words():
    assert len(SCRIPTS) > 25
    for script in SCRIPTS:
        text = re.sub(r"(^|\s)#.*", "", script.read_text())
        assert not re.search(r"\beval\b|`|\b(ba|da|k|z)?sh\s+-[a-z]*c\b", text), script
        # What python is given to run stands there as it is.
        assert not re.search(r"""python\S*\s+-c\s+(?!'[^']*'|"[^"$]*")""", text), script


SHELLS = [name for name in ("sh", "bash") if shutil.which(name)]
"""One may be the other; bash takes more for a command than others do."""
WORDS = ["x$({});y", "`{}`", "'; {}; '", '"; {}; "', "a[$({})]", "$(({}))", "a\n{}\n", "-x | {}", "{} &"]
"""Each would run a command where a script takes it for more than a word."""


@pytest.fixture(params=SHELLS)
def start(request: pytest.FixtureRequest, tmp_path: Path):
    """start(script, words..., VARIABLES...): what a shell does, with a python that ends each of its words with a 0."""
    environment = borrowed_environment(tmp_path / "venv")
    lists = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-data.txt")]
    (environment / "requirements-data.txt.installed").write_text("".join(lists))
    for name in ("python", "torchrun"):
        program = environment / "bin" / name
        program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
        program.chmod(0o755)

    def run(script: str, *words: str, **variables: str) -> subprocess.CompletedProcess:
        settings = os.environ | {"VENV": str(environment), "GPUS": "1"} | variables
        command = [request.param, str(ROOT / script), *words]
        return subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True)

    return run


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[str]:
    """A command that leaves a file behind, which must not be there in the end."""
    path = tmp_path / "gone"
    yield f"touch {path}"
    left = [place for place in (path, ROOT / "gone") if place.exists()]  # the scripts go to the root
    for place in left:
        place.unlink()
    assert not left


@pytest.mark.parametrize("word", WORDS)
def test_a_script_of_a_setting_hands_hostile_words_on_as_they_are(start, gone: str, tmp_path: Path, word: str):
    word = word.format(gone)
    names = {"NAME": "--name", "CHECKPOINT": "--checkpoint", "OPT_LEVEL": "--opt_level"}
    names |= {"BATCH_SIZE": "--batch_size", "NUM_WORKERS": "--num_workers"}
    done = start("scripts/train.sh", "PLOP", "voc", "15-1", "overlap", word, **dict.fromkeys(names, word))
    assert (done.returncode, done.stderr) == (0, "")
    given = done.stdout.split("\0")
    assert given[0] == "run.py" and given[-2] == word
    assert start("scripts/voc/rcil_15-1-overlap.sh", word).stdout.split("\0")[-2] == word
    assert all(given[given.index(option) + 1] == word for option in names.values())
    assert start("scripts/train.sh", word, word, word, word).returncode == 2


@pytest.mark.parametrize("word", ["x$({});y", "'; {}; '", '"; {}; "', "a[$({})]", "{} &"])
def test_the_folder_of_the_data_is_a_word_whatever_it_is_called(start, gone: str, tmp_path: Path, word: str):
    folder = word.format(gone.replace(str(tmp_path), "."))  # a name has no slash, but for that of ./gone
    (tmp_path / folder).mkdir(parents=True)
    done = start("scripts/voc/rcil_15-1-overlap.sh", DATA_ROOT=folder)
    assert (done.returncode, done.stderr) == (0, "")
    given = done.stdout.split("\0")
    assert given[given.index("--data_root") + 1] == os.path.realpath(tmp_path / folder)
    for script in ("data/download_voc.sh", "data/download_ade.sh", "data/download_cityscapes.sh"):
        assert start(script, folder).stdout.split("\0")[2] == str(tmp_path / folder)
    assert start("scripts/check_data.sh", "voc", folder).stdout.split("\0")[2] == folder


@pytest.mark.parametrize("word", WORDS)
def test_what_is_to_be_a_number_is_refused(start, gone: str, word: str):
    word = word.format(gone)
    for script, variable in (("scripts/voc/rcil_15-1-overlap.sh", "GPUS"), ("scripts/compare.sh", "TASK")):
        done = start(script, **{variable: word})
        assert done.returncode == 2 and done.stderr.startswith(f"error: {variable}=") and not done.stdout


@pytest.mark.parametrize("word", WORDS)
def test_the_comparison_runs_no_hostile_words(start, gone: str, word: str):
    word = word.format(gone)
    names = ("DATA", "SEEDS", "OUT", "LAST", "OPTIONS", "FIRST", "LATER")
    assert "run.py" in start("scripts/compare.sh", "FT", f"FT={word}", **dict.fromkeys(names, word)).stdout
