"""What a method is promised: methods/base.py, with a method that uses all of it (tests/methods/probe.py)."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from argparser import parse
from config import DataConfig, OptimConfig
from methods import METHODS, whole
from methods.base import Method, MethodConfig
from methods.finetune import FT
from metrics.report import Reporter
from segmentation_module import SegmentationNet
from tests.helpers import small_network, task_of
from tests.methods.probe import Probe
from tests.trainers import InMemory, through_file, trainer_of
from tests.workplace import StopAt, Workplace, assert_same, load
from train import Trainer
from utils.errors import UserError
from utils.optim import Group

STEPS = task_of("voc", "15-1").steps
OPTIM = OptimConfig(lr=(0.001,), epochs=(2,), momentum=0.9, weight_decay=0.1)
WHOLE = {
    "__doc__": "It learns.",
    "Config": MethodConfig,
    "serves": ("classes",),
    "reason": "it needs a background",
    "losses": FT.losses,
}


class NotADataclass(MethodConfig):
    """Its options would not be seen."""


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("losses", None, "losses"),
        ("Config", None, "Config, a dataclass based on MethodConfig"),
        ("Config", dataclass(type("Other", (), {})), "Config, a dataclass based on MethodConfig"),
        ("Config", NotADataclass, "Config, a dataclass based on MethodConfig"),
        ("serves", None, "serves, a tuple of classes, domains and images, or some of them"),
        ("serves", "classes", "serves, a tuple of classes, domains and images, or some of them"),
        ("serves", ("pixels",), "serves, a tuple of classes, domains and images, or some of them"),
        ("reason", None, "reason, why it does not serve all settings"),
        ("phases", (), "phases, one or more different names"),
        ("phases", ("train", "train"), "phases, one or more different names"),
        ("__doc__", None, "a docstring"),
    ],
)
def test_a_method_that_forgets_a_part_of_the_interface_is_refused(part: str, value: Any, words: str):
    parts = {name: given for name, given in (WHOLE | {part: value}).items() if given is not None}
    with pytest.raises(TypeError) as caught:
        whole({"FT": FT, "MINE": type("Mine", (Method,), parts)})
    assert str(caught.value) == f"method MINE lacks {words}: see Method in methods/base.py"


def test_a_method_with_all_parts_is_taken():
    table = {"MINE": type("Mine", (Method,), WHOLE), "PROBE": Probe}
    assert whole(table) is table
    with pytest.raises(TypeError, match="method MINE lacks a base class Method"):
        whole({"MINE": type("Mine", (), WHOLE)})


def test_a_method_is_refused_where_it_does_not_serve(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METHODS, "PROBE", Probe)
    assert parse(["--method", "PROBE", "--loss_probe", "2"]).config.method.loss_probe == 2
    with pytest.raises(UserError) as caught:
        parse(["--method", "PROBE", "--dataset", "cityscapes_domain", "--task", "11-5"])
    assert str(caught.value) == (
        "--method PROBE does not serve data in which domains arrive: it counts the pixels of each class"
    )


def probe_trainer(step: int = 1, method: type[Method] = Probe, **options: Any) -> Trainer:
    return trainer_of(method, STEPS[step], InMemory(STEPS[step].num_seen), **{"optim": OPTIM} | options)


def train(trainer: Trainer, *, until: int = -1) -> list[dict[str, Any]]:
    """To the end, or until so many updates, as run.train does it; losses, phase and learning rate of each iteration."""
    seen = []
    while not trainer.is_done:
        for losses in trainer.train_epoch():
            seen.append({**losses, "lr": trainer.updater.lr, "phase": trainer.method.phase})
            if trainer.updates == until:
                return seen
        if trainer.is_in_last_epoch:
            torch.manual_seed(0)
            trainer.finish(lambda: small_network(branches=1, classes_per_head=(16,)))
        trainer.end_epoch()
    return seen


def test_layers_of_its_own_learn_at_their_rate_with_their_decay():
    trainer = probe_trainer(optim=OptimConfig(lr=(0.001,), momentum=0.0, weight_decay=0.1))
    probe, own = trainer.method.probe.weight, trainer.student.head.reduce.weight
    before = [weight.detach().clone() for weight in (probe, own)]
    next(trainer.train_epoch())
    assert probe.grad.abs().max() > 0
    torch.testing.assert_close(probe, before[0] - 0.001 * 10 * probe.grad)
    torch.testing.assert_close(own, before[1] - 0.001 * (own.grad + 0.1 * before[1]))


def test_it_sees_the_data_of_a_step_before_it_starts():
    trainer = probe_trainer()
    trainer.begin()
    labels = torch.cat([labels.flatten() for _, labels in trainer.batches.batches])
    assert torch.equal(trainer.method.pixels, torch.bincount(labels, minlength=17))


def test_each_phase_has_a_schedule_and_a_loss_of_its_own():
    seen = train(probe_trainer())
    first, second = seen[:4], seen[4:]
    assert [look["phase"] for look in seen] == ["first"] * 4 + ["second"] * 4
    assert [look["lr"] for look in first] == [look["lr"] for look in second] and first[-1]["lr"] == 0 < first[0]["lr"]
    # The batches are the same, and the loss of the probe counts twice.
    assert second[0]["probe"] / first[-2]["probe"] == pytest.approx(2, rel=0.3)
    # Step 0 has the last phase alone.
    assert [look["phase"] for look in train(probe_trainer(0))] == ["second"] * 4


def test_it_resumes_bit_for_bit_in_either_phase():
    whole_one = probe_trainer()
    whole_one.begin()
    losses = train(whole_one)
    assert (whole_one.method.looks, whole_one.method.ends) == (1, 1)
    for updates in (1, 2, 4, 5, 7):
        cut_off = probe_trainer()
        cut_off.begin()
        train(cut_off, until=updates)
        resumed = probe_trainer()
        resumed.load_state_dict(through_file(cut_off.state_dict()))
        assert train(resumed) == losses[updates:]
        assert_same(resumed.state_dict(), whole_one.state_dict())


class Looks(Probe):
    """After step 0 it trains nothing."""

    @property
    def phases_of_step(self) -> tuple[str, ...]:
        return () if self.step.number else super().phases_of_step


def test_a_step_without_phases_is_its_finish_alone():
    assert [look["phase"] for look in train(probe_trainer(0, Looks))] == ["second"] * 4
    whole_one = probe_trainer(method=Looks, data=DataConfig(batch_size=1))  # no norm is in training
    whole_one.begin()
    assert whole_one.is_done and whole_one.updater is None and "no training" in whole_one.announcement
    for _ in range(2):  # the second time it is done already
        whole_one.finish(lambda: small_network(branches=1, classes_per_head=(16,)))
    resumed = probe_trainer(method=Looks)
    resumed.load_state_dict(through_file(whole_one.state_dict()))
    resumed.finish(lambda: None)
    assert_same(resumed.state_dict(), whole_one.state_dict())
    assert (whole_one.method.looks, whole_one.method.ends) == (1, 1) and train(resumed) == []
    trained = through_file(probe_trainer().state_dict())
    for wrong in ({"epoch": 1}, {"trainer_state": trained["trainer_state"] | {"iteration": 1}}):
        with pytest.raises(UserError, match="it cannot be resumed"):
            probe_trainer(method=Looks).load_state_dict(trained | wrong)


class Ungrouped(Probe):
    """Its probe would never learn."""

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        return {name: group for name, group in super().groups(student).items() if name != "method"}


class Twice(Probe):
    """Its probe would learn twice."""

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        return super().groups(student) | {"again": Group([self.probe.bias])}


def test_a_method_whose_parameter_is_not_in_one_group_is_refused_with_its_name():
    with pytest.raises(ValueError, match=r"Ungrouped\.probe\.weight is in 0 parameter groups, not in one"):
        probe_trainer(method=Ungrouped)
    with pytest.raises(ValueError, match=r"Twice\.probe\.bias is in 2 parameter groups, not in one"):
        probe_trainer(method=Twice)


def test_a_run_that_is_stopped_anywhere_ends_as_one_that_was_not(
    workplace: Workplace, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: StopAt
):
    """In either phase, and in the validation after `finish`."""
    monkeypatch.setitem(METHODS, "PROBE", Probe)
    options = ["--method", "PROBE", "--step", 0, 1, "--epochs", 1, "--no_visualize"]
    whole_one = Workplace(tmp_path / "whole", shapes)
    assert whole_one.run(*options) == 0
    workplace.take_checkpoints(whole_one, 0)
    for iteration in (1, 3):
        stop_at(signal.SIGTERM, 1, iteration)
        assert workplace.run(*options) == 143
    stop_at(0, -1, -1)
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "validation", lambda *rest: signal.raise_signal(signal.SIGTERM))
        assert workplace.run(*options) == 143
    cut_off = load(workplace.checkpoint(1))
    assert not cut_off["trainer_state"]["finished"] and cut_off["method_state"]["ends"] == 1
    assert workplace.run(*options) == 0
    made = load(workplace.checkpoint(1))
    assert_same(made, load(whole_one.checkpoint(1)))
    assert made["method_state"]["looks"] == made["method_state"]["ends"] == 1
    assert workplace.results().read_bytes() == whole_one.results().read_bytes()
