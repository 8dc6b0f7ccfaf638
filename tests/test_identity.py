"""What a checkpoint is of: a wrong one is noticed, the right one and one of another code base are not."""

from pathlib import Path

import pytest

from argparser import parse
from dataset import scenario_of
from utils.errors import UserError
from utils.identity import Identity, check_identity, identity_of

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
