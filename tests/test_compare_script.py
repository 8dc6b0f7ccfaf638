"""scripts/compare.sh: every method with every seed, what is finished left alone, one table at the end."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from argparser import parse
from benchmarks.scripts import borrowed_environment
from methods import METHODS

ROOT = Path(__file__).parents[1]
ALL = ["RW", "EWC", "PI", *(name for name in METHODS if name not in ("RW", "EWC", "PI"))]
"""In the order in which they share first steps."""


RESULTS = (ROOT / "docs" / "RESULTS.md").read_text()
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", RESULTS, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if "compare.sh" in command or "demo.sh" in command
]


def shell(folder: Path, command: list[str], **variables: str) -> list[str]:
    """The command lines that a script gives to python, which only prints them."""
    environment = borrowed_environment(folder / "venv")
    (environment / "bin" / "python").write_text('#!/bin/sh\necho "$@"\n')
    settings = os.environ | {"VENV": str(environment), "DATA": str(folder)} | variables
    done = subprocess.run(command, env=settings, cwd=ROOT, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line]


def compare(folder: Path, *methods: str, **variables: str) -> list[str]:
    return shell(folder, ["sh", "scripts/compare.sh", *methods], OUT=str(folder / "out"), **variables)


def test_all_methods_and_seeds_in_two_parts_each(tmp_path: Path):
    for seed in (42, 43, 44):
        (tmp_path / "out" / f"seed{seed}").mkdir(parents=True)
    *runs, table = compare(tmp_path)
    expected = [(seed, name) for seed in ("42", "43", "44") for name in ALL for _ in range(2)]
    words = [line.split() for line in runs]
    assert [(word[word.index("--random_seed") + 1], word[word.index("--method") + 1]) for word in words] == expected
    for first, later in zip(runs[::2], runs[1::2], strict=True):
        assert (
            "--step 0 --lr 0.05 --warmup 30 --epochs 4" in first and "--step 1 2 3 4 5 --lr 0.005 --epochs 2" in later
        )
    # The methods of a seed share a folder, and so a first step.
    assert {word[word.index("--checkpoint") + 1] for word in words[:20]} == {f"{tmp_path}/out/seed42/checkpoints"}
    assert table.startswith("tools/compare_seeds.py") and all(f"seed{seed} " in table for seed in (42, 43, 44))
    minutes = (tmp_path / "out" / "seed42" / "minutes.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in minutes] == ALL


def test_what_is_finished_is_left_alone_and_what_is_not_goes_on(tmp_path: Path):
    results = tmp_path / "out" / "seed1" / "results"
    results.mkdir(parents=True)
    (results / "shapes_voc_15-1_FT.csv").write_text("a row\n" * 6)
    (results / "shapes_voc_15-1_MiB.csv").write_text("a row\n" * 5)
    *runs, _ = compare(tmp_path, "FT", "MiB", SEEDS="1", OPTIONS="--branches 2", LATER="--lr 1")
    assert len(runs) == 2 and all("--method MiB" in line and "--branches 2 --step" in line for line in runs)
    assert runs[1].endswith("--step 1 2 3 4 5 --lr 1")


def test_a_run_has_a_name_and_options_of_its_own(tmp_path: Path):
    (tmp_path / "out" / "seed1").mkdir(parents=True)
    wanted = ("FT", "LWF --lr 9 --loss_kd 3", "slow=PLOP --lr 8")
    *runs, _ = compare(tmp_path, *wanted, SEEDS="1", FIRST="--lr 1", LATER="--lr 2", TASK="10-5")
    firsts, laters = runs[::2], runs[1::2]
    assert [line.split()[2:5:2] for line in laters] == [["FT", "FT"], ["LWF", "LWF"], ["PLOP", "slow"]]
    # argparse takes the last of two: a run's own rate holds in the later steps, its other options in all.
    assert [line.split("--step ")[1] for line in firsts] == [
        "0 --lr 1",
        "0 --lr 9 --loss_kd 3 --lr 1",
        "0 --lr 8 --lr 1",
    ]
    assert [line.split("--step ")[1] for line in laters] == [
        "1 2 --lr 2",
        "1 2 --lr 2 --lr 9 --loss_kd 3",
        "1 2 --lr 2 --lr 8",
    ]
    minutes = (tmp_path / "out" / "seed1" / "minutes.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in minutes] == ["FT", "LWF", "slow"]


def test_a_run_has_what_suits_its_method_unless_a_schedule_is_given(tmp_path: Path):
    (tmp_path / "out" / "seed1").mkdir(parents=True)
    chosen = compare(tmp_path, "MiB", "own=MiB --lr 7", SEEDS="1")
    assert [line.split("--step ")[1] for line in chosen[1:4:2]] == [
        "1 2 3 4 5 --lr 0.005 --epochs 2 --lr 0.03",
        "1 2 3 4 5 --lr 0.005 --epochs 2 --lr 0.03 --lr 7",
    ]
    given = compare(tmp_path, "MiB", SEEDS="1", LATER="--lr 0.1")
    assert given[1].endswith("--step 1 2 3 4 5 --lr 0.1")


def test_the_demo_compares_rcil_and_ft_on_one_network_and_ends_with_a_report(tmp_path: Path):
    *runs, table, report, _, predict = shell(tmp_path, ["sh", "scripts/demo.sh"], SEED="5")
    assert [line.split()[2] for line in runs[::2]] == ["RCIL", "FT"] and all("--random_seed 5" in line for line in runs)
    assert all("--branches 2" in line for line in runs[2:])
    assert "--checkpoint demo/seed5/checkpoints" in runs[0] and "demo/seed5" in table
    assert report.startswith("tools/report.py") and report.count("demo/seed5/results/shapes_voc_15-1_") == 2
    assert "--ckpt demo/seed5/checkpoints/15-1-voc_RCIL_5.pth" in predict


def test_every_run_of_the_comparison_has_options_that_run_py_takes(tmp_path: Path):
    for line in compare(tmp_path, SEEDS="1")[:-1]:
        parse(line.split()[1:])


def test_results_names_its_commands():
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_results_are_ones_that_work(tmp_path: Path, command: str):
    away = re.sub(r"OUT=(\S+)", rf"OUT={tmp_path}/\1", command)
    lines = shell(tmp_path, ["sh", "-c", away])
    runs = [line for line in lines if line.startswith("run.py")]
    for line in runs:
        parse(shlex.split(line)[1:])
    assert runs and lines[-1].startswith("tools/compare_seeds.py")
