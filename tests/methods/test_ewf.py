"""EWF fuses the network of a step with that of the step before, once (METHODS 12, METHODS2 27.3)."""

import signal
from pathlib import Path

import pytest
import torch

from methods import METHODS
from methods.ewf import fuse_
from metrics.report import Reporter
from modules.norm import Norm
from segmentation_module import SegmentationNet, build_student
from tests.helpers import randomise_, small_network, task_of
from tests.methods.outputs import make
from tests.workplace import Workplace, assert_same, load
from utils.errors import UserError
from utils.optim import require_all_grouped


def trained(previous: SegmentationNet, *, new_classes: int) -> SegmentationNet:
    """The network of the next step, with other weights everywhere."""
    torch.manual_seed(1)
    student = randomise_(build_student(previous, new_classes=new_classes), seed=1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return student


@pytest.mark.parametrize("norm", ["iabn_sync", "abn"])
def test_all_that_both_networks_have_is_fused(norm: str):
    previous = small_network(branches=1, classes_per_head=(16,), norm_act=norm)
    student = trained(previous, new_classes=5)
    for network, count in ((previous, 3), (student, 8)):
        network.register_buffer("count", torch.tensor(count))
    before, after = ({n: t.clone() for n, t in network.state_dict().items()} for network in (previous, student))
    gammas = {f"{name}.weight" for name, module in previous.named_modules() if isinstance(module, Norm)}
    turned = sum(int((before[name] * after[name] < 0).sum()) for name in gammas)
    assert turned > 10
    make("EWF", task="15-5").finish(student, previous, iter(()))
    share = (5 / 21) ** 0.5
    for name, value in student.state_dict().items():
        old, new = before.get(name), after[name]
        if old is None or name == "count":
            expected = new
        elif name in gammas and norm == "iabn_sync":
            expected = (1 - share) * old.abs() + share * new.abs()
        else:
            expected = (1 - share) * old + share * new
        torch.testing.assert_close(value, expected, msg=name)
    assert {"classifiers.1.weight", "classifiers.1.bias"} == after.keys() - before.keys()
    assert_same(dict(previous.state_dict()), before)  # the step before stays as it was


@pytest.mark.parametrize("norm", ["iabn", "std"])
def test_what_is_the_same_in_both_stays_as_it_is(norm: str):
    previous = small_network(branches=1, classes_per_head=(16,), norm_act=norm)
    student = build_student(previous, new_classes=1)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = student.eval()(images).logits
        fuse_(student, previous, 0.3)
        assert torch.equal(student(images).logits, expected)


@pytest.mark.parametrize(
    ("dataset", "task", "shares"),
    [
        ("voc", "15-5", [0.488]),
        ("voc", "15-1", [0.243, 0.236, 0.229, 0.224, 0.218]),
        ("voc", "10-1", [0.289]),
        ("ade", "100-50", [0.575]),
    ],
)
def test_the_share_of_the_new_network(dataset: str, task: str, shares: list[float], monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr("methods.ewf.fuse_", lambda student, previous, share: seen.append(share))
    network = small_network(branches=1)
    for number in range(len(shares) + 1):
        make("EWF", dataset, task, step=number).finish(network, network if number else None, iter(()))
    assert seen == pytest.approx(shares, abs=6e-4)


@pytest.mark.parametrize("base", ["MiB", "PLOP"])
def test_old_classifiers_do_not_train(base: str):
    previous = small_network(branches=1, classes_per_head=(16, 1))
    student, ewf = build_student(previous, new_classes=1), make("EWF", step=2, base=base)
    background = student.classifiers[0].bias[0].item()
    for _ in range(2):  # idempotent
        ewf.shape(student, previous)
    ewf.initialise(student, previous)
    assert [classifier.bias.requires_grad for classifier in student.classifiers] == [False, False, True]
    assert student.body.stem.conv.weight.requires_grad and student.classifiers[0].bias[0] < background
    require_all_grouped(ewf.groups(student), student, ewf)
    first = small_network(branches=1)
    make("EWF", step=0, base=base).shape(first, None)
    assert all(parameter.requires_grad for parameter in first.parameters())


def test_the_rc_network_is_refused():
    for config in METHODS["EWF"].bases.values():
        with pytest.raises(UserError, match="--branches 2: EWF fuses weights of one name"):
            config(branches=2)


def test_a_run_that_is_stopped_after_the_fusion_does_not_fuse_again(
    workplace: Workplace, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = ["--method", "EWF", "--step", 0, 1, "--epochs", 1, "--no_visualize"]
    whole_one = Workplace(tmp_path / "whole", shapes)
    assert whole_one.run(*options) == 0
    workplace.take_checkpoints(whole_one, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "validation", lambda *rest: signal.raise_signal(signal.SIGTERM))
        assert workplace.run(*options) == 143
    assert not load(workplace.checkpoint(1))["trainer_state"]["finished"]
    assert workplace.run(*options) == 0
    made, before = load(workplace.checkpoint(1)), load(workplace.checkpoint(0))["model_state"]
    assert_same(made, load(whole_one.checkpoint(1)))
    # It was fused at all: one that is not has other weights, and the old classifier is where the fusion leaves it.
    with monkeypatch.context() as patch:
        patch.setattr("methods.ewf.fuse_", lambda *rest: None)
        assert workplace.run(*options, "--no_resume", "--step", 1) == 0
    unfused, fused = load(workplace.checkpoint(1))["model_state"], made["model_state"]
    share = (1 / task_of("voc", "15-1").step(1).num_seen) ** 0.5
    for name in ("body.stem.conv.weight", "head.norm.running_var", "classifiers.0.bias"):
        assert not torch.equal(unfused[name], fused[name]), name
        torch.testing.assert_close(fused[name], before[name].lerp(unfused[name], share))
    assert torch.equal(unfused["classifiers.1.weight"], fused["classifiers.1.weight"])
