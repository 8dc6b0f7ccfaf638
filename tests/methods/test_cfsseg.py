"""CFSSeg: one pass gives what a regression on all pixels of all steps gives, however the images come; and its runs."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from dataset.transform import normalise
from methods.base import Batch
from methods.cfsseg import CFSSeg, CFSSegConfig
from methods.ridge import add_sums_, confident_labels, packed, solve, unpacked
from metrics.report import Reporter
from modules.authors_names import to_authors
from segmentation_module import SegOutput
from tests.helpers import small_network, task_of
from tests.methods.spec_losses import IGNORED, sigmoid
from tests.trainers import InMemory, trainer_of
from tests.workplace import StopAt, Workplace, assert_same, load
from tools import export
from train import Trainer
from trained import load_trained
from utils.errors import UserError

STEPS = task_of("voc", "15-1").steps
FEATURES = 24
RUN = ("--method", "CFSSeg", "--expansion", 64, "--step", 0, 1, "--epochs", 1, "--no_visualize")
State = dict[str, Tensor]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small(**options: float) -> type[CFSSeg]:
    """The method with few features and these options."""
    config = CFSSegConfig(expansion=FEATURES, **options)
    return type("Small", (CFSSeg,), {"Config": staticmethod(lambda: config)})


def cfsseg(step: int, *, inherited: State | None = None, size: int = 4, **options: float) -> Trainer:
    """The trainer of a step whose images, all in all the same, come `size` at a time.

    Step 0 has class 3 in bright images, step 1 has 16 somewhere; some pixels are ignored.
    """
    batches = InMemory(STEPS[step].num_seen, count=1, size=8)
    ((images, labels),) = batches.batches
    images[:4] //= 16  # dark ones
    labels = 16 * (labels > 8).byte()
    if step == 0:
        labels[:4], labels[4:] = 0, 3
    labels[:, 16:24] = 255
    batches.batches = list(zip(images.split(size), labels.split(size), strict=True))
    return trainer_of(small(**options), STEPS[step], batches, inherited=inherited, dtype=torch.float64)


def solved(step: int, **options: object) -> Trainer:
    """The same after its pass."""
    trainer = cfsseg(step, **options)
    trainer.finish(lambda: small_network(branches=1, classes_per_head=(16,)) if step else None)
    return trainer


def pixels(trainer: Trainer, scores: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Features (N, d) and labels (N,) of all pixels of the step, with the pseudo labels of the weights `scores`."""
    network, rows, kept = trainer.student.eval(), [], []
    for images, labels in trainer.batches.batches:
        e = F.relu(F.conv2d(network(normalise(images)).features["pre_logits"], trainer.method.phi.weight))
        y = labels.long()
        if scores is not None:
            sure = F.interpolate(torch.einsum("bdhw,dc->bchw", e, scores).sigmoid(), y.shape[1:], mode="bilinear").max(
                1
            )
            y = y.where((y != 0) | (sure.indices == 0) | (sure.values < 0.6), sure.indices)
        rows.append(e.detach().movedim(1, -1).flatten(0, 2))
        kept.append(y[:, ::16, ::16].flatten())
    return torch.cat(rows), torch.cat(kept)


def regression(e: Tensor, y: Tensor, known: Tensor, num_classes: int) -> Tensor:
    """W of |E W - Y|^2 + |W|^2, by least squares; a class counts 0 for pixels of steps in which it was not `known`."""
    keep = y != IGNORED
    e, y = e[keep], F.one_hot(y[keep], num_classes).double() * (torch.arange(num_classes) < known[keep][:, None])
    return torch.linalg.lstsq(torch.cat([e, torch.eye(FEATURES)]), F.pad(y, (0, 0, 0, FEATURES))).solution


def weights(trainer: Trainer) -> Tensor:
    """W of the classifiers, (d, C)."""
    assert all(not classifier.bias.any() for classifier in trainer.student.classifiers)
    return torch.cat([classifier.weight for classifier in trainer.student.classifiers])[..., 0, 0].T


@pytest.fixture(scope="module")
def first() -> Trainer:
    return solved(0)


@pytest.fixture(scope="module")
def second(first: Trainer) -> Trainer:
    return solved(1, inherited=first.method.state_dict())


def test_one_pass_is_a_regression_on_all_pixels_of_all_steps(first: Trainer, second: Trainer):
    old, new = pixels(first), pixels(second)
    scores = regression(*old, torch.full_like(old[1], 16), 16)
    labelled = pixels(second, scores)
    assert 0 < (labelled[1] != new[1]).sum() < (new[1] == 0).sum() and (new[1] == IGNORED).any()
    e, y = (torch.cat(pair) for pair in zip(old, labelled, strict=True))
    known = torch.cat([torch.full_like(old[1], 16), torch.full_like(new[1], 17)])
    assert_close(weights(second), regression(e, y, known, 17), rtol=1e-8, atol=1e-10)


