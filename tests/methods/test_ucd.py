"""UCD's term is that of METHODS 11 over all pixels, and over drawn ones on average the same."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from methods.contrast import Pixels, contrast, draw, uncertainty_contrast
from methods.ucd import UCD
from segmentation_module import SegOutput
from tests.helpers import run_processes, small_network
from tests.methods import spec_losses as spec
from tests.methods.outputs import batch, labels, make, output
from tests.methods.test_losses import IGNORED, LABELS, NUM_OLD, close, of_every_kind, old_logits, random
from tests.methods.test_losses import labels as labels_of

ALL = (10**6, 10**6)


def maps(*, seed: int, scale: float = 1.0) -> Tensor:
    return random(2, 7, 4, 6, seed=seed, scale=scale)


def over_all(features: Tensor, y: Tensor, *, temperature: float = 0.07, sizes: tuple[int, int] = ALL) -> Tensor:
    return uncertainty_contrast(features, maps(seed=6), old_logits(), y, temperature=temperature, sizes=sizes)


@of_every_kind
def test_over_all_pixels(kinds: list[int]):
    y = labels_of(kinds)
    for temperature in (0.07, 1.0):
        value = over_all(maps(seed=5), y, temperature=temperature)
        close(value, spec.uncertainty_contrast(maps(seed=5), maps(seed=6), old_logits(), y, temperature))
        assert (value > 0) == (set(kinds) != {IGNORED})


def test_one_image_and_a_teacher_that_sees_background_alone():
    y = labels_of(LABELS["no new class"])
    arguments = [tensor[:1] for tensor in (maps(seed=5), maps(seed=6), old_logits(), y)]
    expected = spec.uncertainty_contrast(*arguments, 0.07)
    close(uncertainty_contrast(*arguments, temperature=0.07, sizes=ALL), expected)
    arguments[2] = torch.cat([torch.full_like(arguments[2][:, :1], 9), arguments[2][:, 1:]], 1)
    features = arguments[0] = arguments[0].clone().requires_grad_()
    value = uncertainty_contrast(*arguments, temperature=0.07, sizes=ALL)
    value.backward()
    assert value == 0 and torch.count_nonzero(features.grad) == 0


@of_every_kind
def test_the_gradient_is_that_of_the_anchors_alone(kinds: list[int]):
    """And finite where there are no negatives, or no pixel that counts."""
    one_class = torch.where(labels_of(kinds) == IGNORED, IGNORED, NUM_OLD)
    for y in (labels_of(kinds), one_class):
        features = maps(seed=5).requires_grad_()
        over_all(features, y).backward()
        assert features.grad.isfinite().all()
    pixels = [some_pixels(kinds, seed=seed) for seed in (1, 2)]
    features = pixels[0].features.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrast(pixels[0]._replace(features=x), pixels[1], 0.3), features)


def some_pixels(kinds: list[int], *, seed: int, count: int = 9) -> Pixels:
    """Pixels of some classes with any weights; those of class 0, and ignored ones, do not count."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.tensor(kinds)[torch.randint(len(kinds), (count,), generator=generator)]
    classes = torch.where(classes == IGNORED, 0, classes)
    features = torch.nn.functional.normalize(random(count, 5, seed=seed), dim=1)
    beliefs, weights = random(count, NUM_OLD, seed=seed + 10).softmax(1), 1 + random(count, seed=seed + 20).abs()
    places = torch.randperm(2 * count, generator=generator)[:count]
    return Pixels(features, classes, beliefs, places, weights * (classes > 0))


def rows(pixels: Pixels) -> list[spec.Row]:
    features, classes, *others = pixels
    lists = [field.tolist() for field in (features, classes, pixels.labelled, *others)]
    return [row for row in zip(*lists, strict=True) if row[1] > 0]


@of_every_kind
def test_drawn_pixels_count_by_their_weights(kinds: list[int]):
    """Also where the keys lack some class of the anchors."""
    anchors = some_pixels(kinds, seed=1, count=12)
    for of_keys in (kinds, kinds[:3], kinds[-1:]):
        keys = some_pixels(of_keys, seed=2, count=20)
        assert set(anchors.places.tolist()) & set(keys.places.tolist())
        close(contrast(anchors, keys, 0.2), spec.contrast(rows(anchors), rows(keys), 0.2))


def test_all_classes_are_drawn_and_their_weights_are_those_of_all_pixels():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (500,), generator=generator)
    classes[[7, 70]] = torch.tensor([150, 20])  # one pixel each
    totals = torch.bincount(classes, minlength=256)
    for size in (4, 50, 400, 499, 500, 9999):
        places, weights = draw(classes, size)
        assert len(places) == len(set(places.tolist())) == min(size, 500)
        drawn = classes[places]
        assert {1, 2, 20, 150} <= set(drawn.tolist()) and torch.all(weights[drawn == 0] == 0)
        for value in (1, 2, 20, 150):
            assert weights[drawn == value].sum() == pytest.approx(int(totals[value]))
    # Background is drawn where nothing else is left, and no class is preferred beyond its first pixel.
    assert 0 not in classes[draw(classes, 300)[0]] and 0 in classes[draw(classes, 400)[0]]
    assert all((classes[draw(classes, 60)[0]] == 1).sum() > 15 for _ in range(20))


