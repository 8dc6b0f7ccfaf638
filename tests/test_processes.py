"""Two processes with half the batch each compute what one computes with the whole batch."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config import DataConfig, OptimConfig, with_default
from dataset.transform import normalise
from methods import METHODS
from methods.base import Method
from methods.cfsseg import CFSSeg, CFSSegConfig
from methods.ridge import packed
from methods.st import ST, STConfig
from modules.backbones import BACKBONES, Backbone
from modules.resnet import BasicBlock, ResNet
from tests.helpers import ALONE, data_of, run_processes, small_config, small_network, task_of
from tests.methods.probe import Probe
from tests.trainers import trainer_of
from tests.workplace import Workplace, ends_of, start_two
from train import evaluate
from utils.distributed import Dist, world_size

BATCH = 8
NETWORK = {"backbone": "resnet10", "drop_path": False}


@dataclass(frozen=True, kw_only=True)
class FewConfig(CFSSegConfig):
    """Few features, and pseudo labels that are no better than chance."""

    expansion: int = with_default(CFSSegConfig, "expansion", 24)
    pseudo_confidence: float = with_default(CFSSegConfig, "pseudo_confidence", 0.3)


class Few(CFSSeg):
    """It sums over the images of all processes, and trains nothing."""

    Config = FewConfig

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Sums of no meaning."""
        random = torch.Generator().manual_seed(2)
        sums = {"gram": packed(torch.eye(24, dtype=torch.float64)), "moment": torch.randn(24, 16, generator=random)}
        super().inherit({"phi.weight": torch.randn(24, 16, 1, 1, generator=random)} | sums)


def memories(method: type[Method]) -> dict[str, Tensor]:
    """Of the old classes, for SDR or STAR. Without deviations: nothing random is in the features that STAR draws."""
    random = torch.Generator().manual_seed(3)
    if method is METHODS["SDR"]:
        return {"prototypes": torch.randn(16, 64, generator=random), "counts": torch.arange(16)}
    prototypes = F.normalize(torch.randn(15, 16, generator=random), dim=1)
    norms = {"norm_mean": torch.ones(15), "norm_std": torch.zeros(15)}
    return {"prototypes": prototypes, "deviations": torch.zeros(15, 16), "counts": torch.arange(999.0, 1015.0)} | norms


