"""SDR against loops over pixels, channels and classes (METHODS 10)."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from methods.base import Method
from methods.latent import attract, match, repel, sparsity
from segmentation_module import SegmentationNet, SegOutput, build_student
from tests.helpers import run_processes, small_network
from tests.methods.outputs import FEATURES, batch, make
from tests.methods.spec_losses import IGNORED
from tests.methods.test_losses import LABELS, NUM_SEEN, close, labels, of_every_kind, random
from utils.distributed import all_gather, mean_over_processes, world_size
from utils.errors import UserError

OLD, SEEN = 16, 18
CHANNELS, HEIGHT, WIDTH = FEATURES["layer4"]
TERMS = {"match", "attract", "repel", "sparse"}
KNOWN = torch.tensor([False, True, True, False, True])


def maps(scale: float = 2.0) -> Tensor:
    """Features of the labels of test_losses.py, some of them negative."""
    return random(2, 7, 4, 6, seed=5, scale=scale) + 1


def prototypes() -> Tensor:
    return random(NUM_SEEN, 7, seed=6)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "match": lambda e, y: match(e, y, prototypes().to(e.device), KNOWN),
    "attract": lambda e, y: attract(e, y, prototypes()),
    "repel": lambda e, y: repel(e, y, NUM_SEEN),
    "sparse": lambda e, y: sparsity(e, y, NUM_SEEN),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def by_class(features: Tensor, y: Tensor) -> dict[int, list[list[float]]]:
    """The features of the pixels of each class that is there."""
    rows: dict[int, list[list[float]]] = {}
    for b in range(features.shape[0]):
        for i in range(features.shape[2]):
            for j in range(features.shape[3]):
                if int(y[b, i, j]) != IGNORED:
                    rows.setdefault(int(y[b, i, j]), []).append(features[b, :, i, j].tolist())
    return rows


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def mean_feature(rows: list[list[float]]) -> list[float]:
    return [mean(list(column)) for column in zip(*rows, strict=True)]


def squared(a: list[float], b: list[float]) -> float:
    """Mean over channels."""
    return mean([(x - y) ** 2 for x, y in zip(a, b, strict=True)])


def spec_match(features: Tensor, y: Tensor, of_classes: Tensor, known: Tensor) -> float:
    rows = by_class(features, y)
    return mean([squared(mean_feature(own), of_classes[c].tolist()) for c, own in rows.items() if known[c]])


def spec_attract(features: Tensor, y: Tensor, of_classes: Tensor) -> float:
    rows = by_class(features, y)
    return mean([mean([squared(row, of_classes[c].tolist()) for row in own]) for c, own in rows.items()])


def spec_repel(features: Tensor, y: Tensor) -> float:
    means = {c: mean_feature(own) for c, own in by_class(features, y).items()}
    return mean([1 / math.dist(means[a], means[b]) for a in means for b in means if a != b])


def spec_sparsity(features: Tensor, y: Tensor) -> float:
    rows, ratios = by_class(features.clamp(min=0), y), []
    for own in rows.values():
        largest = max(max(row) for row in own)
        for row in own:
            scaled = [number / (largest + 1e-15) for number in row]
            if any(scaled):  # else it does not count: its ratio would be 1e15 times the number of channels
                ratios.append(sum(math.exp(number) for number in scaled) / sum(scaled))
    return mean(ratios) if rows.keys() - {0} else 0.0


@of_every_kind
def test_the_losses_are_those_of_loops(kinds: list[int]):
    e, y = maps(), labels(kinds)
    close(LOSSES["match"](e, y), spec_match(e, y, prototypes(), KNOWN))
    close(LOSSES["attract"](e, y), spec_attract(e, y, prototypes()))
    close(LOSSES["repel"](e, y), spec_repel(e, y))
    close(LOSSES["sparse"](e, y), spec_sparsity(e, y))


@every_loss
@of_every_kind
def test_gradients(loss: Callable[..., Tensor], kinds: list[int]):
    e, y = maps()[:, :3, :3, :2].clone().requires_grad_(), labels(kinds)[:, :3, :2]
    short = {"match": lambda e, y: match(e, y, prototypes()[:, :3], KNOWN)}
    short["attract"] = lambda e, y: attract(e, y, prototypes()[:, :3])
    name = next(name for name, own in LOSSES.items() if own is loss)
    assert torch.autograd.gradcheck(lambda e: short.get(name, loss)(e, y), e)


@every_loss
def test_features_that_are_equal_or_zero_have_finite_losses_and_gradients(loss: Callable[..., Tensor]):
    for value in (0.0, -1.0, 3.0):
        for images in (1, 2):
            e = torch.full((images, 7, 4, 6), value, requires_grad=True)
            total = loss(e, labels(LABELS["all kinds"])[:images])
            total.backward()
            assert total.isfinite() and e.grad.isfinite().all()


@every_loss
def test_mixed_precision_takes_nothing_from_a_loss(loss: Callable[..., Tensor]):
    y = labels(LABELS["all kinds"])
    for kind, autocast in ((torch.bfloat16, False), (torch.float16, False), (torch.float32, True)):
        e = maps(scale=50).to(kind)
        expected = loss(e.float(), y)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(e, y)
        assert torch.equal(value, expected) and value.isfinite(), kind


def at_step(number: int = 1, scenario: str = "disjoint", **options: object) -> tuple[Method, SegmentationNet]:
    """SDR in a task whose step 1 has two new classes, or in its step 0, and its student."""
    sdr = make("SDR", task="15-5", step=number, **options)
    task = replace(sdr.step.task, arrivals=(tuple(range(16)), (16, 17)), scenario=scenario)
    sdr = type(sdr)(sdr.config, task.step(number))
    first = small_network(branches=1, classes_per_head=(OLD,))
    student = build_student(first, new_classes=2) if number else first
    sdr.shape(student, first if number else None)
    if sdr.prototypes.shape[1] != CHANNELS:
        sdr.prototypes = torch.zeros(sdr.num_seen, CHANNELS)
    return sdr.double(), student


def seen_by(num_classes: int, *, seed: int) -> SegOutput:
    """A network's output for two images; each feature pixel stands for a block of 4 x 4."""
    features = random(2, CHANNELS, HEIGHT, WIDTH, seed=seed)
    return SegOutput(random(2, num_classes, 4 * HEIGHT, 4 * WIDTH, seed=seed + 1), {"layer4": features})


