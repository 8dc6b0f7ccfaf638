"""What a checkpoint is of and was made with: another one is noticed, the right one and a foreign one are taken."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from argparser import parse
from checkpoints import (
    CheckpointStore,
    Identity,
    Settings,
    check_identity,
    check_settings,
    identity_of,
    read_checkpoint,
)
from config import DataConfig, ModelConfig, OptimConfig, RunConfig, option_fields
from modules.authors_names import to_authors
from tests.helpers import ALONE
from tests.networks import TINY, save_network
from tests.workplace import Workplace, load
from utils.checkpoint import save_checkpoint
from utils.distributed import Dist
from utils.errors import UserError

PATH = Path("folder/15-1-voc_name_0.pth")


def identity(line: str, step: int) -> Identity:
    parsed = parse(line.split())
    return identity_of(parsed.config, parsed.spec, parsed.task.step(step))


def store(line: str, dist: Dist = ALONE) -> CheckpointStore:
    parsed = parse(line.split())
    return CheckpointStore(parsed.config, parsed, parsed.steps, dist)


def settings(line: str, step: int = 1, dist: Dist = ALONE) -> Settings:
    """What training depends on; nothing of the data is read for it."""
    return store(line, dist)._settings(parse(line.split()).task.step(step))


def test_the_place_of_a_checkpoint():
    """CHECKPOINT/TASK-DATASET_NAME_STEP.pth (SPEC 9)."""
    assert store("--checkpoint folder --name RCIL").path(3) == Path("folder/15-1-voc_RCIL_3.pth")


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
        ("head", "--head concat", ""),
        ("norm_act", "--norm_act abn", ""),
        ("stem_activation", "--stem_activation", ""),
        ("branches", "--branches 1", ""),
        ("branches", "--method FT", ""),
    ],
)
def test_a_difference_is_named_with_both_values(option: str, made_with: str, asked_for: str):
    with pytest.raises(UserError) as caught:
        check_identity(identity(made_with, 0), identity(asked_for, 0), PATH)
    message = str(caught.value)
    assert message.startswith(f"{PATH} is of another run: it has {option} ") and f"correct --{option}" in message
    assert f"{option} {identity(made_with, 0)[option]}, this run {identity(asked_for, 0)[option]}" in message


def test_a_file_from_before_there_was_a_choice_of_heads_has_the_usual_one(tmp_path: Path):
    save_network(tmp_path / "step.pth", "", 0)
    checkpoint = load(tmp_path / "step.pth")
    assert checkpoint["trainer_state"]["identity"].pop("head") == "sum"
    save_checkpoint(tmp_path / "old.pth", checkpoint)
    found = read_checkpoint(tmp_path / "old.pth", "")[0]["trainer_state"]["identity"]
    with pytest.raises(UserError, match=r"it has head sum, this run concat; .* correct --head$"):
        check_identity(found, identity(f"{TINY} --head concat", 0), PATH)


def test_another_step_is_noticed_and_another_task():
    for found, step, expected, other in (("", 1, "", 2), ("--task 15-5", 1, "--task 15-1", 1)):
        with pytest.raises(UserError, match="it has task"):
            check_identity(identity(found, step), identity(expected, other), PATH)


@pytest.mark.parametrize(
    ("made_with", "asked_for", "step"),
    [
        ("--overlap --method FT --width 8", "--overlap --method FT --width 8", 1),
        ("", "--name other --lr 0.5 --epochs 3 --batch_size 6 --no_drop_path", 1),
        ("--task 15-5", "--task 15-1", 0),  # a first step serves every task that begins with it
    ],
)
def test_what_leaves_the_network_what_it_is_may_differ(made_with: str, asked_for: str, step: int):
    check_identity(identity(made_with, step), identity(asked_for, step), PATH)


FREE = {
    "where things lie": "name date checkpoint step_ckpt ckpt logdir results_dir data_root",
    "what is done, not how": "step test resume debug profile visualize latex wandb sample_num skip_bad_batches",
    "when": "print_interval val_interval ckpt_interval save_minutes",
    "how fast": "num_workers compile deterministic checkpoint_blocks",
    "scores": "crop_val resize_size ignore_test_bg pooling domain_test",
    "the training images, which have a digest of their own": "test_on_val val_on_trainset cross_val",
    "compared by its pictures, where the method trains on such": "aux_root",
    "said by the task": "dataset class_list class_order overlap",
    "compared as method": "method_name",
}
"""Options that may change in the middle of a step."""


def test_every_option_of_a_run_is_compared_or_may_change():
    """Whoever adds an option has to say which."""
    compared = identity("", 1).keys() | settings("", 0).keys()
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
        "--no_drop_path",
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
    option, *values = line.removeprefix("--no_").removeprefix("--").split()
    now = " ".join(values) if values else "off"
    message = str(caught.value)
    assert (
        message.startswith(f"{PATH} is a half-done step 1 with other options: --{option} ") and "--no_resume" in message
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
    four = settings("--batch_size 6", dist=Dist(rank=0, world_size=4, device=ALONE.device))
    check_settings(settings("--batch_size 24"), four, PATH, step=1, finished=False)


def test_a_first_step_of_other_imagenet_weights_is_noticed(
    trained: Workplace, workplace: Workplace, capfd: pytest.CaptureFixture
):
    """Wherever the file lies: what is in it counts."""
    options = workplace.options("--step", 0, "--epochs", 1, "--crop_size", 32, "--no_visualize", "--pretrained")
    options.remove("--no_pretrained")
    one, same, other = (workplace.folder / name for name in ("one.pth", "same.pth", "other.pth"))
    for path, step in ((one, 0), (other, 1)):
        weights = to_authors(load(trained.checkpoint(0))["model_state"])
        body = {n.replace("body.", ""): w + step for n, w in weights.items() if "body." in n and "_new" not in n}
        torch.save({"state_dict": body}, path)
    shutil.copy(one, same)
    assert workplace.main([*options, str(one)]) == 0
    assert workplace.main([*options, str(same)]) == 0
    assert "step 0 is finished" in capfd.readouterr().out
    before = workplace.files()
    assert workplace.main([*options, str(other)]) == 2
    error = capfd.readouterr().err
    assert re.search(r"is a finished step 0 with other options: --pretrained \w+ then and \w+ now; ", error)
    assert error.count("\n") == 1 and workplace.files() == before


def test_the_page_lists_all_that_may_change():
    """Every option is a setting, a part of the identity, or decides which images a step has; or it is in the list."""
    noticed = {*settings(""), *identity("", 0), *option_names(OptimConfig), *option_names(parse([]).config.method)}
    noticed |= {
        "method_name",
        "class_list",
        "class_order",
        "overlap",
        "test_on_val",
        "cross_val",
        "aux_root",
    }  # by images
    asked = {"name", "step", "test", "resume", "pretrained"}  # which run, and what of it; what is in the file counts
    page = (Path(__file__).parents[1] / "docs" / "RESUMING.md").read_text()
    told = page.partition("What may change without it:")[2].partition("All else is refused.")[0]
    listed = set(re.findall(r"`--(\w+)`", told))
    every = {name for config in (RunConfig, DataConfig, ModelConfig) for name in option_names(config)}
    assert listed == every - noticed - asked


def option_names(config: object) -> set[str]:
    return {spec.name for spec in option_fields(config if isinstance(config, type) else type(config))}
