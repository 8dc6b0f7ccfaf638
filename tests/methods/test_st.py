"""ST: labels fused from two networks as METHODS2 22 says, two phases, and runs that are cut off in either."""

import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from argparser import parse
from config import OptimConfig
from methods.base import Batch
from methods.finetune import FT
from methods.losses import cross_entropy
from methods.st import ST, STConfig, fill_background, fuse
from segmentation_module import SegOutput
from tests.helpers import task_of
from tests.methods import spec_losses as spec
from tests.methods.outputs import batch, check, make, output
from tests.methods.spec_losses import IGNORED
from tests.trainers import InMemory, through_file, trainer_of
from tests.workplace import StopAt, Workplace, assert_same, load
from tools.make_shapes import make_shapes
from train import Trainer
from utils.errors import UserError

STEP = task_of("voc", "15-1").step(1)
OLD, SEEN = STEP.num_old, STEP.num_seen


def largest(values: list[float]) -> tuple[int, float]:
    """Where the largest of the softmax is, and how large."""
    place = max(range(len(values)), key=lambda c: values[c])
    return place, math.exp(values[place] - spec.log_sum_exp(values))


def fused_by_the_pixel(old: Tensor, temporary: Tensor, margin: float) -> list[int]:
    """METHODS2 22, point B."""
    num_old, found = old.shape[1], []
    for q_old, q in zip(spec.pixels(old), spec.pixels(temporary), strict=True):
        c_old, p_old = largest(q_old)
        place, p_new = largest([q[0], *q[num_old:]])
        c_new = place + num_old - 1 if place else 0
        if c_old == 0 or c_new == 0:
            found.append(c_old or c_new)
        elif abs(p_old - p_new) < margin:
            found.append(IGNORED)
        else:
            found.append(c_old if p_old >= p_new else c_new)
    return found


def logits(channels: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, channels, 12, 8, dtype=torch.float64, generator=random)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("num_old", "num_new"), [(3, 2), (2, 1), (1, 3), (16, 1)])
def test_labels_are_fused_pixel_by_pixel(num_old: int, num_new: int, margin: float):
    old, temporary = logits(num_old, 1), logits(num_old + num_new, 2)
    labels = fuse(old, temporary, margin)
    assert labels.dtype == torch.int64 and labels.flatten().tolist() == fused_by_the_pixel(old, temporary, margin)
    if num_old == 3:
        assert {*labels.unique().tolist()} == {0, 1, 2, 3, 4} | ({IGNORED} if margin else set())
    # Of what the temporary model says of old classes, nothing counts.
    temporary[:, 1:num_old] += 50
    assert torch.equal(labels, fuse(old, temporary, margin))


def test_the_old_model_has_a_conflict_between_equals():
    old, temporary = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 9.0, 2.0]])
    assert fuse(old[..., None, None], temporary[..., None, None], 0.0).item() == 1


def test_only_what_is_labelled_background_is_filled():
    old = logits(3, 1)
    given = torch.arange(2 * 12 * 8).reshape(2, 12, 8) % 6
    given[given == 5] = IGNORED
    seen = [largest(q)[0] for q in spec.pixels(old)]
    expected = [c if label == 0 else label for c, label in zip(seen, given.flatten().tolist(), strict=True)]
    assert fill_background(given, old).flatten().tolist() == expected and {1, 2} <= {*seen}


class Fixed(torch.nn.Module):
    """A temporary model that says the same of all images."""

    def __init__(self, said: Tensor) -> None:
        super().__init__()
        self.said = said

    def forward(self, images: Tensor) -> SegOutput:
        return SegOutput(self.said[: len(images)], {})


def final(seed: int = 4, **options: object) -> tuple[ST, Tensor]:
    """ST in its final phase, and what its temporary model says."""
    method, said = make("ST", **options), output(SEEN, seed=seed).logits
    assert method.phase == "final"
    method.temporary = Fixed(said)
    return method, said


def mixed(labels: Tensor) -> Batch:
    return batch(labels)._replace(auxiliary=torch.empty(len(labels), 3, 0, 0))


def doubled(num_classes: int) -> SegOutput:
    """Of images and as many without labels."""
    parts = [output(num_classes, seed=seed).logits for seed in (num_classes, num_classes + 1)]
    return SegOutput(torch.cat(parts).requires_grad_(), {})