def test_what_is_drawn_is_on_average_all():
    torch.manual_seed(0)
    y, features, sizes = labels_of(LABELS["all kinds"]), maps(seed=5), (12, 24)
    whole = over_all(features, y, temperature=0.5)
    values = torch.stack([over_all(features, y, temperature=0.5, sizes=sizes) for _ in range(400)])
    assert values.std() > 0.02 * whole and abs(values.mean() - whole) < 0.03 * whole
    # The sum over all, from that over those drawn.
    classes, amounts = torch.where(y == IGNORED, 0, y).flatten(), random(y.numel(), seed=3).abs()
    sums = [(weights * amounts[places]).sum() for places, weights in (draw(classes, 12) for _ in range(2000))]
    assert torch.stack(sums).mean() == pytest.approx(float((amounts * (classes > 0)).sum()), rel=0.02)


def drawn_in(rank: int, folder: Path) -> Tensor:
    """What a process with one of the two images gets in 300 draws."""
    torch.manual_seed(rank)
    y, size = labels_of(LABELS["all kinds"]), {"temperature": 0.5, "sizes": (8, 24)}
    tensors = [tensor[rank : rank + 1] for tensor in (maps(seed=5), maps(seed=6), old_logits(), y)]
    return torch.stack([uncertainty_contrast(*tensors, **size) for _ in range(300)])


def test_what_two_processes_draw_is_on_average_all_of_both(tmp_path: Path):
    """Where all is drawn it is all: see tests/test_processes.py."""
    whole = over_all(maps(seed=5), labels_of(LABELS["all kinds"]), temperature=0.5)
    drawn = torch.stack(run_processes(drawn_in, tmp_path))
    assert drawn.std(1).min() > 0.02 * whole and abs(drawn.mean() - whole) < 0.03 * whole


def test_mixed_precision_takes_nothing_from_it():
    y, largest = labels_of(LABELS["all kinds"]), maps(seed=5, scale=1e4)
    for kind, autocast in ((torch.bfloat16, False), (torch.float16, False), (torch.float32, True)):
        halves = [tensor.to(kind) for tensor in (largest, maps(seed=6), old_logits())]
        sizes = {"temperature": 0.07, "sizes": ALL}
        expected = uncertainty_contrast(*(tensor.float() for tensor in halves), y, **sizes)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = uncertainty_contrast(*halves, y, **sizes)
        assert value.dtype == torch.float32 and torch.equal(value, expected) and value.isfinite(), kind


def test_the_term_is_added_to_those_of_the_base():
    student, teacher, y = output(17, seed=2), output(16, seed=1), labels(17)
    small = y[:, ::4, ::4]
    args = (student.features["pre_logits"], teacher.features["pre_logits"], teacher.features["logits_small"], small)
    for base in ("MiB", "PLOP"):
        found = make("UCD", base=base)(batch(y), student, teacher)
        expected = make(base)(batch(y), student, teacher)
        assert float(found.pop("ucd")) == pytest.approx(0.01 * spec.uncertainty_contrast(*args, 0.07), rel=1e-9)
        assert found == expected
        assert make("UCD", base=base, loss_ucd=0.0)(batch(y), student, teacher) == expected
        other = make("UCD", base=base, ucd_temperature=1.0, loss_ucd=2.0)(batch(y), student, teacher)
        assert float(other["ucd"]) == pytest.approx(2 * spec.uncertainty_contrast(*args, 1.0), rel=1e-9)


def test_so_many_anchors_learn_from_so_many_keys(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def keep(anchors: Pixels, keys: Pixels, temperature: float) -> Tensor:
        seen.append([(len(pixels.places), pixels.features.requires_grad) for pixels in (anchors, keys)])
        return torch.zeros(())

    monkeypatch.setattr("methods.contrast.contrast", keep)
    logits, features = torch.randn(2, 17, 32, 32), torch.randn(2, 3, 32, 32, requires_grad=True)
    student = SegOutput(logits, {"pre_logits": features})
    teacher = SegOutput(logits[:, :16], {"pre_logits": features.detach(), "logits_small": logits[:, :16]})
    for options in ({"ucd_anchors": 300, "ucd_keys": 600}, {}):
        make("UCD", **options).losses(batch(torch.full((2, 32, 32), 16)), student, teacher)
    assert seen == [[(300, True), (600, False)], [(2048, True), (4096, False)]]


def test_the_first_classifier_does_not_train_after_step_0():
    for step, heads, trains in ((0, (16,), [True]), (2, (16, 1, 1), [False, True, True])):
        network = small_network(branches=1, classes_per_head=heads)
        ucd: UCD = make("UCD", step=step)
        ucd.shape(network, network if step else None)
        assert [classifier.weight.requires_grad for classifier in network.classifiers] == trains
