"""What a checkpoint is of: a wrong one is noticed, the right one and one of another code base are not."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from argparser import parse
from config import DataConfig, ModelConfig, OptimConfig, RunConfig, option_fields
from dataset import scenario_of
from utils.errors import UserError
from utils.identity import Identity, Settings, check_identity, check_settings, identity_of, settings_of

PATH = Path("folder/15-1-voc_name_0.pth")


def identity(line: str, step: int) -> Identity:
    parsed = parse(line.split())
    names = [parsed.spec.class_names[label] for label in parsed.task.order(step)]
    scenario = scenario_of(parsed.config.data, parsed.spec)
    return identity_of(parsed.config, parsed.task, step, scenario=scenario, class_names=names)


def checkpoint(line: str, step: int) -> dict:
    return {"trainer_state": {"identity": identity(line, step)}}


@pytest.mark.parametrize(
    ("option", "made_with", "asked_for"),
    [
        ("scenario", "", "--overlap"),
        ("label_protocol", "", "--label_protocol mib"),
        ("scenario", "--overlap", ""),
        ("scenario", "--overlap", "--scenario partitioned"),
        ("task", "--task 15-1", "--task 19-1"),
        ("backbone", "--backbone resnet50", ""),
        ("output_stride", "--output_stride 8", ""),
        ("width", "--width 32", ""),
        ("head_channels", "--head_channels 128", ""),
        ("norm_act", "--norm_act abn", ""),
        ("stem_activation", "--stem_activation", ""),
        ("branches", "--branches 1", ""),
        ("branches", "--method FT", ""),
    ],
)
def test_a_difference_is_named_with_both_values(option: str, made_with: str, asked_for: str):
    with pytest.raises(UserError) as caught:
        check_identity(checkpoint(made_with, 0), identity(asked_for, 0), PATH)
    message = str(caught.value)
    assert message.startswith(f"{PATH} is of another run: it has {option} ") and f"mend --{option}" in message
    assert f"{option} {identity(made_with, 0)[option]}, this run {identity(asked_for, 0)[option]}" in message


def test_the_checkpoint_of_another_step_is_noticed():
    with pytest.raises(UserError, match="it has"):
        check_identity(checkpoint("", 1), identity("", 2), PATH)


@pytest.mark.parametrize("line", ["", "--overlap --method FT --width 8", "--task 10-1 --norm_act std"])
def test_the_checkpoint_of_the_same_setting_passes(line: str):
    for step in (0, 1):
        check_identity(checkpoint(line, step), identity(line, step), PATH)


@pytest.mark.parametrize("line", ["--name other", "--lr 0.5 --epochs 3 --batch_size 6", "--method RCIL --no-drop_path"])
def test_what_leaves_the_network_what_it_is_may_differ(line: str):
    check_identity(checkpoint("", 1), identity(line, 1), PATH)


def test_a_first_step_serves_every_task_that_begins_with_it():
    check_identity(checkpoint("--task 15-5", 0), identity("--task 15-1", 0), PATH)


def test_later_steps_of_tasks_that_begin_alike_differ():
    with pytest.raises(UserError, match="it has task"):
        check_identity(checkpoint("--task 15-5", 1), identity("--task 15-1", 1), PATH)


@pytest.mark.parametrize("foreign", [{}, {"trainer_state": None}, {"trainer_state": {"regularizer": 1}}])
def test_a_file_of_another_code_base_passes(foreign: dict):
    check_identity(foreign, identity("", 0), PATH)


def settings(line: str, step: int = 1, world_size: int = 1) -> Settings:
    config = parse(line.split()).config
    own = {"method": config.method_name} | asdict(config.method)
    return settings_of(config, step, world_size=world_size, method=own)


FREE = {
    "where things lie": "name date checkpoint step_ckpt ckpt logdir results_dir data_root pretrained",
    "what is done, not how": "step test resume debug profile visualize latex wandb sample_num skip_bad_batches",
    "when": "print_interval val_interval ckpt_interval save_minutes",
    "how fast": "num_workers compile",
    "scores": "crop_val ignore_test_bg pooling domain_test",
    "the training images, which have a digest of their own": "test_on_val val_on_trainset cross_val",
    "said by the task": "dataset class_order overlap",
    "said by the list of classes or by the network": "method_name",
}
"""Options that may change in the middle of a step."""


def test_every_option_of_a_run_is_compared_or_may_change():
    """Whoever adds an option has to say which."""
    compared = identity("", 1).keys() | settings("").keys()
    free = {name for names in FREE.values() for name in names.split()}
    options = {
        spec.name for config in (DataConfig, ModelConfig, OptimConfig, RunConfig) for spec in option_fields(config)
    }
    assert options - compared - free == set() and free <= options


@pytest.mark.parametrize(
    "line",
    [
        "--lr 0.3",
        "--epochs 3",
        "--momentum 0.8",
        "--weight_decay 0.1",
        "--batch_size 23",
        "--crop_size 500",
        "--loss_kd 3",
        "--no-drop_path",
        "--random_seed 1",
        "--opt_level O1",
        "--data_masking current+old",
        "--pool_sizes 3 5",
        "--warmup 3",
    ],
)
def test_changed_settings_are_named_with_both_values(line: str):
    with pytest.raises(UserError) as caught:
        check_settings(settings(""), settings(line), PATH, step=1, finished=False)
    option, *values = line.removeprefix("--no-").removeprefix("--").split()
    now = " ".join(values) if values else "False"
    message = str(caught.value)
    assert (
        message.startswith(f"{PATH} is a half-done step 1 with other options: --{option} ") and "--no-resume" in message
    )
    assert re.search(rf"--{option} \S.* then and {re.escape(now)}(\.0)? now;", message) and "\n" not in message


def test_all_changed_settings_are_named_and_only_those():
    line = "--momentum 0.8 --lr 0.3 --name other --print_interval 7 --num_workers 0"
    with pytest.raises(UserError, match="finished step 2") as caught:
        check_settings(settings(""), settings(line), PATH, step=2, finished=True)
    assert re.findall(r"--(\w+) \S+ then", str(caught.value)) == ["lr", "momentum"]


def test_settings_of_the_step_are_compared_and_the_batch_of_all_processes():
    line = "--lr 0.3 0.001 --epochs 7 30"
    check_settings(settings("", 1), settings(line, 1), PATH, step=1, finished=False)
    with pytest.raises(UserError):
        check_settings(settings("", 0), settings(line, 0), PATH, step=0, finished=False)
    alone, four = settings("--batch_size 24"), settings("--batch_size 6", world_size=4)
    check_settings(alone, four, PATH, step=1, finished=False)
