"""scripts/compare.sh: every method with every seed, first steps that a run takes from another, one table at the end."""

import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from argparser import parse
from benchmarks.scripts import borrowed_environment
from methods import METHODS
from tests.workplace import Workplace
from tools.compare import main as make_table

ROOT = Path(__file__).parents[1]
FIRST_STEPS = {name: "FT" for name in ("LWF", "ILT", "MiB", "PLOP", "LGKD", "EWF", "UCD", "ST")}
FIRST_STEPS |= {f"{name}-M": name for name in ("DKD", "STAR", "SSUL")}
"""Whose first step a method takes."""
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "RESULTS.md").read_text(), re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if "compare.sh" in command
]


def start(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """A script with all files below `folder`, whose python only prints what it is given."""
    environment = borrowed_environment(folder / "venv")
    (environment / "bin" / "python").write_text('#!/bin/sh\necho "$@"\n')
    settings = {"VENV": str(environment), "DATA": str(folder), "OUT": str(folder / "out")} | variables
    words = ["sh", *command]
    return subprocess.run(words, env=os.environ | settings, cwd=ROOT, capture_output=True, text=True)


def compare(folder: Path, *runs: str, **variables: str) -> list[str]:
    """The command lines that the comparison gives to python."""
    done = start(folder, "scripts/compare.sh", *runs, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\n\n", "\n").splitlines()


def test_all_methods_run_with_all_seeds_in_two_parts(tmp_path: Path):
    for seed in (42, 43, 44):
        (tmp_path / "out" / f"seed{seed}").mkdir(parents=True)
    *lines, table = compare(tmp_path)
    runs = [parse(line.split()[1:]) for line in lines]
    by_seed = [(run.config.random_seed, run.config.method_name) for run in runs]
    assert sorted(by_seed) == sorted((seed, name) for seed in (42, 43, 44) for name in METHODS for _ in range(2))
    for first, later in zip(runs[::2], runs[1::2], strict=True):
        assert (first.steps, later.steps) == (first.task.steps[:1], first.task.steps[1:])
        assert (first.config.optim.lr[0], first.config.optim.warmup, later.config.optim.warmup) == (0.05, 30, 0)
        assert (first.config.optim.epochs[0], later.config.optim.epochs[1]) == (4, 2)
        assert first.config.step_ckpt == later.config.step_ckpt
        checkpoints = tmp_path / "out" / f"seed{first.config.random_seed}" / "checkpoints"
        taken = FIRST_STEPS.get(first.config.method_name)
        assert first.config.step_ckpt == (checkpoints / f"15-1-voc_{taken}_0.pth" if taken else None)
        assert first.config.checkpoint == checkpoints
    assert table.startswith("tools/compare.py") and all(f"seed{seed} " in table for seed in (42, 43, 44))
    rates = {run.config.method_name: run.config.optim.lr[1] for run in runs[1::2]}
    assert (rates["PI"], rates["FT"], rates["MiB"]) == (0.005, 0.015, 0.03)  # what suits each
    minutes = (tmp_path / "out" / "seed42" / "minutes.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in minutes} == METHODS.keys()


def test_what_is_finished_is_left_alone_and_what_is_not_is_resumed(tmp_path: Path):
    results = tmp_path / "out" / "seed1" / "results"
    results.mkdir(parents=True)
    (results / f"{tmp_path.name.replace('_', '-')}_voc_15-1_FT.csv").write_text("# a note\n" + "a row\n" * 6)
    (results / f"{tmp_path.name.replace('_', '-')}_voc_15-1_MiB.csv").write_text("# a note\n" + "a row\n" * 5)
    *runs, _ = compare(tmp_path, "FT @gone", "MiB", SEEDS="1", OPTIONS="--branches 2", LATER="--lr 1")
    assert len(runs) == 2 and all("--method MiB" in line and "--branches 2 --step" in line for line in runs)
    assert runs[1].endswith("--step 1 2 3 4 5 --lr 1")


def test_a_run_has_a_name_a_first_step_and_options_of_its_own(tmp_path: Path):
    (tmp_path / "out" / "seed1").mkdir(parents=True)
    wanted = ("FT", "LWF @FT --lr 9 --loss_kd 3", "slow=PLOP --lr 8", "MiB @slow")
    *runs, _ = compare(tmp_path, *wanted, SEEDS="1", FIRST="--lr 1", LATER="--lr 2", TASK="10-5")
    assert [line.split()[2:5:2] for line in runs[::4]] == [["FT", "FT"], ["PLOP", "slow"]]
    taken = [re.findall(r"--step_ckpt \S+voc_(\w+)\.pth", line) for line in runs]
    assert taken == [[], [], ["FT_0"], ["FT_0"], [], [], ["slow_0"], ["slow_0"]]
    # argparse takes the last of two: a run's own rate holds in the later steps, its other options in all.
    assert [line.split("--step ")[1] for line in runs] == [
        *("0 --lr 1", "1 2 --lr 2"),
        *("0 --lr 9 --loss_kd 3 --lr 1", "1 2 --lr 2 --lr 9 --loss_kd 3"),
        *("0 --lr 8 --lr 1", "1 2 --lr 2 --lr 8"),
        *("0 --lr 1", "1 2 --lr 2"),
    ]


@pytest.mark.parametrize("runs", [["MiB @FT"], ["MiB @FT", "FT"], ["FT", "LWF @FT", "MiB @LWF"], ["FT", "MiB @F"]])
def test_a_first_step_that_is_not_there_is_said_before_anything_runs(runs: list[str], tmp_path: Path):
    done = start(tmp_path, "scripts/compare.sh", *runs, SEEDS="1")
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    wanted, lender = next((run, run.split("@")[1]) for run in reversed(runs) if "@" in run)
    path = tmp_path / "out" / "seed1" / "checkpoints" / f"15-1-voc_{lender}_0.pth"
    assert line.startswith(f'error: "{wanted}": {path} is missing')
    path.parent.mkdir(parents=True)
    path.touch()  # as an earlier command leaves it
    assert f"--step_ckpt {path} " in "".join(compare(tmp_path, *runs, SEEDS="1"))


def test_the_task_may_be_a_file_and_the_pictures_a_folder_with_classes_of_its_own(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("\n".join(["background", *"abcdefghijk"]))
    order = tmp_path / "mine.txt"
    order.write_text("# first\na, b, c\n\nd, e, f, g # then\nh, i, j, k\n")
    settings = {"SEEDS": "1", "DATASET": "folder", "PRETRAINED": "a body.safetensors"}
    (tmp_path / "out" / "seed1").mkdir(parents=True)
    for task, name, last in (("5-3", "5-3", 2), ("6-1", "6-1", 5), (str(order), "mine", 2)):
        first, later, _, _, _ = compare(tmp_path, "FT", "MiB @FT", TASK=task, **settings)
        assert f" --step {' '.join(map(str, range(1, last + 1)))} " in later
        for line in (first, later):
            parsed = parse(shlex.split(line.replace("a body", "'a body'"))[1:])
            assert (parsed.task.name, parsed.task.num_steps, parsed.spec.name) == (name, last + 1, "folder")
            assert parsed.task.scenario == "overlapped"
            assert (
                parsed.config.model.pretrained == Path("a body.safetensors") and not parsed.config.model.no_pretrained
            )
    [joint, _] = compare(tmp_path, "joint=FT", TASK="offline", **settings)
    assert "--task offline" in joint and "--step 0 " in joint


def test_a_first_step_that_is_taken_is_scored_and_not_trained(tmp_path: Path, shapes: Path):
    small = "--width 8 --head_channels 16 --crop_size 64 --batch_size 4 --epochs 1 --no_visualize"
    settings = {"SEEDS": "1", "LAST": "1", "DATA": str(shapes), "OPTIONS": small, "FIRST": "--lr 0.001"}
    # What the script would run, run here, where it costs no start of the program.
    ft = compare(tmp_path, "FT", "LWF @FT", **settings)[:2]
    assert [Workplace.main(line.split()[1:]) for line in ft] == [0, 0]
    *lwf, table = compare(tmp_path, "FT", "LWF @FT", LATER="--lr 0.001", **settings)
    assert [Workplace.main(line.split()[1:]) for line in lwf] == [0, 0]
    assert make_table(table.split(" --title")[0].split()[1:]) == 0
    folder = tmp_path / "out" / "seed1"
    names = [f"{shapes.name}_voc_15-1_{name}.csv" for name in ("FT", "LWF")]
    tables = [(folder / "results" / name).read_text().splitlines() for name in names]
    assert tables[0][0] == tables[1][0] and [len(table) for table in tables] == [2, 2]
    assert {path.name for path in (folder / "checkpoints").glob("*.pth")} == {
        f"15-1-voc_{name}.pth" for name in ("FT_0", "FT_1", "LWF_1")
    }
    assert [line.split(",")[0] for line in (folder / "minutes.csv").read_text().splitlines()] == ["LWF"]
    assert "LWF" in (tmp_path / "out" / "table.md").read_text()


def test_the_demo_compares_rcil_and_ft_on_one_network_and_ends_with_a_report(tmp_path: Path):
    done = start(tmp_path, "scripts/demo.sh", SEED="5")
    start_of, *runs, table, report, _, predict = filter(None, done.stdout.splitlines())
    body = "pretrained/resnet26w32.safetensors"
    assert start_of.endswith(f" {body}") and all(f"--pretrained {body} " in line for line in runs)
    scratch = start(tmp_path, "scripts/demo.sh", SEED="5", PRETRAINED="").stdout
    assert scratch.startswith("the body starts from scratch\n") and scratch.count("--no_pretrained ") == len(runs)
    assert [line.split()[2] for line in runs[::2]] == ["RCIL", "FT"] and all("--random_seed 5" in line for line in runs)
    first = "--step_ckpt demo/seed5/checkpoints/15-1-voc_RCIL_0.pth "
    assert all("--branches 2" in line and first in line for line in runs[2:])
    assert "--checkpoint demo/seed5/checkpoints" in runs[0] and "demo/seed5" in table
    assert (
        report.startswith("tools/report.py")
        and report.count(f"demo/seed5/results/{tmp_path.name.replace('_', '-')}_voc_15-1_") == 2
    )
    assert "--ckpt demo/seed5/checkpoints/15-1-voc_RCIL_5.pth" in predict


def test_the_commands_of_the_results_are_ones_that_work(tmp_path: Path):
    checkpoints = tmp_path / "compare" / "seed42" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("FT", "RCIL"):  # what the first of them leaves
        (checkpoints / f"15-1-voc_{name}_0.pth").touch()
    assert len(COMMANDS) >= 5
    for command in COMMANDS:
        away = re.sub(r"OUT=(\S+)", rf"OUT={tmp_path}/\1", command)
        done = start(tmp_path, "-c", away, OUT=str(tmp_path / "compare"))
        assert done.returncode == 0, done.stderr
        *lines, table = filter(None, done.stdout.splitlines())
        runs = [parse(shlex.split(line)[1:]) for line in lines if line.startswith("run.py")]
        assert runs and table.startswith("tools/compare.py")


@pytest.mark.parametrize(("part", "of_first"), [("choose", {"FT"}), ("choose_own", {"RCIL", "SSUL"})])
def test_the_study_gives_each_method_five_trials_on_the_split(tmp_path: Path, part: str, of_first: set[str]):
    checkpoints = tmp_path / "study" / part / "seed41" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(ROOT / "data" / "camvid_classes.txt", tmp_path / "classes.txt")
    body = str(ROOT / "pretrained" / "resnet26w32.safetensors")
    done = start(tmp_path, "scripts/study_camvid.sh", part, STUDY=str(tmp_path / "study"), PRETRAINED=body)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("run.py")]
    runs = [parse(shlex.split(line)[1:]).config for line in lines]
    assert {run.data.test_on_val for run in runs} == {True} and {run.random_seed for run in runs} == {41}
    assert {run.data.crop_size for run in runs} == {192} and {run.model.pretrained for run in runs} == {Path(body)}
    firsts, later = runs[::2], runs[1::2]
    assert {run.name for run in firsts if not run.step_ckpt} == of_first
    assert {run.step for run in later} == {("1", "2")}
    trials = Counter(run.method_name for run in later)
    assert set(trials.values()) == {5}, trials
    settings = {(run.method_name, run.optim.lr[1], run.optim.epochs[1], str(run.method)) for run in later}
    assert len(settings) == len(later)  # no trial stands twice


def test_a_part_that_the_study_does_not_have_is_refused(tmp_path: Path):
    done = start(tmp_path, "scripts/study_camvid.sh", "chose")
    assert done.returncode == 2 and done.stderr.startswith("error: study_camvid.sh chose: ")
