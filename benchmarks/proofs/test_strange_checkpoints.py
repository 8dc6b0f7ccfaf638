"""A half-done step whose entries are not what they should be: one line, and no traceback."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from argparser import parse
from checkpoints import read_checkpoint
from run import Run, build_trainer, open_run
from tests.helpers import ALONE
from tests.workplace import Workplace
from train import Trainer
from utils.errors import UserError
from utils.stopping import Interrupts

REMOVED = object()
STRANGE = [REMOVED, None, "text", {"other": 2}, torch.ones(2)]
OF_TRAINER = ("epoch", "optimizer_state", "scheduler_state", "best_score", "method_state")
OF_TRAINER_STATE = ("scaler", "phase", "iteration", "ended", "bad_batches", "processes")
OF_STORE = ("schema", "model_state", "method_state", "trainer_state")
OF_STORE_STATE = ("identity", "settings", "images", "predecessor", "finished")


@pytest.fixture
def run(workplace: Workplace, old_checkpoints: Path) -> Run:
    """One that is about to resume step 1."""
    line = "--name rcil --backbone resnet26 --width 4 --head_channels 4 --crop_size 32 --lr 0.0005 --step 1"
    run = open_run(parse(workplace.options(*line.split())), ALONE, Interrupts())
    run.store.path(0).parent.mkdir()
    shutil.copy(old_checkpoints / "rcil_0.pth", run.store.path(0))
    return run


@pytest.fixture
def half_done(old_checkpoints: Path) -> dict:
    """A checkpoint in the middle of an epoch, in the present schema."""
    return read_checkpoint(old_checkpoints / "rcil_1_half.pth", "")[0]


def changed(checkpoint: dict, entry: str, value: object) -> dict:
    """A copy with another value at `entry`, which may be one of trainer_state."""
    *outer, name = entry.split(".")
    content = copy.copy(checkpoint) | {"trainer_state": copy.copy(checkpoint["trainer_state"])}
    place = content[outer[0]] if outer else content
    place[name] = value
    if value is REMOVED:
        del place[name]
    return content


def refused(act: Callable[[], object]) -> bool:
    """Whether that is a UserError, in one line."""
    try:
        act()
    except UserError as error:
        assert "\n" not in str(error)
        return True
    return False


def resumable(run: Run, checkpoint: dict) -> None:
    torch.save(checkpoint, run.store.path(1))
    assert not run.store.resumable(run.data.task.step(1)).finished


def trainer_of(run: Run, checkpoint: dict) -> Trainer:
    resumable(run, checkpoint)
    step = run.data.task.step(1)
    return build_trainer(run, step, run.store.resumable(step))


def test_what_the_trainer_reads_is_refused_or_does_no_harm(run: Run, half_done: dict):
    trainer = trainer_of(run, half_done)
    for entry in (*OF_TRAINER, *(f"trainer_state.{name}" for name in OF_TRAINER_STATE)):
        contents = [changed(half_done, entry, value) for value in [*STRANGE, [1], -1]]
        assert any([refused(lambda content=content: trainer.load_state_dict(content)) for content in contents]), entry
    optimiser = copy.deepcopy(half_done["optimizer_state"])
    optimiser["param_groups"].pop()
    momentum = copy.deepcopy(half_done["optimizer_state"])
    momentum["state"][0]["momentum_buffer"] = torch.ones(7)
    for state in (optimiser, momentum):
        assert refused(lambda state=state: trainer.load_state_dict(half_done | {"optimizer_state": state}))
    assert not refused(lambda: trainer.load_state_dict(half_done))


def test_what_the_store_reads_is_refused_or_does_no_harm(run: Run, half_done: dict, old_checkpoints: Path):
    _, old = read_checkpoint(old_checkpoints / "rcil_1_half.pth", "")
    in_state = [f"trainer_state.{name}" for name in OF_STORE_STATE]
    for checkpoint, entries in (
        (half_done, [*OF_STORE, *in_state]),
        (old, ["model_state", "trainer_state", "trainer_state.method"]),
    ):
        for entry in entries:
            contents = [changed(checkpoint, entry, value) for value in STRANGE]
            assert any([refused(lambda content=content: resumable(run, content)) for content in contents]), entry
        assert not refused(lambda whole=checkpoint: resumable(run, whole))
