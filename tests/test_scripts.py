"""The launchers hand the right method, task, setting and batch to run.py, and further options on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from argparser import Parsed, parse
from benchmarks.scripts import OTHERS, SETTINGS, TRAIN, borrowed_environment, launches
from dataset import scenario_of
from utils.errors import UserError

ROOT = Path(__file__).parents[1]
OF_RCIL = {
    "voc": [f"{task}-{s}" for task in ("19-1", "15-5", "15-1", "10-1", "5-3") for s in ("overlap", "disjoint")],
    "ade": [f"{task}-overlap" for task in ("100-50", "100-10", "100-5", "50-50")],
    "cityscapes_domain": ["11-5", "11-1", "1-1"],
    "cityscapes": ["10-9"],
    "imagenet100": ["50-10"],
}
"""The settings of SPEC 10 by folder, and that of METHODS2 24."""
NAMES = [f"{folder}/rcil_{setting}" for folder, settings in OF_RCIL.items() for setting in settings]
LEARNS = {  # learning rates and epochs of RCIL
    "voc": ((0.02, 0.001), (30,)),
    "ade": ((0.01, 0.001), (60,)),
    "cityscapes": ((0.02, 0.001), (50,)),
    "cityscapes_domain": ((0.02, 0.002), (50,)),
    "imagenet100": ((0.05,), (90,)),
    "cityscapes_domain/rcil_11-1": ((0.02, 0.004), (50,)),
}
EPOCHS = {"voc": (30,), "ade": (60,), "cityscapes_domain": (50,)}
"""Of the other methods, whose learning rates are 0.01 and 0.001, but for those of the next table."""
OTHERWISE = {
    "LGKD ade": ((0.02, 0.002), (60,)),
    **{f"{method} voc": ((0.001, 0.0001), (60,)) for method in ("DKD", "DKD-M", "STAR", "STAR-M")},
    **{f"{method} ade": ((0.0025, 0.00025), (100,)) for method in ("DKD", "DKD-M", "STAR", "STAR-M")},
    **{f"{method} voc": ((0.01,), (50,)) for method in ("SSUL", "SSUL-M")},
    **{f"{method} ade": ((0.01, 0.05), (100,)) for method in ("SSUL", "SSUL-M")},
    **{f"CFSSeg {dataset}": ((0.01, 0.001), (50, 1)) for dataset in EPOCHS},
}


def launch(folder: Path, *words: object, **variables: str) -> subprocess.CompletedProcess:
    """What a script does in an environment in which python and torchrun only print their arguments."""
    borrowed_environment(folder)
    for name in ("python", "torchrun"):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        program.chmod(0o755)
    settings = os.environ | {"VENV": str(folder), "GPUS": "1"} | variables
    return subprocess.run(["sh", *map(str, words)], env=settings, cwd=folder, capture_output=True, text=True)


def launched(folder: Path, *words: object, **variables: str) -> Parsed:
    """What run.py makes of the arguments that a script gives it."""
    done = launch(folder, *words, **variables)
    program, entry, *arguments = done.stdout.splitlines()
    assert (done.returncode, done.stderr, program, entry) == (0, "", "python", "run.py")
    return parse(arguments)


def setting_of(parsed: Parsed) -> list[str]:
    """The setting in the words of the launchers, or nothing where the data set leaves no choice."""
    scenario = scenario_of(parsed.config.data, parsed.spec)
    return [word for word in ("overlap", "disjoint") if scenario.startswith(word)]


def test_every_published_setting_of_rcil_has_a_launcher_and_scripts_are_few():
    assert {name for name in launches() if "/" in name} == {*NAMES}
    assert len([path for path in (ROOT / "scripts").rglob("*") if path.is_file()]) <= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_runs_the_setting_of_its_name_with_the_defaults_of_the_paper(name: str, tmp_path: Path):
    [script] = launches()[name]
    parsed = launched(tmp_path, script, "--test", setting="leaked")
    config, spec, task, steps, provenance, _ = parsed
    folder, stem = name.split("/")
    assert stem == "-".join([f"rcil_{task.name}", *setting_of(parsed)])
    assert config.name == "-".join(["RCIL", *setting_of(parsed)])
    assert (spec.folder, task.kind == "domain") == (folder.removesuffix("_domain"), folder.endswith("_domain"))
    assert steps == task.steps and config.test and all("--aux_root" in note for note in provenance.notes)
    assert config.method_name == "RCIL" and config.method.branches == 2
    assert (config.optim.lr, config.optim.epochs) == LEARNS.get(name, LEARNS[folder])
    size = ("resnet18", 224, 64) if folder == "imagenet100" else ("resnet101", 512, 24)
    assert (config.model.backbone, config.data.crop_size, config.data.batch_size) == size
    assert config.opt_level == "O1" and config.data.data_root is None
    title = script.read_text().splitlines()[1]
    assert f"task {task.name}" in title and f"sh scripts/{name}.sh [--test] [run.py options]" in title


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_launcher_runs_every_other_method(setting: str, tmp_path: Path):
    for method in (name for name in OTHERS if f"{name} {setting}" in launches()):
        parsed = launched(tmp_path, TRAIN, method, *setting.split(), "--test")
        config, _, task, steps, provenance, _ = parsed
        assert [config.data.dataset, task.name, *setting_of(parsed)] == setting.split()
        assert config.method_name == method and config.name == "-".join([method, *setting_of(parsed)])
        usual = LEARNS["imagenet100"] if config.model.head == "pool" else ((0.01, 0.001), EPOCHS[config.data.dataset])
        learns = OTHERWISE.get(f"{method} {config.data.dataset}", usual)
        assert (config.optim.lr, config.optim.epochs) == learns
        assert steps == task.steps and config.test and all("--aux_root" in note for note in provenance.notes)
        assert config.data.batch_size == (64 if config.model.head == "pool" else 24)
        assert config.opt_level == "O1" and config.method.branches == 1


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("", "give METHOD DATASET TASK SETTING"),
        ("PLOP voc --test", "give METHOD DATASET TASK SETTING"),
        ("--method PLOP --task 15-1", "give METHOD DATASET TASK SETTING"),
        ("PLOP voc overlap", "voc needs a setting after the task: overlap or disjoint"),
        ("PLOP voc 15-1 overlapped", "voc needs a setting after the task: overlap or disjoint"),
        ("PLOP ade 100-50 --test", "ade needs a setting after the task: overlap or disjoint"),
        ("PLOP imagenet100 50-10 overlap", "imagenet100 leaves no choice of a setting; leave overlap out"),
        ("PLOP cityscapes_domain 11-1 disjoint", "cityscapes_domain leaves no choice of a setting; leave disjoint out"),
    ],
)
def test_words_that_do_not_serve_are_refused_in_one_line(words: str, allowed: str, tmp_path: Path):
    done = launch(tmp_path, TRAIN, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: train.sh {words}: {allowed}")


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("POD voc 15-1 overlap", "--method POD: choose from FT, LWF, "),
        ("PLOP cityscapes_domain 11-1 overlapped", "unexpected argument 'overlapped'"),
    ],
)
def test_run_py_refuses_what_it_does_not_know(words: str, allowed: str, tmp_path: Path):
    with pytest.raises(UserError, match=f"^{allowed}"):
        launched(tmp_path, TRAIN, *words.split())


def test_the_environment_sets_processes_batch_and_folder(tmp_path: Path):
    (tmp_path / "voc").mkdir()
    variables = {"GPUS": "4", "DATA_ROOT": "voc", "NAME": "mine"}
    done = launch(tmp_path, ROOT / "scripts/voc/rcil_15-1-overlap.sh", "--lr", "0.1", **variables)
    program, *arguments = done.stdout.splitlines()
    assert program == "torchrun"
    assert arguments[:4] == ["--standalone", "--nproc_per_node", "4", "run.py"]
    config = parse(arguments[4:]).config
    assert config.data.batch_size == 6 and config.data.data_root == tmp_path / "voc"
    assert config.name == "mine" and config.optim.lr[0] == 0.1


def test_gpus_that_do_not_divide_the_batch_are_refused_unless_it_is_given(tmp_path: Path):
    words = (TRAIN, "PLOP", "voc", "15-1", "overlap")
    done = launch(tmp_path, *words, GPUS="5")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: GPUS=5 does not divide the batch of 24 images")
    assert "--batch_size\n4\n" in launch(tmp_path, *words, GPUS="5", BATCH_SIZE="4").stdout


def test_torch_counts_the_gpus(tmp_path: Path):
    """Here a python that is asked for nothing else prints its arguments, which are no number."""
    done = launch(tmp_path, TRAIN, "PLOP", "voc", "15-1", "overlap", GPUS="")
    assert done.returncode == 2 and "torch.cuda.device_count()" in done.stderr


def test_the_environment_is_made_anew_when_a_list_of_packages_changes(tmp_path: Path):
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "scripts/setup.sh"):
        (tmp_path / path.name).write_text(path.read_text())
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }\n')
    python.chmod(0o755)
    variables = os.environ | {"CHECKOUT": str(tmp_path), "VENV": "venv", "PYTHON": str(python)}
    variables |= {"REQUIREMENTS": "requirements-dev.txt", "LOCK": "1"}

    def said() -> str:
        words = ["sh", "-c", f". {tmp_path}/setup.sh"]
        return subprocess.run(words, env=variables, check=True, capture_output=True, text=True).stdout

    assert "setting up" in said() and said() == ""
    for name in ("", "-dev", "-data", "-export", "-lock"):
        with open(tmp_path / f"requirements{name}.txt", "a") as file:
            file.write("another\n")
        assert "setting up" in said() and said() == "", name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-data.txt"])
def test_torch_may_come_without_cuda(tmp_path: Path, name: str):
    """First, from an index that has no other builds; what needs no torch does not ask for it."""
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "scripts/setup.sh"):
        (tmp_path / path.name).write_text(path.read_text())
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }\necho "$@"\n')
    python.chmod(0o755)
    variables = os.environ | {"CHECKOUT": str(tmp_path), "VENV": "a venv", "PYTHON": str(python), "REQUIREMENTS": name}
    pip = "-m pip install --quiet --disable-pip-version-check"

    def installs(**more: str) -> list[str]:
        shutil.rmtree(tmp_path / "a venv", ignore_errors=True)
        words = ["sh", "-c", f". {tmp_path}/setup.sh"]
        done = subprocess.run(words, env=variables | more, check=True, capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if line.startswith(pip)]

    whole = f"{pip} -r {name}"
    assert installs(TORCH="") == [whole]
    versions = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch")]
    for index in ("https://download.pytorch.org/whl/cpu", "file:///mirror"):
        mirror = {"TORCH_INDEX": index} if index.startswith("file") else {}
        of_torch = [] if "data" in name else [f"{pip} --index-url {index} {' '.join(versions)}"]
        assert installs(TORCH="cpu", **mirror) == [*of_torch, whole]
    locked = f"{pip} -c requirements-lock.txt"
    assert installs(TORCH="", LOCK="1") == [f"{locked} -r {name}"]
    of_torch = [] if "data" in name else [f"{locked} --no-deps --index-url file:///mirror {' '.join(versions)}"]
    assert installs(TORCH="cpu", LOCK="1", **mirror) == [*of_torch, f"{locked} -r {name}"]


def test_a_script_outside_of_the_checkout_is_told_so(tmp_path: Path):
    words = ["sh", "-c", f". {ROOT}/scripts/setup.sh", str(tmp_path / "copied.sh")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    said = f"error: {tmp_path}/copied.sh lies in no checkout; say where that is with CHECKOUT=DIR\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_body_is_trained_and_written(tmp_path: Path):
    """The checkpoint that is made a body is the one that run.py writes."""
    done = launch(tmp_path, ROOT / "scripts/body.sh", "--epochs", "3", DATA="mine", NAME="small")
    train, _, write = done.stdout.partition("python\ntools/body.py\n")
    program, entry, *arguments = train.splitlines()
    assert (done.returncode, done.stderr, program, entry) == (0, "", "python", "run.py")
    root = tmp_path / "mine"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
    arguments[arguments.index("mine")] = str(root)
    parsed = parse(arguments)
    assert (parsed.config.model.backbone, parsed.config.model.width, parsed.config.optim.epochs) == (
        "resnet26",
        32,
        (3,),
    )
    assert len(parsed.steps) == 1 and parsed.steps[0].num_seen == 2
    checkpoint = parsed.config.checkpoint / f"offline-imagefolder_{parsed.config.name}_0.pth"
    assert write.splitlines() == ["--ckpt", str(checkpoint), "--out", "pretrained/small.safetensors"]