@pytest.mark.parametrize(("conflict", "margin"), [("larger", 0.0), ("ignore", 0.1)])
def test_the_terms_are_those_of_the_labels_of_both_halves(conflict: str, margin: float):
    method, said = final(st_conflict=conflict, st_entropy=0.3)
    student, teacher = doubled(SEEN), doubled(OLD)
    labels = torch.arange(2 * 12 * 8).reshape(2, 12, 8) % 3 * 16  # 0, 16, and 32 for ignored
    labels[labels > 16] = IGNORED
    filled = fill_background(labels, teacher.logits[:2]).flatten().tolist()
    fused = fused_by_the_pixel(teacher.logits[2:], said, margin)
    expected = spec.cross_entropy(student.logits, torch.tensor(filled + fused))
    terms = {"ce": expected, "entropy": -0.3 * spec.entropy(student.logits)}
    found = method.losses(mixed(labels), student, teacher)
    check({name: term.detach() for name, term in found.items()}, terms)
    without, _ = final(st_conflict=conflict, st_entropy=0.0)
    assert {*without.losses(mixed(labels), student, teacher)} == {"ce"}


@pytest.mark.parametrize("label", [0, IGNORED, 16])
@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_of_one_kind_alone_has_finite_losses_and_gradients(label: int, count: int):
    method, _ = final(st_conflict="ignore")
    student, teacher = (SegOutput(doubled(n).logits[: 2 * count].detach(), {}) for n in (SEEN, OLD))
    student.logits.requires_grad_()
    terms = method.losses(mixed(torch.full((count, 12, 8), label)), student, teacher)
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values()) and student.logits.grad.isfinite().all()


def test_step_0_and_the_first_phase_are_fine_tuning():
    labels = torch.arange(2 * 12 * 8).reshape(2, 12, 8) % 17
    for step in (0, 1):
        method, seen = make("ST", step=step), output(SEEN, seed=1)
        check(method.losses(batch(labels), seen, None), {"ce": float(cross_entropy(seen.logits, labels))})
    assert make("ST", step=0).phases_of_step == ("final",) and not make("ST", step=0).sees_auxiliary
    method.phase = "temporary"
    assert not method.needs_teacher and not method.sees_auxiliary
    assert make("ST", pod="local").needs_teacher