def labels_of(*kinds: int, seed: int = 3) -> Tensor:
    """(2, 4 h, 4 w): another label at each pixel, some of which no feature stands for."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(kinds)[torch.randint(len(kinds), (2, 4 * HEIGHT, 4 * WIDTH), generator=generator)]


def small(y: Tensor) -> Tensor:
    return y[:, ::4, ::4]


def remember_(sdr: Method) -> None:
    """Random prototypes of the old classes but one."""
    sdr.prototypes[1:OLD] = random(OLD - 1, CHANNELS, seed=9)
    sdr.counts[1:OLD] = 5
    sdr.prototypes[3], sdr.counts[3] = 0, 0


def test_the_terms_are_those_of_loops_over_pixels():
    """Prototypes have the batch already, and old ones stay as they were."""
    sdr, _ = at_step(sdr_match=2.0, sdr_attract=3.0, sdr_repel=5.0, sdr_sparse=7.0)
    remember_(sdr)
    before = sdr.prototypes.clone()
    student, teacher = seen_by(SEEN, seed=1), seen_by(OLD, seed=2)
    y = labels_of(0, 0, 0, OLD, SEEN - 1, IGNORED)
    found = sdr.losses(batch(y), student, teacher)
    e, own = student.features["layer4"], small(y)
    rows = by_class(e, own)
    assert rows.keys() == {0, OLD, SEEN - 1}
    for c in (OLD, SEEN - 1):
        before[c] = torch.tensor(mean_feature(rows[c]), dtype=torch.float64)
    assert_close(sdr.prototypes, before, rtol=1e-12, atol=1e-12)
    assert sdr.counts.tolist() == [0, 5, 5, 0, *[5] * 12, len(rows[OLD]), len(rows[SEEN - 1])]
    seen = small(teacher.logits.argmax(1))
    seen = torch.where((own == 0) & (seen > 0), seen, IGNORED)
    assert len(by_class(e, seen)) > 1 and not {0, 255} & by_class(e, seen).keys()
    close(found.pop("match"), 2 * spec_match(e, seen, before, sdr.counts > 0))
    close(found.pop("attract"), 3 * spec_attract(e, own, before))
    close(found.pop("repel"), 5 * spec_repel(e, own))
    close(found.pop("sparse"), 7 * spec_sparsity(e, own))
    as_mib = make("MiB", task="15-5", loss_kd=100.0)
    as_mib.num_old = OLD
    assert found == as_mib.losses(batch(y), student, teacher)


def test_prototypes_are_the_means_over_all_batches():
    """With the background in step 0 of disjoint tasks alone, and where features are finite."""
    for number, scenario in ((0, "disjoint"), (0, "overlapped"), (0, "partitioned"), (1, "disjoint")):
        sdr, _ = at_step(number, scenario)
        kinds = (0, OLD, SEEN - 1, IGNORED) if number else (0, 1, 2, IGNORED)
        features, ys = [], []
        for seed in range(3):
            student, y = seen_by(sdr.num_seen, seed=seed), labels_of(*kinds, seed=seed)
            sdr.losses(batch(y), student, seen_by(OLD, seed=7) if number else None)
            features, ys = [*features, student.features["layer4"]], [*ys, small(y)]
        bad = seen_by(sdr.num_seen, seed=0)
        bad.features["layer4"][0, 0, 0, 0] = math.inf
        sdr.losses(batch(y), bad, seen_by(OLD, seed=7) if number else None)
        rows = by_class(torch.cat(features), torch.cat(ys))
        if (number, scenario) != (0, "disjoint"):
            del rows[0]
        assert sdr.counts.tolist() == [len(rows.get(c, [])) for c in range(sdr.num_seen)]
        for c, prototype in enumerate(sdr.prototypes):
            assert_close(prototype, torch.tensor(mean_feature(rows.get(c, [[0.0] * CHANNELS])), dtype=torch.float64))


def test_each_term_can_be_left_out_and_step_0_has_none():
    student, teacher, y = seen_by(SEEN, seed=1), seen_by(OLD, seed=2), labels_of(0, OLD, SEEN - 1)
    for name in TERMS:
        sdr, _ = at_step(**{f"sdr_{name}": 0.0})
        assert sdr.losses(batch(y), student, teacher).keys() == {"ce", "kd"} | TERMS - {name}
    first, y = seen_by(OLD, seed=2), labels_of(0, 1, 2)
    sdr, _ = at_step(0)
    assert sdr.losses(batch(y), first, None) == make("FT", step=0).losses(batch(y), first, None)
    sdr, _ = at_step(0, sdr_sparse_first=2.0)
    close(sdr.losses(batch(y), first, None)["sparse"], 2 * spec_sparsity(first.features["layer4"], small(y)))


@pytest.mark.parametrize("kind", [0, IGNORED, SEEN - 1])
def test_one_image_of_one_kind_has_finite_losses_and_gradients(kind: int):
    sdr, student = at_step()
    teacher = small_network(branches=1, classes_per_head=(OLD,)).for_inference()
    sdr.shape(student, teacher)
    image, y = torch.randn(1, 3, 32, 32), torch.full((1, 32, 32), kind)
    terms = sdr.losses(batch(y), student.eval()(image), teacher(image))
    sum(terms.values()).backward()
    assert terms.keys() == {"ce", "kd"} | TERMS and all(term.isfinite() for term in terms.values())
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())


def test_the_next_step_takes_over_the_prototypes_or_cannot_start():
    first, student = at_step(0)
    first.shape(student, None)
    first.prototypes.normal_(), first.counts.fill_(3)
    later, student = at_step()
    later.shape(student, student)
    later.shape(student, student)
    later.inherit(first.state_dict())
    assert_close(later.prototypes[:OLD], first.prototypes)
    assert later.counts.tolist() == [3] * OLD + [0] * 2 and torch.count_nonzero(later.prototypes[OLD:]) == 0
    with pytest.raises(UserError, match="step 0 holds no prototypes, which --method SDR needs"):
        later.inherit({})


def found_by(rank: int, folder: Path) -> dict[str, Tensor]:
    """Each loss and its gradient, and the state after two batches, of which a process has its share of images."""
    count, found = world_size(), {}
    features, y = maps(), labels(LABELS["all kinds"])
    features[:, 0, 0, 0], y[:, 0, 0] = 50, 1  # both have the largest number of a class
    for name, loss in LOSSES.items():
        e = features[rank::count].clone().requires_grad_()
        value = loss(e, y[rank::count])
        (gradient,) = torch.autograd.grad(value, e)
        found |= {name: mean_over_processes(value), f"gradient of {name}": all_gather(gradient / count).flatten(0, 1)}
    sdr, _ = at_step(0)
    for seed in range(2):
        student, y = seen_by(OLD, seed=seed), labels_of(0, 1, 2, IGNORED, seed=seed)
        y[1] = y[1].where(y[1] != 2, 4)  # classes that one process does not see
        share = SegOutput(student.logits[rank::count], {"layer4": student.features["layer4"][rank::count]})
        sdr.losses(batch(y[rank::count]), share, None)
    return found | sdr.state_dict()


def test_two_processes_find_and_remember_what_one_does(tmp_path: Path):
    one, two = found_by(0, tmp_path), run_processes(found_by, tmp_path)
    assert one["counts"].count_nonzero() == 4
    for of_process in two:
        assert_close(of_process, one, rtol=1e-12, atol=1e-12)
