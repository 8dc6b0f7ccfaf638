"""A loss or a gradient that is not finite: the run says where, and keeps what is good; or leaves the batch out."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workplace import Workplace, assert_same, load
from utils.optim import Updater

RUN = ["--step", 0, "--no_visualize", "--crop_size", 32, "--print_interval", 4, "--ckpt_interval", 1]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """spoil("loss" or "gradient", number): that of iteration `number` of a step, counted from 1, is not finite."""

    def spoilt(what: str, number: int) -> None:
        plain = Updater.update

        def update(self: Updater, parts: Iterable[dict[str, Tensor]], penalties: object = None) -> dict[str, Tensor]:
            (losses,) = parts
            if self.count + 1 == number:
                # The root has a value at 0, and no slope.
                addition = torch.nan if what == "loss" else (0 * self.weights[0]).sqrt().sum()
                losses = losses | {"ce": losses["ce"] + addition}
            return plain(self, [losses], penalties)

        monkeypatch.setattr(Updater, "update", update)

    return spoilt


def images_of(workplace: Workplace) -> set[str]:
    """Names of all training images."""
    return {Path(line.split()[0]).name for line in (workplace.data / "list" / "train_aug.txt").read_text().splitlines()}


def test_a_loss_that_grows_without_bound_ends_the_run(workplace: Workplace, capfd: pytest.CaptureFixture):
    assert workplace.run(*RUN, "--lr", 1e30) == 3
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    said = re.match(
        r"error: step 0, epoch 1, iteration (\d+): the loss 'ce' became nan in process 0, images (.*); the last "
        r"checkpoint is as it was; leave such batches out with --skip_bad_batches N \(it is 0\), or .*--lr",
        error,
    )
    assert said and 2 <= int(said[1]) <= 4
    assert len(said[2].split()) == 4 and {*said[2].split()} <= images_of(workplace)
    assert not [path for path in workplace.folder.rglob("*") if path.suffix in (".pth", ".csv")]


@pytest.mark.parametrize(("what", "named"), [("loss", "the loss 'ce' became nan"), ("gradient", "the gradient became")])
def test_the_last_good_checkpoint_is_kept_and_resumed(
    workplace: Workplace, spoil: Callable[[str, int], None], capfd: pytest.CaptureFixture, what: str, named: str
):
    spoil(what, 14)
    assert workplace.run(*RUN) == 3
    error = capfd.readouterr().err
    assert f"step 0, epoch 2, iteration 3: {named}" in error and "the last checkpoint is as it was; " in error
    kept = load(workplace.checkpoint(0))
    assert kept["epoch"] == 1 and all(weight.isfinite().all() for weight in kept["model_state"].values())
    assert workplace.run(*RUN, "--skip_bad_batches", 1) == 0
    assert "left out, 1 of --skip_bad_batches 1" in capfd.readouterr().out
    resumed = load(workplace.checkpoint(0))
    assert resumed["trainer_state"]["bad_batches"] == 1
    whole = ["--name", "whole", "--skip_bad_batches", 1]
    assert workplace.run(*RUN, *whole) == 0
    assert_same(load(workplace.checkpoint(0, name="whole")), resumed)


def test_no_more_batches_are_left_out_than_allowed(
    workplace: Workplace, spoil: Callable[[str, int], None], capfd: pytest.CaptureFixture
):
    for number in (3, 4, 15):
        spoil("loss", number)
    assert workplace.run(*RUN, "--skip_bad_batches", 2) == 3
    out, error = capfd.readouterr()
    assert "epoch 1, iteration 3" in out and "left out, 2 of --skip_bad_batches 2" in out
    assert "epoch 2, iteration 4" in error


def test_a_finite_run_is_the_same_with_and_without_the_allowance(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 1, "--no_visualize", "--skip_bad_batches", 5) == 0
    assert_same(load(workplace.checkpoint(1)), load(trained.checkpoint(1)))
