"""The training of a step, and one evaluation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from config import DataConfig, OptimConfig, RunConfig
from dataset.transform import normalise
from methods import METHODS
from methods.base import Batch, Method
from segmentation_module import SegmentationNet, SegOutput, build_network, build_student, freeze_parts_
from tests.helpers import ALONE, data_of, run_processes, small_config, small_network, task_of
from tests.methods.probe import Probe
from tests.trainers import InMemory, through_file, trainer_of
from tests.workplace import assert_same
from train import Trainer, evaluate, predict_samples
from utils.constants import IGNORE_INDEX
from utils.distributed import Dist
from utils.errors import NonFiniteError, UserError

STEPS = task_of("voc", "15-1").steps
CONSTANT = OptimConfig(lr=(0.0001,), epochs=(1,), lr_policy="none")


def test_an_objective_learns_without_data_set_or_run():
    method = METHODS["RCIL"](METHODS["RCIL"].Config(), STEPS[1])
    previous = small_network(classes_per_head=(16,), drop_path=False)
    student = build_student(previous, new_classes=1)
    method.shape(student, previous)
    config = RunConfig(data=DataConfig(), model=small_config(), optim=CONSTANT, method=method.config, print_interval=1)
    batches = InMemory(17, count=1)
    batches.batches *= 2
    trainer = Trainer(student, previous.for_inference(), method, batches, config, ALONE)
    first, second = trainer.train_epoch()
    assert second["total"] < first["total"] and first.keys() == {"ce", "kd", "cube_spatial", "cube_channel", "total"}


@pytest.mark.parametrize(("name", "step"), [("RCIL", 1), ("EWC", 0)])
def test_a_trainer_resumes_what_another_one_saved(name: str, step: int):
    """Random branches, what a method counts, and losses that are not reported yet."""

    def begun(**optim: object) -> Trainer:
        schedule = OptimConfig(epochs=(2,), **optim)
        batches = InMemory(STEPS[step].num_seen, count=4)
        return trainer_of(METHODS[name], STEPS[step], batches, optim=schedule, print_interval=3)

    one = begun()
    epoch = one.train_epoch()
    losses = [next(epoch), next(epoch)]
    saved = through_file(one.state_dict())
    losses += epoch
    assert [bool(means) for means in losses] == [False, False, True, True]
    other = begun()
    other.load_state_dict(saved)
    assert (other.epoch, other.iteration, other.updates) == (0, 2, 2)
    assert list(other.train_epoch()) == losses[2:]
    assert_same(other.state_dict(), one.state_dict())
    with pytest.raises(UserError, match=r"cannot be resumed: .*; train the step anew with --no_resume"):
        begun(momentum=0.5).load_state_dict(saved)


def test_an_epoch_reports_every_interval_and_at_its_end():
    reports = {}
    for interval in (1, 2, 5):
        trainer = trainer_of(METHODS["FT"], STEPS[0], InMemory(16, count=5), print_interval=interval)
        before = {name: tensor.clone() for name, tensor in trainer.student.eval().state_dict().items()}
        reports[interval] = list(trainer.train_epoch())
        assert trainer.updater.lr == 0
        assert all(parameter.grad is None for parameter in trainer.student.parameters())
        assert not any(torch.equal(tensor, before[name]) for name, tensor in trainer.student.state_dict().items())
    assert [bool(means) for means in reports[2]] == [False, True, False, True, True]
    assert all(means.keys() == {"ce", "total"} and means["ce"] > 0 for means in reports[1])
    # Intervals only choose what is averaged.
    assert reports[5][-1]["ce"] == pytest.approx(np.mean([means["ce"] for means in reports[1]]))


@pytest.mark.parametrize("method", [METHODS["RCIL"], Probe])
def test_mixed_precision_learns_nearly_the_same(method: type[Method]):
    # Of random networks; at a usual rate the first update would leave nothing to compare.
    settings = {"optim": CONSTANT}
    mixed, full = (trainer_of(method, STEPS[1], InMemory(17), opt_level=level, **settings) for level in ("O1", "O0"))
    losses = [[means["total"] for means in trainer.train_epoch()] for trainer in (mixed, full)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.1)
    parameters = [*mixed.student.parameters(), *mixed.method.parameters()]
    assert all(parameter.dtype == torch.float32 for parameter in parameters)


class Shaky(METHODS["EWC"]):
    """Its loss is not a number where the first pixel is ignored."""

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        factor = torch.where(batch.labels[0, 0, 0] == IGNORE_INDEX, math.nan, 1.0)
        return {name: factor * loss for name, loss in super().losses(batch, student, teacher).items()}


@pytest.mark.parametrize("bad", [0, 1])
def test_a_batch_whose_gradient_is_not_finite_is_left_out(bad: int):
    """Weights, momentum and statistics end as if it had not been; what the method collects stays finite."""
    with_it, without = InMemory(16, count=3), InMemory(16, count=3)
    with_it.batches[bad][1][0, 0, 0] = IGNORE_INDEX
    del without.batches[bad]
    shaky, twin = (
        trainer_of(Shaky, STEPS[0], batches, optim=CONSTANT, skip_bad_batches=1) for batches in (with_it, without)
    )
    reports = list(shaky.train_epoch())
    assert reports.pop(bad) == {} and reports == list(twin.train_epoch())
    for entry in ("model_state", "optimizer_state"):
        assert_same(shaky.state_dict()[entry], twin.state_dict()[entry])
    assert all(value.isfinite().all() for _, value in shaky.method.fisher.items())
    strict = trainer_of(Shaky, STEPS[0], with_it, optim=CONSTANT)
    with pytest.raises(
        NonFiniteError, match=f"iteration {bad + 1}: the loss 'ce' became nan .* batch {bad} of process 0;"
    ):
        list(strict.train_epoch())


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device: values and sizes that only the device knows."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name().removeprefix("aten::") in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.seen.append(function.name())
        return function(*args, **(kwargs or {}))


def importances(name: str) -> dict[str, Tensor]:
    """What the method `name` takes over from an untrained step 0 for each weight: ones; nothing for most methods."""
    weights = small_network(branches=1, classes_per_head=(16,)).named_parameters()
    entries = getattr(METHODS[name], "carries", ())
    return {f"{entry}.{key.replace('.', '/')}": torch.ones_like(weight) for key, weight in weights for entry in entries}


@pytest.mark.parametrize("name", METHODS)
def test_no_iteration_waits_for_the_device(name: str):
    """Of the last step that trains, but for those that report."""
    carried = importances(name)
    step = STEPS[1] if METHODS[name](METHODS[name].Config(), STEPS[1]).phases_of_step else STEPS[0]
    if step.number and not carried:  # what an untrained step 0 leaves
        first = trainer_of(METHODS[name], STEPS[0], InMemory(16))
        first.begin()
        first.finish(lambda: None)
        carried = first.method.state_dict()
    options = {"inherited": carried, "print_interval": 100, "optim": OptimConfig(lr=(1e-5,), epochs=(1,))}
    trainer = trainer_of(METHODS[name], step, InMemory(step.num_seen, count=3), **options)
    trainer.begin()
    epoch = trainer.train_epoch()
    with Waits() as waits:
        next(epoch), next(epoch)
        assert not waits.seen
        (means,) = epoch  # what would have been noticed
        assert waits.seen and means


def after_two_updates(name: str, parts: int, dist: Dist = ALONE) -> list[Tensor]:
    """The losses of step 1, and all weights, where batches are seen in parts; norms and branches are still."""
    carried = importances(name)
    batches = InMemory(17, size=8, dist=dist)
    options = {"inherited": carried, "optim": CONSTANT, "model": small_config(drop_path=False), "accumulate": parts}
    options["data"] = DataConfig(batch_size=8 // dist.world_size)
    trainer = trainer_of(METHODS[name], STEPS[1], batches, dist=dist, dtype=torch.float64, **options)
    freeze_parts_(trainer.student, body=False, norms=True)
    trainer.model = trainer._wrapped()
    trainer.begin()
    losses = [torch.tensor([*means.values()]) for means in trainer.train_epoch()]
    return [*losses, *(parameter.detach().clone() for parameter in trainer.student.parameters())]


IN_PARTS = [name for name, method in METHODS.items() if method.by_image]


@pytest.mark.parametrize("name", IN_PARTS)
def test_a_batch_in_parts_gives_the_update_of_the_whole(name: str):
    whole = after_two_updates(name, 1)
    for parts in (2, 4):
        assert_close(after_two_updates(name, parts), whole, rtol=1e-6, atol=1e-9)
    assert not torch.equal(whole[0], whole[1])


def in_two_processes(rank: int, folder: Path) -> list[Tensor]:
    return after_two_updates("RCIL", 2, Dist(rank=rank, world_size=2, device=torch.device("cpu")))


def test_two_processes_that_see_their_batches_in_parts_equal_one(tmp_path: Path):
    whole = after_two_updates("RCIL", 1)
    for made in run_processes(in_two_processes, tmp_path):
        assert_close(made, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("SDR", 2, "--accumulate 2: losses of SDR are no means .* --checkpoint_blocks"),
        ("RCIL", 3, "--accumulate 3: choose a number that divides --batch_size 4"),
        ("RCIL", 4, "--accumulate 4: each part of --batch_size 4 needs two images or more"),
    ],
)
def test_parts_that_cannot_be(name: str, parts: int, message: str):
    with pytest.raises(UserError, match=message):
        trainer_of(METHODS[name], STEPS[0], InMemory(16), accumulate=parts, method_name=name)


@pytest.fixture(scope="module")
def config(shapes: Path) -> DataConfig:
    return DataConfig(data_root=shapes, overlap=True, crop_size=64, batch_size=8, num_workers=0)


@pytest.fixture(scope="module")
def network() -> SegmentationNet:
    torch.manual_seed(0)
    return build_network(small_config(), branches=2, classes_per_head=(16,)).for_inference()


def counts(network: SegmentationNet, config: DataConfig, **share: int) -> Tensor:
    """Confusion matrix over the share of one process."""
    loader = data_of(config, **share).test(STEPS[0])
    return evaluate(network, loader, num_classes=16, dist=ALONE, title="").matrix


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (5, 1), (4, 2), (7, 3)])
def test_each_sample_counts_once(network: SegmentationNet, config: DataConfig, batch_size: int, world_size: int):
    whole = counts(network, config)
    config = replace(config, batch_size=batch_size)
    test = data_of(config).test(STEPS[0]).dataset
    labelled = sum(int((test[0, index][1] != IGNORE_INDEX).sum()) for index in range(len(test)))
    shares = [counts(network, config, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert int(sum(shares).sum()) == int(whole.sum()) == labelled
    assert torch.equal(sum(shares), whole)


def test_the_matrix_is_that_of_the_predictions(network: SegmentationNet, config: DataConfig):
    expected = np.zeros((16, 16), dtype=np.int64)
    for images, labels in data_of(config).test(STEPS[0]):
        predictions = network(normalise(images)).logits.argmax(1)
        for label, prediction in zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True):
            if label != IGNORE_INDEX:
                expected[label, prediction] += 1
    assert np.array_equal(counts(network, config).numpy(), expected)
    assert np.count_nonzero(expected) > 16  # or a constant prediction could hide a mistake


def test_samples_are_predicted_one_by_one(network: SegmentationNet, config: DataConfig):
    test = data_of(config).test(STEPS[0]).dataset
    drawn = predict_samples(network, test, ALONE.device)
    assert len(drawn) == len(test)
    for number, sample in enumerate(drawn):
        image, labels = test[0, number]
        assert np.array_equal(sample.image, image.numpy()) and np.array_equal(sample.truth, labels.numpy())
        expected = network(normalise(image[None])).logits.argmax(1)[0]
        assert sample.prediction.dtype == np.uint8 and np.array_equal(sample.prediction, expected.numpy())