def trained_with(method: type[Method], rank: int, folder: Path) -> dict[str, Tensor]:
    """What `method` makes of step 1 of task 15-5: losses by iteration, its state and the student's, and a score.

    In float64: small networks on small crops amplify differences of rounding tenfold an iteration.
    """
    processes, step = world_size(), task_of("voc", "15-5").step(1)
    dist = Dist(rank=rank, world_size=processes, device=ALONE.device)
    options = {"task": "15-5", "overlap": True, "crop_size": 32, "num_workers": 0}
    data = DataConfig(data_root=folder / "voc", batch_size=BATCH // processes, **options)
    of_process = data_of(data, seed=7, rank=rank, world_size=processes)
    batches = of_process.train(step, auxiliary=bool(method.auxiliary))
    assert len(batches) >= 3
    random = torch.Generator().manual_seed(1)
    inherited = {
        f"{entry}.{name.replace('.', '/')}": torch.rand(weight.shape, generator=random)
        for name, weight in small_network(branches=1, classes_per_head=(16,), **NETWORK).named_parameters()
        for entry in getattr(method, "carries", ())
    }
    if method is METHODS["DKD"]:
        inherited = {"aux.weight": torch.randn(1, 16, 1, 1, generator=random), "aux.bias": torch.zeros(1)}
    if method in (METHODS["SDR"], METHODS["STAR"]):
        inherited = memories(method)
    # As in a run: what a new classifier or layer starts from comes from the first process.
    trainer = trainer_of(
        method,
        step,
        batches,
        inherited=inherited,
        optim=OptimConfig(lr=(1e-4,), epochs=(1,)),
        data=data,
        model=small_config(**NETWORK),
        dist=dist,
        dtype=torch.float64,
    )
    teacher, loader = trainer.teacher, of_process.test(step)
    assert len(loader.dataset) % 2
    images, _ = next(iter(data_of(replace(data, batch_size=BATCH), seed=7).test(step)))
    # Centred, or one class may win everywhere.
    teacher.classifiers[0].bias -= teacher(normalise(images)).features["logits_small"].mean((0, 2, 3))
    if teacher.unknown is not None:
        teacher.unknown.bias -= 100
    if method is METHODS["STAR"]:
        teacher.classifiers[0].bias -= 0.8  # so that it sees background, too
    trainer.begin()
    losses: list[dict[str, float]] = []
    while not trainer.is_done:
        losses += trainer.train_epoch()
        trainer.end_epoch()
    if not trainer.phases:
        trainer.finish(lambda: teacher)
    kept = {name: value for name, value in trainer.method.state_dict().items() if isinstance(value, Tensor)}
    student = torch.cat([value.flatten() for value in trainer.student.state_dict().values()])
    # Of the teacher, which is the same to the last bit.
    matrix = evaluate(teacher, loader, num_classes=21, dist=dist, title="").matrix
    terms = losses[0] if losses else {}
    by_term = {term: torch.tensor([of_it[term] for of_it in losses], dtype=torch.float64) for term in terms}
    return by_term | kept | {"student": student, "matrix": matrix}


class Final(ST):
    """Its last phase alone, from a network that learnt nothing before."""

    Config = STConfig
    phases = ("final",)


TERMS = {
    METHODS["RCIL"]: {"ce", "kd", "cube_spatial", "cube_channel"},
    METHODS["EWC"]: {"ce", "penalty", "fisher"},
    METHODS["LGKD"]: {"ce", "pod", "lgkd", "plop"},  # it holds PLOP
    METHODS["DKD"]: {"bce", "ac", "kd", "pos", "neg", "aux"},
    METHODS["SSUL"]: {"bce"},
    METHODS["UCD"]: {"ce", "kd", "ucd"},
    METHODS["SDR"]: {"ce", "kd", "match", "attract", "repel", "sparse", "prototypes", "counts"},
    METHODS["STAR"]: {"mix", "pkd", "cont", "prototypes", "deviations", "norm_mean", "norm_std", "counts"},
    Probe: {"ce", "probe", "pixels", "looks", "ends"},
    Final: {"ce", "entropy", "temporary"},
    Few: {"phi", "gram", "moment"},
}


def work(rank: int, folder: Path) -> dict[str, dict[str, Tensor]]:
    with pytest.MonkeyPatch.context() as patch:
        # Of few layers: each waits for the other process.
        patch.setitem(BACKBONES, "resnet10", Backbone(partial(ResNet, BasicBlock, (1, 1, 1, 1))))
        return {method.__name__: trained_with(method, rank, folder) for method in TERMS}


def test_two_processes_learn_and_count_what_one_does(tmp_path: Path, shapes: Path):
    (tmp_path / "voc").symlink_to(shapes)
    one, two = work(0, tmp_path), run_processes(work, tmp_path)
    for method, terms in TERMS.items():
        expected = one[method.__name__]
        assert {name.split(".")[0] for name in expected} - {"total"} == terms | {"student", "matrix"}
        assert torch.count_nonzero(expected["matrix"]) > 42
        for found in (of_process[method.__name__] for of_process in two):
            assert torch.equal(found["matrix"], expected["matrix"]) and found.keys() == expected.keys()
            # Rounding grows with the iterations, and the Fisher information is a square of gradients.
            squares = {entry for entry in expected if "fisher" in entry}
            for entries, tolerance in ((expected.keys() - squares, (1e-5, 1e-9)), (squares, (1e-4, 1e-6))):
                of_one, of_two = ({entry: of_it[entry] for entry in entries} for of_it in (expected, found))
                torch.testing.assert_close(of_two, of_one, rtol=tolerance[0], atol=tolerance[1])


def test_a_run_of_two_processes_is_that_of_one(workplace: Workplace):
    """Without a launcher; benchmarks/proofs/test_dead_processes.py has torchrun."""
    one, two, tested = (replace(workplace, folder=workplace.folder / name) for name in ("one", "two", "tested"))
    # In float32 the figures part, but not at first and not far at a low rate.
    options = ["--step", 0, 1, "--no_drop_path", "--no_visualize", "--backbone", "resnet18", "--crop_size", 32]
    learns = ["--epochs", 1, "--lr", 3e-5, 1e-6]
    assert one.run(*options, *learns, "--batch_size", BATCH) == 0
    assert ends_of(start_two(two, *options, *learns, "--batch_size", BATCH // 2))[0] == [0, 0]
    files = [[path.relative_to(w.folder) for path in w.files()] for w in (one, two)]
    names = [sorted(str(path).split(".out.")[0] for path in of_one) for of_one in files]
    assert names[0] == names[1]
    expected, shown = one.scalars(), two.scalars()
    assert expected.keys() == shown.keys()
    for tag in (tag for tag in expected if tag.startswith("loss_")):
        assert [iteration for iteration, _ in shown[tag]] == [iteration for iteration, _ in expected[tag]]
        assert [value for _, value in shown[tag]] == pytest.approx([value for _, value in expected[tag]], rel=0.05), tag
    assert shown["loss_step0/ce"][0][1] == pytest.approx(expected["loss_step0/ce"][0][1], rel=1e-5)
    # What two count, one counts.
    tested.take_checkpoints(two, 0, 1)
    assert tested.run(*options, "--test") == 0
    assert tested.results().read_bytes() == two.results().read_bytes()