class WithPictures(InMemory):
    """Each batch brings the images of the other one without their labels."""

    def epoch_with_auxiliary(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        pairs = zip(self.batches, self.batches[::-1], strict=True)
        return iter([(*own, pictures) for own, (pictures, _) in pairs][start:])


def st_trainer(**options: object) -> Trainer:
    trainer = trainer_of(ST, STEP, WithPictures(SEEN), optim=OptimConfig(lr=(0.001,), epochs=(2,)))
    trainer.method.config = STConfig(**options)
    return trainer


def train(trainer: Trainer, *, until: int = -1) -> list[dict[str, float]]:
    """To the end, or until so many updates; the losses of each."""
    seen: list[dict[str, float]] = []
    while not trainer.is_done:
        for losses in trainer.train_epoch():
            seen.append(losses)
            if trainer.updates == until:
                return seen
        if trainer.is_in_last_epoch:
            trainer.finish(lambda: None)
        trainer.end_epoch()
    return seen


def test_the_first_phase_is_that_of_ft_and_its_end_is_the_temporary_model():
    trainer, fine_tuned = (
        st_trainer(),
        trainer_of(FT, STEP, InMemory(SEEN), optim=OptimConfig(lr=(0.001,), epochs=(2,))),
    )
    losses = train(trainer, until=4)
    trainer.end_epoch()
    assert losses == train(fine_tuned) and trainer.method.phase == "final"
    weights = trainer.student.state_dict()
    assert_same(weights, fine_tuned.student.state_dict())
    kept = trainer.method.temporary.state_dict()
    assert_same(kept, fine_tuned.student.for_inference().state_dict())
    temporary = {name: value.clone() for name, value in kept.items()}
    seen = train(trainer, until=6)
    # In evaluation: its statistics are not those of the batches.
    assert not any(module.training for module in trainer.method.temporary.modules())
    assert_same({**trainer.method.temporary.state_dict()}, temporary)
    assert {*seen[0]} == {"ce", "entropy", "total"} and seen[0]["entropy"] < 0


def test_the_entropy_is_made_larger():
    method, _ = final()
    student = doubled(SEEN)
    term = method.losses(mixed(torch.zeros(2, 12, 8, dtype=torch.int64)), student, doubled(OLD))["entropy"]
    (gradient,) = torch.autograd.grad(term, student.logits)
    assert spec.entropy(student.logits - 100 * gradient) > spec.entropy(student.logits)


def test_the_entropy_moves_the_run():
    without, little, much = (train(st_trainer(st_entropy=weight)) for weight in (0.0, 0.1, 1.0))
    for index in range(5):  # the first phase, and where the second one starts
        assert without[index]["ce"] == little[index]["ce"] == much[index]["ce"]
    assert len({run[-1]["ce"] for run in (without, little, much)}) == 3 and "entropy" not in without[-1]


def test_it_resumes_bit_for_bit_in_either_phase():
    whole = st_trainer()
    losses = train(whole)
    assert len(losses) == 8 and not whole.method.state_dict()
    for updates in (1, 4, 5, 7):
        cut_off = st_trainer()
        train(cut_off, until=updates)
        resumed = st_trainer()
        resumed.load_state_dict(through_file(cut_off.state_dict()))
        assert train(resumed) == losses[updates:]
        assert_same(resumed.state_dict(), whole.state_dict())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn with another seed than the data set of the tests; masks are there, too, and are no pictures of it."""
    root = tmp_path_factory.mktemp("pictures") / "more"
    make_shapes(root, train=8, val=4, size=64, seed=7, workers=1)
    return root / "JPEGImages"


RUN = ("--method", "ST", "--step", 0, 1, "--epochs", 1, "--no_visualize")


def test_a_run_that_is_killed_ends_as_one_that_was_not(
    workplace: Workplace, tmp_path: Path, pictures: Path, stop_at: StopAt, capfd: pytest.CaptureFixture
):
    """In the final phase, with pictures of a folder; and with other pictures it is not resumed."""
    whole, run = Workplace(tmp_path / "whole", workplace.data), (*RUN, "--aux_root", pictures)
    assert whole.run(*run) == 0
    workplace.take_checkpoints(whole, 0)
    stop_at(signal.SIGTERM, 1, 3)
    assert workplace.run(*run) == 143
    stop_at(0, -1, -1)
    cut_off = load(workplace.checkpoint(1))
    assert cut_off["trainer_state"]["phase"] == 1 and cut_off["trainer_state"]["iteration"] == 1
    assert {name.split(".")[0] for name in cut_off["method_state"]} == {"temporary"}
    capfd.readouterr()
    assert workplace.run(*RUN) == 2
    error = capfd.readouterr().err
    assert "--aux_root 12 pictures " in error and "then and images of the step now" in error and error.count("\n") == 1
    assert workplace.run(*run) == 0
    assert_same(load(workplace.checkpoint(1)), load(whole.checkpoint(1)))
    assert workplace.results().read_bytes() == whole.results().read_bytes()
    # A finished step is not taken for one of other pictures, either; the first step knows nothing of them.
    (tmp_path / "few").mkdir()
    for path in sorted(pictures.glob("*.jpg"))[:5]:
        (tmp_path / "few" / path.name).symlink_to(path)
    assert workplace.run(*RUN, "--aux_root", tmp_path / "few") == 2
    assert "is a finished step 1 with other options: --aux_root 12 pict" in capfd.readouterr().err


def test_bad_pictures_end_the_run_before_it_begins(
    workplace: Workplace, tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture
):
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in pictures.glob("*.jpg"):
        (bad / path.name).write_bytes(path.read_bytes()[: -200 if path.name.endswith("1.jpg") else None])
    (tmp_path / "empty").mkdir()
    for name, says in {"bad": "1.jpg cannot be read", "empty": "holds no picture", "gone": "no folder"}.items():
        assert workplace.run(*RUN, "--aux_root", tmp_path / name) == 2
        error = capfd.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and says in error, error
        assert not workplace.checkpoint(0).parent.exists()


def test_other_methods_and_domains_are_refused_and_the_default_is_said():
    with pytest.raises(UserError, match="--aux_root D: --method FT trains on labelled images; leave it out"):
        parse(["--method", "FT", "--aux_root", "D"])
    with pytest.raises(UserError, match="does not serve data in which domains arrive"):
        parse(["--method", "ST", "--dataset", "cityscapes_domain", "--task", "11-5"])
    notes = parse(["--method", "ST"]).provenance.notes
    assert any("--aux_root" in note for note in notes) and not parse(["--method", "FT"]).provenance.notes
    assert not parse(["--method", "ST", "--aux_root", "D"]).provenance.notes
