"""The scripts of the settings hand the right task, setting and batch to run.py, and further options on."""

import os
import subprocess
from pathlib import Path

import pytest

from argparser import parse
from benchmarks.scripts import borrowed_environment
from dataset import scenario_of
from methods import METHODS

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(ROOT.glob("scripts/*/*.sh"))
OF_BASELINES = {
    "voc": [f"{task}-{scenario}" for task in ("15-5", "15-1", "10-1") for scenario in ("overlap", "disjoint")],
    "ade": [f"{task}-overlap" for task in ("100-50", "100-10", "100-5", "50-50")],
    "cityscapes_domain": ["11-5", "11-1", "1-1"],
    "cityscapes": [],
}
OF_RCIL = {
    "voc": [*OF_BASELINES["voc"], "19-1-overlap", "19-1-disjoint", "5-3-overlap", "5-3-disjoint"],
    "cityscapes": ["10-9"],
}
SETTINGS = {
    (folder, method): (OF_RCIL.get(folder, settings) if method == "RCIL" else settings)
    for folder, settings in OF_BASELINES.items()
    for method in METHODS
}
"""The settings of SPEC 10 by folder and method."""
NAMES = {f"{folder}/{method.lower()}_{s}": method for (folder, method), settings in SETTINGS.items() for s in settings}
"""Every script that there should be, and its method."""
STARTED = [name for name in NAMES if "/rcil_" in name or name.endswith(("15-1-overlap", "100-50-overlap", "11-1"))]
"""Those that are started here: the others differ from them in what stands in their name."""

LEARNS = {  # learning rates and epochs, of RCIL and of the baselines
    "voc": ((0.02, 0.001), (30,)),
    "ade": ((0.01, 0.001), (60,)),
    "cityscapes": ((0.02, 0.001), (50,)),
}
BASELINES_LEARN = {"voc": (30,), "ade": (60,), "cityscapes_domain": (50,)}


def arguments_of(script: Path, folder: Path, *options: str, **environment: str) -> list[str]:
    """What `script` starts, with an environment in which python and torchrun only print their arguments."""
    borrowed_environment(folder)
    for name in ("python", "torchrun"):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        program.chmod(0o755)
    variables = os.environ | {"VENV": str(folder)} | environment
    done = subprocess.run(
        ["sh", str(script), *options], env=variables, cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_there_is_a_script_for_every_setting():
    assert {f"{script.parent.name}/{script.stem}" for script in SCRIPTS} == NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_its_name_says(name: str):
    folder, stem = name.split("/")
    task = stem.split("_")[1].removesuffix("-overlap").removesuffix("-disjoint")
    text = (ROOT / f"scripts/{name}.sh").read_text()
    title, settings, launch = text.splitlines()[1:]
    assert title.startswith(f"# {NAMES[name]} on ") and f"sh scripts/{name}.sh [--test]" in title
    assert f"task {task}" in title
    dataset = "cityscape" if folder == "cityscapes" else folder
    setting = "overlap" if stem.endswith("overlap") else "disjoint" if stem.endswith("disjoint") else ""
    assert settings == f"DATASET={dataset} TASK={task} SETTING={setting} METHOD={NAMES[name]}"
    assert launch == '. "$(dirname "$0")/../launch.sh"'


@pytest.mark.parametrize("name", STARTED)
def test_a_script_runs_its_setting_with_the_defaults_of_the_paper(name: str, tmp_path: Path):
    script = ROOT / f"scripts/{name}.sh"
    program, entry, *arguments = arguments_of(script, tmp_path, "--test", GPUS="1", SETTING="leaked")
    assert (program, entry) == ("python", "run.py")
    config, spec, task, steps, provenance, _ = parse(arguments)
    scenario = scenario_of(config.data, spec)
    suffix = {"overlapped": "-overlap", "disjoint": "-disjoint"}.get(scenario, "")
    assert config.method_name == NAMES[name] and config.name == f"{NAMES[name]}{suffix}"
    assert script.stem == f"{NAMES[name].lower()}_{task.name}{suffix}"
    assert (spec.folder, spec.facts.kind) == (script.parent.name.split("_")[0], task.kind)
    assert (task.kind == "domain") == script.parent.name.endswith("_domain")
    assert steps == tuple(range(task.num_steps)) and config.test and not provenance.notes
    assert config.data.batch_size == 24 and config.opt_level == "O1"
    if NAMES[name] == "RCIL":
        later = {"11-1": 0.004}.get(task.name, 0.002)
        expected = LEARNS.get(script.parent.name, ((0.02, later), (50,)))
    else:
        expected = (0.01, 0.001), BASELINES_LEARN[script.parent.name]
    assert (config.optim.lr, config.optim.epochs) == expected
    assert config.model.backbone == "resnet101" and config.data.crop_size == 512
    assert config.data.data_root is None and config.method.branches == (2 if NAMES[name] == "RCIL" else 1)


def test_the_environment_sets_processes_batch_and_folder(tmp_path: Path):
    script = ROOT / "scripts/voc/rcil_15-1-overlap.sh"
    (tmp_path / "voc").mkdir()
    program, *arguments = arguments_of(script, tmp_path, "--lr", "0.1", GPUS="4", DATA_ROOT="voc", NAME="mine")
    assert program == "torchrun"
    assert arguments[:4] == ["--standalone", "--nproc_per_node", "4", "run.py"]
    config = parse(arguments[4:]).config
    assert config.data.batch_size == 6 and config.data.data_root == tmp_path / "voc"
    assert config.name == "mine" and config.optim.lr[0] == 0.1


def test_the_environment_is_made_anew_when_a_list_of_packages_changes(tmp_path: Path):
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "scripts/setup.sh"):
        (tmp_path / path.name).write_text(path.read_text())
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }\n')
    python.chmod(0o755)
    variables = os.environ | {"CHECKOUT": str(tmp_path), "VENV": "venv", "PYTHON": str(python)}
    variables["REQUIREMENTS"] = "requirements-dev.txt"

    def said() -> str:
        words = ["sh", "-c", f". {tmp_path}/setup.sh"]
        return subprocess.run(words, env=variables, check=True, capture_output=True, text=True).stdout

    assert "setting up" in said() and said() == ""
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-data.txt", "requirements-export.txt"):
        with open(tmp_path / name, "a") as file:
            file.write("another\n")
        assert "setting up" in said() and said() == "", name


def test_two_settings_of_one_task_do_not_share_a_name(tmp_path: Path):
    names = {
        parse(arguments_of(ROOT / f"scripts/voc/rcil_15-1-{setting}.sh", tmp_path, GPUS="1")[2:]).config.name
        for setting in ("overlap", "disjoint")
    }
    assert len(names) == 2
