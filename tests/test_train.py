"""One epoch and one evaluation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from config import DataConfig, ModelConfig, OptimConfig
from dataset import Loaders
from dataset.transform import normalise
from methods import METHODS
from segmentation_module import SegmentationNet, build_network, build_student
from tests.helpers import loaders_of, task_of
from train import LossMeter, Precision, Updater, evaluate, forward_losses, predict_samples, train_one_epoch
from utils.optim import build_optimizer, build_schedule

CPU = torch.device("cpu")
TASK = task_of("voc", "15-1")
QUIET = {"device": CPU, "title": "test", "quiet": True}


def network() -> SegmentationNet:
    torch.manual_seed(0)
    config = ModelConfig(backbone="resnet26", width=4, head_channels=4, no_pretrained=True)
    return build_network(config, branches=2, classes_per_head=TASK.classes_per_head(0))


@pytest.fixture(scope="module")
def config(shapes: Path) -> DataConfig:
    return DataConfig(data_root=shapes, overlap=True, crop_size=64, batch_size=8, num_workers=0)


def loaders(config: DataConfig, *, rank: int = 0, world_size: int = 1) -> Loaders:
    return loaders_of(config, 0, seed=1, rank=rank, world_size=world_size)


def epoch(
    model: SegmentationNet, loader: DataLoader, *, lr: float = 0.01, mixed: bool = False, interval: int = 2
) -> list[tuple[int, dict[str, float]]]:
    """Train for one epoch; what was reported: (iteration, losses)."""
    optimizer = build_optimizer(model.parameter_groups(), OptimConfig(), lr)
    schedule = build_schedule(optimizer, OptimConfig(), len(loader))
    method = METHODS["RCIL"](METHODS["RCIL"].Config(), TASK, 0)
    precision, reports = Precision(CPU, mixed=mixed), []

    def report(losses: dict[str, float], iteration: int) -> None:
        reports.append((iteration, losses))

    meter = LossMeter()

    def judge(done: int) -> None:
        assert not meter.faults()

    options = {"print_interval": interval, "report": report, "judge": judge, **QUIET}
    train_one_epoch(model, None, method, loader, Updater(optimizer, schedule, precision), meter, **options)
    assert optimizer.param_groups[0]["lr"] == 0
    return reports


def test_the_meter_gives_means_and_starts_anew():
    meter = LossMeter()
    for ce, kd in ((1.0, 4.0), (2.0, 8.0)):
        meter.add({"ce": torch.tensor(ce, requires_grad=True), "kd": torch.tensor(kd), "gradient": torch.tensor(7.0)})
    assert meter.means() == {"ce": 1.5, "kd": 6.0, "total": 7.5}
    assert meter.means() == {}
    meter.add({"ce": torch.tensor(5.0)})
    assert meter.means() == {"ce": 5.0, "total": 5.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_meter_names_what_is_not_finite_once_and_leaves_its_iteration_out(value: float):
    meter = LossMeter()
    for ce, gradient in ((1.0, 1.0), (2.0, value), (3.0, 1.0)):
        meter.add({"ce": torch.tensor(ce), "gradient": torch.tensor(gradient)})
    (fault,) = meter.faults()
    assert fault[:3] == (1, 0, "gradient") and (fault.value == value or math.isnan(value))
    meter.add({"ce": torch.tensor(value), "gradient": torch.tensor(value)})
    assert [fault[:3] for fault in meter.faults()] == [(0, 0, "ce"), (0, 0, "gradient")]
    assert meter.faults() == []
    assert meter.means() == {"ce": 2.0, "total": 2.0}
    meter.add({"ce": torch.tensor(value), "gradient": torch.tensor(1.0)})
    assert len(meter.faults()) == 1 and meter.means() == {}


def test_a_meter_goes_on_from_its_state():
    meter, other = LossMeter(), LossMeter()
    for ce in (1.0, math.nan, 1 / 3):
        meter.add({"ce": torch.tensor(ce)})
    meter.faults()
    other.load(meter.state(), CPU)
    for one in (meter, other):
        one.add({"ce": torch.tensor(0.25)})
        assert one.faults() == []
    assert meter.means() == other.means()


def test_an_epoch_reports_every_interval_and_at_its_end(config: DataConfig):
    loader, model = loaders(config).train, network()
    assert len(loader) == 5
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reports = epoch(model.eval(), loader)
    assert [iteration for iteration, _ in reports] == [2, 4, 5]
    assert all(losses.keys() == {"ce", "total"} and losses["ce"] > 0 for _, losses in reports)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_intervals_only_choose_what_is_averaged(config: DataConfig):
    each = [losses["ce"] for _, losses in epoch(network(), loaders(config).train, interval=1)]
    whole = epoch(network(), loaders(config).train, interval=5)
    assert len(each) == 5 and whole[0][1]["ce"] == pytest.approx(np.mean(each))


def test_mixed_precision_learns_nearly_the_same(config: DataConfig):
    model = network()
    mixed = [losses["ce"] for _, losses in epoch(model, loaders(config).train, mixed=True, interval=1)]
    full = [losses["ce"] for _, losses in epoch(network(), loaders(config).train, interval=1)]
    assert mixed != full and mixed == pytest.approx(full, rel=0.1)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("first", [True, False])
def test_an_update_with_a_gradient_that_is_not_finite_is_left_out(config: DataConfig, first: bool):
    """Weights and statistics of the norms stay, and the next update is what it would have been."""
    model, twin, constant = network(), network(), OptimConfig(lr_policy="none")
    loader = loaders(config).train
    optimizers = [build_optimizer(net.parameter_groups(), OptimConfig(), 0.01) for net in (model, twin)]
    updaters = [
        Updater(optimizer, build_schedule(optimizer, constant, 10), Precision(CPU, mixed=False), undo=net)
        for optimizer, net in zip(optimizers, (model, twin), strict=True)
    ]
    method = METHODS["RCIL"](METHODS["RCIL"].Config(), TASK, 0)

    def iterate(which: int, factor: float) -> dict[str, Tensor]:
        torch.manual_seed(5)
        images, labels = next(iter(loader))
        updaters[which].clear()
        losses = forward_losses(
            (model, twin)[which], None, method, normalise(images), labels.long(), Precision(CPU, mixed=False)
        )
        return updaters[which].step({name: loss * factor for name, loss in losses.items()}, method)

    if not first:
        for which in (0, 1):
            iterate(which, 1.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bad = iterate(0, math.nan)
    assert not bad["gradient"].isfinite()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for which in (0, 1):
        assert iterate(which, 1.0)["gradient"] > 0
    assert all(torch.equal(tensor, twin.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device: values and sizes that only the device knows."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name().removeprefix("aten::") in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.seen.append(function.name())
        return function(*args, **(kwargs or {}))


def test_no_iteration_waits_for_the_device(config: DataConfig):
    """Of step 1, with all losses of RCIL and the meter that sums them."""
    previous = network()
    student = build_student(previous, new_classes=1, init_weights=True, init_bias=False)
    method = METHODS["RCIL"](METHODS["RCIL"].Config(), TASK, 1)
    method.prepare(student)
    student.place_(CPU, torch.float32).train()
    teacher = previous.for_inference()
    optimizer = build_optimizer(student.parameter_groups(), OptimConfig(), 0.001)
    updater = Updater(optimizer, build_schedule(optimizer, OptimConfig(), 10), Precision(CPU, mixed=False))
    images, labels = next(iter(loaders(config).train))
    meter = LossMeter()
    with Waits() as waits:
        for _ in range(3):
            updater.clear()
            losses = forward_losses(student, teacher, method, normalise(images), labels.long(), updater.precision)
            meter.add(updater.step(losses, method))
        assert not waits.seen
        losses["ce"].item()  # what would have been noticed
        assert waits.seen == ["aten::_local_scalar_dense"]


def counts(config: DataConfig, *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Confusion matrix over the share of one process."""
    loader = loaders(config, rank=rank, world_size=world_size).test
    return evaluate(network().for_inference(), loader, num_classes=16, **QUIET).matrix


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (5, 1), (4, 2), (7, 3)])
def test_each_sample_counts_once(config: DataConfig, batch_size: int, world_size: int):
    whole = counts(config)
    config = replace(config, batch_size=batch_size)
    test = loaders(config).test.dataset
    labelled = sum(int((test[0, index][1] != 255).sum()) for index in range(len(test)))
    shares = [counts(config, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert int(sum(shares).sum()) == int(whole.sum()) == labelled
    assert torch.equal(sum(shares), whole)


def test_the_matrix_is_that_of_the_predictions(config: DataConfig):
    loader, model = loaders(config).test, network().for_inference()
    expected = np.zeros((16, 16), dtype=np.int64)
    for images, labels in loader:
        predictions = model(normalise(images)).logits.argmax(1)
        for label, prediction in zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True):
            if label != 255:
                expected[label, prediction] += 1
    assert np.array_equal(counts(config).numpy(), expected)
    assert np.count_nonzero(expected) > 16  # or a constant prediction could hide a mistake


def test_samples_are_predicted_one_by_one(config: DataConfig):
    test, model = loaders(config).test.dataset, network().for_inference()
    drawn = predict_samples(model, test, CPU)
    assert len(drawn) == len(test)
    for number, sample in enumerate(drawn):
        image, labels = test[0, number]
        assert np.array_equal(sample.image, image.numpy()) and np.array_equal(sample.truth, labels.numpy())
        expected = model(normalise(image[None])).logits.argmax(1)[0]
        assert sample.prediction.dtype == np.uint8 and np.array_equal(sample.prediction, expected.numpy())