def test_the_sums_are_those_of_a_loop_over_pixels():
    e, y = random(2, 3, 2, 4, seed=1), torch.tensor([[[0, 1, 2, 255], [1, 1, 0, 2]], [[255, 255, 0, 0], [2, 2, 2, 1]]])
    gram, moment = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    expected, classes = gram.clone(), moment.clone()
    for image, labels in zip(e, y, strict=True):
        for row in range(2):
            for column in range(4):
                if (label := int(labels[row, column])) != IGNORED:
                    pixel = image[:, row, column]
                    expected += pixel[:, None] * pixel
                    classes[:, label] += pixel
    add_sums_(gram, moment, e, y)
    assert_close(gram, expected)
    assert_close(moment, classes)
    assert_close((expected + 2 * torch.eye(3)) @ solve(unpacked(packed(gram), 3), moment, 2.0), classes)
    assert packed(gram).shape == (6,) and torch.equal(unpacked(packed(gram), 3), gram.tril())


def test_confident_labels_are_those_of_a_loop_over_pixels():
    scores, labels = 2 * random(2, 3, 2, 2, seed=2), torch.tensor([0, 0, 3, 255]).repeat(2, 4, 1)
    made = confident_labels(scores, labels, 0.6)
    sure = F.interpolate(scores.sigmoid(), size=(4, 4), mode="bilinear")
    for b in range(2):
        for row in range(4):
            for column in range(4):
                of_pixel, label = sure[b, :, row, column].tolist(), int(labels[b, row, column])
                best = max(range(3), key=of_pixel.__getitem__)
                takes = label == 0 and best > 0 and of_pixel[best] >= 0.6
                assert made[b, row, column] == (best if takes else label)
    assert 0 < (made != labels).sum() < (labels == 0).sum()
    # At the threshold itself a label is taken.
    even = torch.tensor([-1.0, 0.25], dtype=torch.float64).reshape(1, 2, 1, 1)
    background = torch.zeros(1, 1, 1, dtype=torch.long)
    assert confident_labels(even, background, sigmoid(0.25) - 1e-9).item() == 1
    assert confident_labels(even, background, sigmoid(0.25) + 1e-9).item() == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_it_does_not_depend_on_the_size_of_the_batches(first: Trainer, second: Trainer, size: int):
    one, two = solved(0, size=size), solved(1, inherited=first.method.state_dict(), size=size)
    assert_close(one.method.state_dict(), first.method.state_dict(), rtol=1e-10, atol=1e-10)
    assert_close(weights(two), weights(second), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("label", [IGNORED, 0])
def test_a_step_of_one_kind_of_pixels_is_solved(first: Trainer, label: int):
    trainer = cfsseg(1, inherited=first.method.state_dict())
    for _, labels in trainer.batches.batches:
        labels.fill_(label)
    trainer.finish(lambda: small_network(branches=1, classes_per_head=(16,)))
    assert weights(trainer).isfinite().all() and not weights(trainer)[:, 16].any()
    assert torch.equal(trainer.method.gram, first.method.gram) == (label == IGNORED)


def test_a_batch_without_a_pixel_has_no_loss():
    logits = random(2, 16, 4, 4, seed=3).requires_grad_()
    batch = Batch(torch.zeros(2, 3, 0, 0), torch.full((2, 4, 4), IGNORED))
    loss = CFSSeg(CFSSegConfig(), STEPS[0]).losses(batch, SegOutput(logits, {}), None)["bce"]
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_pseudo_labels_and_the_norm_count(first: Trainer, second: Trainer):
    state = first.method.state_dict()
    without, short = solved(1, inherited=state, pseudo_confidence=0), solved(1, inherited=state, ridge=100.0)
    assert torch.equal(without.method.gram, second.method.gram)
    assert not torch.equal(without.method.moment, second.method.moment)
    assert weights(short).norm() < 0.9 * weights(second).norm()


def test_nothing_but_the_classifiers_changes_after_step_0(second: Trainer):
    assert not any(weight.requires_grad for weight in second.student.parameters())
    before = cfsseg(1, inherited=second.method.state_dict() | {"moment": second.method.moment[:, :16]}).student
    for name, value in second.student.state_dict().items():
        assert name.startswith("classifiers.") or torch.equal(value, before.state_dict()[name]), name


def test_what_it_cannot_build_on_is_said_in_a_line(first: Trainer):
    with pytest.raises(UserError, match=r"holds no phi\.weight, which --method Small needs: train that step"):
        cfsseg(1, inherited={})
    state = first.method.state_dict()
    with pytest.raises(UserError, match=f"--expansion {FEATURES}: step 0 has 7; give that"):
        cfsseg(1, inherited=state | {"phi.weight": torch.zeros(7, 16, 1, 1)})
    singular = state | {"gram": -state["gram"]}
    with pytest.raises(UserError, match="--ridge 1: the regression has no solution"):
        solved(1, inherited=singular)
    for field, value in (("ridge", 0.0), ("pseudo_confidence", 1.5), ("body_rate", 0.0), ("expansion", 0)):
        with pytest.raises(UserError, match=f"--{field}"):
            CFSSegConfig(**{field: value})


def test_domains_have_no_pseudo_labels_and_no_new_columns():
    steps = task_of("cityscapes_domain", "11-5").steps
    batches, state, network = InMemory(19), {}, None
    for step in steps[:2]:
        trainer = trainer_of(small(pseudo_confidence=0.01), step, batches, inherited=state, dtype=torch.float64)
        trainer.finish(lambda before=network: before)
        state, network = trainer.method.state_dict(), trainer.student
    e, y = pixels(trainer)
    # Both steps saw the same images.
    found, known = torch.cat([e, e]), torch.full((2 * len(y),), 19)
    assert_close(weights(trainer), regression(found, torch.cat([y, y]), known, 19), rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Workplace:
    workplace = Workplace(tmp_path_factory.mktemp("cfsseg"), shapes)
    assert workplace.run(*RUN) == 0
    return workplace


@pytest.mark.parametrize("place", ["step 0", "the pass", "validation"])
def test_a_run_that_is_stopped_ends_as_one_that_was_not(
    finished: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, stop_at: StopAt, place: str
):
    if place == "step 0":
        stop_at(signal.SIGTERM, 0, 2)
        assert workplace.run(*RUN) == 143
        stop_at(0, -1, -1)
    else:
        workplace.take_checkpoints(finished, 0)
        with monkeypatch.context() as patch:
            patch.setattr(*stopping(place))
            assert workplace.run(*RUN) == 143
        assert workplace.checkpoint(1).exists() == (place == "validation")
        if place == "validation":
            assert not load(workplace.checkpoint(1))["trainer_state"]["finished"]
    assert workplace.run(*RUN) == 0
    for step in (0, 1):
        assert_same(load(finished.checkpoint(step)), load(workplace.checkpoint(step)))
    if place == "step 0":
        assert workplace.results().read_bytes() == finished.results().read_bytes()


def stopping(place: str) -> tuple[object, str, Callable[..., None]]:
    """What to put in the place of what, so that step 1 is stopped there."""
    if place == "validation":
        return Reporter, "validation", lambda *rest: signal.raise_signal(signal.SIGTERM)
    solve, times = CFSSeg.solve_, []

    def stop(method: CFSSeg, student: object) -> None:
        solve(method, student)
        times.append(place)
        if len(times) == 2:  # all is done, and not saved
            signal.raise_signal(signal.SIGTERM)

    return CFSSeg, "solve_", stop


def test_the_tools_take_its_networks(finished: Workplace, tmp_path: Path):
    path = finished.checkpoint(1)
    trained = load_trained(path, pooling=32)
    assert trained.network.classifiers[0].in_channels == 64 and trained.finished
    state = load(path)["model_state"]
    assert torch.equal(trained.saved.state_dict()["expand.weight"], state["expand.weight"])
    assert torch.equal(load(path)["method_state"]["phi.weight"], state["expand.weight"])
    assert "expand.weight" not in load(finished.checkpoint(0))["model_state"]
    assert export.main(["--ckpt", str(path), "--out", str(tmp_path), "--form", "weights"]) == 0
    assert "expand.weight" in load_file(next(tmp_path.glob("*.safetensors")))
    with pytest.raises(UserError, match="the authors' code has no classifiers of random features"):
        to_authors(state)
    assert finished.run(*RUN, "--test") == 0


def test_another_method_trains_on_from_its_network(finished: Workplace, workplace: Workplace):
    step = ("--step", 2, "--step_ckpt", finished.checkpoint(1), "--epochs", 1, "--no_visualize")
    assert workplace.run("--method", "MiB", *step) == 0
    before, after = (load(place.checkpoint(n))["model_state"] for place, n in ((finished, 1), (workplace, 2)))
    assert torch.equal(after["expand.weight"], before["expand.weight"])
    assert not torch.equal(after["classifiers.0.weight"], before["classifiers.0.weight"])
