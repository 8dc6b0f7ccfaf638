"""Two processes with half the batch each compute what one computes with the whole batch, whoever starts them."""

import socket
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from config import DataConfig, OptimConfig
from methods import METHODS
from segmentation_module import SegOutput, build_student
from tests.helpers import loaders_of, run_processes, small_network, task_of
from tests.workplace import Workplace
from train import LossMeter, Precision, Updater, evaluate, train_one_epoch, training_batches
from utils.distributed import world_size
from utils.optim import build_optimizer, build_schedule

CPU = torch.device("cpu")
BATCH = 4


class InFloat64(nn.Module):
    """A network that takes the float32 images of the training loop and computes in float64.

    Small networks on small crops amplify differences of rounding tenfold an iteration.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: Tensor) -> SegOutput:
        return self.network(images.double())


def work(name: str, rank: int, folder: Path) -> dict[str, Tensor]:
    """What method `name` makes of an epoch of step 1 of task 15-5: losses by iteration, the confusion matrix after it,
    and what the method keeps for itself."""
    processes = world_size()
    task = task_of("voc", "15-5")
    config = DataConfig(
        data_root=folder / "voc",
        task="15-5",
        overlap=True,
        crop_size=64,
        batch_size=BATCH // processes,
        num_workers=0,
    )
    loaders = loaders_of(config, 1, seed=7, rank=rank, world_size=processes)
    assert len(loaders.train) >= 5 and len(loaders.test.dataset) % 2
    torch.manual_seed(0)
    config_of_method = METHODS[name].Config()
    previous = small_network(classes_per_head=(16,), drop_path=False, branches=config_of_method.branches)
    with torch.no_grad():
        previous.classifiers[0].weight *= 30  # or the bias alone decides, the same everywhere
    torch.manual_seed(rank)  # as in a run: what a new classifier starts from comes from the first process
    student = build_student(previous, new_classes=5, init_weights=True, init_bias=False)
    method = METHODS[name](config_of_method, task, 1)
    method.prepare(student)
    teacher, model = InFloat64(previous.for_inference()), InFloat64(student)
    random = torch.Generator().manual_seed(1)
    weights = {key: weight.detach() for key, weight in previous.double().named_parameters()}
    importances = {key: torch.rand(weight.shape, generator=random) for key, weight in weights.items()}
    method.begin(student, previous, dict.fromkeys(getattr(method, "carries", ()), importances))
    if method.scans:
        method.scan(teacher, training_batches(loaders.train, device=CPU, title="", quiet=True))
    optimizer = build_optimizer(student.parameter_groups(), OptimConfig(), lr=0.001)
    schedule = build_schedule(optimizer, OptimConfig(), len(loaders.train))
    reports: list[dict[str, float]] = []
    train_one_epoch(
        DistributedDataParallel(model, broadcast_buffers=False) if processes > 1 else model,
        teacher if method.needs_teacher else None,
        method,
        loaders.train,
        Updater(optimizer, schedule, Precision(CPU, mixed=False)),
        LossMeter(),
        device=CPU,
        title="",
        print_interval=1,
        report=lambda losses, iteration: reports.append(losses),
        judge=lambda done: None,
        quiet=True,
    )
    options = {"num_classes": 21, "device": CPU, "title": "", "quiet": True}
    matrix = evaluate(InFloat64(student.for_inference()), loaders.test, **options).matrix
    losses = {name: torch.tensor([report[name] for report in reports], dtype=torch.float64) for name in reports[0]}
    kept = {entry: flat(value) for entry, value in method.state(finished=False).items() if entry != "count"}
    return losses | kept | {"matrix": matrix}


def flat(value: Tensor | dict[str, Tensor]) -> Tensor:
    return value if isinstance(value, Tensor) else torch.cat([part.flatten() for part in value.values()])


KEPT = {
    "RCIL": {"ce", "kd", "cube_spatial", "cube_channel"},
    "EWC": {"ce", "penalty", "fisher"},
    "PLOP": {"ce", "pod", "bounds"},
}


@pytest.mark.parametrize("name", KEPT)
def test_two_processes_learn_and_count_what_one_does(tmp_path: Path, shapes: Path, name: str):
    (tmp_path / "voc").symlink_to(shapes)
    one = work(name, 0, tmp_path)
    assert one.keys() == KEPT[name] | {"total", "matrix"}
    assert torch.count_nonzero(one["matrix"]) > 21  # or a constant prediction could hide a mistake
    for two in run_processes(partial(work, name), tmp_path):
        for entry in one.keys() - {"matrix"}:
            # Rounding grows with the iterations, and the Fisher information is a square of gradients.
            allowed = {"rtol": 1e-4, "atol": 1e-6} if entry == "fisher" else {"rtol": 1e-5, "atol": 1e-9}
            torch.testing.assert_close(two[entry], one[entry], **allowed)
        assert torch.equal(two["matrix"], one["matrix"])


def finish(process: subprocess.Popen) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err


def test_torchrun_starts_what_one_process_does(workplace: Workplace):
    one, two = replace(workplace, folder=workplace.folder / "one"), replace(workplace, folder=workplace.folder / "two")
    # In float32 the figures part, but not at first and not far at a low rate.
    options = ["--step", 0, 1, "--epochs", 1, "--no-drop_path", "--no-visualize", "--lr", 3e-5, 1e-6]
    launcher = ("torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port())
    finish(two.start(*options, "--batch_size", 2, launcher=launcher))
    assert one.run(*options) == 0
    # Not the key of the first step, which knows how many processes there were.
    files = [[path.relative_to(w.folder) for path in w.files() if path.suffix != ".json"] for w in (one, two)]
    names = [sorted(str(path).split(".out.")[0] for path in of_one) for of_one in files]
    assert names[0] == names[1]
    expected, shown = one.scalars(), two.scalars()
    assert expected.keys() == shown.keys()
    for tag in (tag for tag in expected if tag.startswith("loss_")):
        assert [iteration for iteration, _ in shown[tag]] == [iteration for iteration, _ in expected[tag]]
        assert [value for _, value in shown[tag]] == pytest.approx([value for _, value in expected[tag]], rel=0.05), tag
    assert shown["loss_step0/ce"][0][1] == pytest.approx(expected["loss_step0/ce"][0][1], rel=1e-5)


def test_the_older_launcher_starts_it_and_two_processes_count_what_one_counts(trained: Workplace, workplace: Workplace):
    launcher = ("torch.distributed.launch", "--nproc_per_node", "2", "--master_port", free_port())
    workplace.take_checkpoints(trained, 0, 1)
    finish(workplace.start("--step", 0, 1, "--test", "--no-visualize", launcher=launcher))
    assert workplace.results().read_bytes() == trained.results().read_bytes()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
