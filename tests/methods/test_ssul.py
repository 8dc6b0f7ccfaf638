"""SSUL against loops over pixels, written from METHODS 13 and METHODS2 27.4."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config import OptimConfig
from methods.base import Batch
from methods.ssul import unknown_targets
from modules.norm import Norm
from segmentation_module import SegOutput, build_student, load_network
from tests.helpers import small_config, small_network
from tests.methods.outputs import make
from tests.methods.spec_losses import IGNORED, binary, sigmoid
from tests.workplace import Workplace
from utils.errors import UserError
from utils.optim import build_optimizer


def labels(*shape: int, low: int, high: int) -> Tensor:
    """Background, ignored pixels and the classes from `low` to below `high`."""
    values = torch.tensor([0, 0, IGNORED, *range(max(low, 1), high)])
    return values[torch.arange(math.prod(shape)) % len(values)].reshape(shape)


def at_step(number: int, head: str = "sum", **options: object) -> tuple:
    """SSUL at a step, its student, and the network before."""
    ssul = make("SSUL", step=number, **options)
    torch.manual_seed(0)
    first = small_network(branches=1, classes_per_head=(16,), head=head)
    make("SSUL", step=0).shape(first, None)
    student = build_student(first, new_classes=1) if number else first
    previous = first if number else None
    ssul.shape(student, previous)
    ssul.initialise(student, previous)
    return ssul, student, previous


def outputs(channels: int, seed: int, *, dtype: torch.dtype = torch.float64) -> SegOutput:
    """Small logits 2 x 3, of an image of 4 x 6 pixels."""
    random = torch.Generator().manual_seed(seed)
    small, unknown = (3 * torch.randn(2, count, 2, 3, dtype=dtype, generator=random) for count in (channels, 1))
    logits = F.interpolate(small, size=(4, 6), mode="bilinear")
    return SegOutput(logits, {"logits_small": small, "unknown": unknown})


def all_logits(seen: SegOutput) -> Tensor:
    """Of the unknown, the background and the classes, at the size of the image."""
    small = torch.cat([seen.features["unknown"], seen.features["logits_small"]], 1)
    return F.interpolate(small, size=(4, 6), mode="bilinear")


def naive_targets(y: Tensor, salient: Tensor | None, teacher: Tensor | None, certain: float) -> list[list[int]]:
    """By image and pixel; 0 unknown, 1 background, class c is c + 1."""
    found = []
    for image in range(len(y)):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                label = int(y[image, row, column])
                if label == IGNORED:
                    found.append(IGNORED)
                    continue
                target = label + 1
                if label == 0 and (salient is None or salient[image, row, column]):
                    target = 0
                if teacher is not None and target <= 1:
                    sigmas = [sigmoid(float(z)) for z in teacher[image, :, row, column]]
                    best = max(range(len(sigmas)), key=sigmas.__getitem__)
                    if best > 1 and sigmas[best] >= certain:
                        target = best
                found.append(target)
    return found


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("step", [0, 1])
def test_the_objective(step: int, maps: bool):
    ssul = make("SSUL", step=step, certain=0.8)
    old, seen = (16, 17) if step else (0, 16)
    student, teacher = outputs(seen, 1), outputs(old, 2) if step else None
    y = labels(2, 4, 6, low=old, high=seen)
    salient = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(5)) < 0.5 if maps else None
    targets = naive_targets(y, salient, all_logits(teacher) if step else None, 0.8)
    assert {0, IGNORED} < {*targets} and (1 in targets) == maps
    assert not step or any(1 < target <= old for target in targets)
    logits = all_logits(student).movedim(1, 3).reshape(-1, seen + 1)
    total = sum(
        binary(float(z), float(channel == target))
        for pixel, target in zip(logits, targets, strict=True)
        if target != IGNORED
        for channel, z in enumerate(pixel)
    )
    expected = total / sum(target != IGNORED for target in targets)
    found = ssul.losses(Batch(torch.empty(2, 3, 0, 0), y, salient), student, teacher)["bce"]
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0, 16, IGNORED])
def test_batches_of_one_kind_of_pixel(value: int):
    ssul = make("SSUL", step=1)
    for images in (1, 2):
        student, teacher = outputs(17, 1, dtype=torch.float32), outputs(16, 2, dtype=torch.float32)
        batch = Batch(torch.empty(2, 3, 0, 0)[:images], torch.full((images, 4, 6), value))
        student, teacher = (
            SegOutput(of_it.logits[:images], {name: entry[:images] for name, entry in of_it.features.items()})
            for of_it in (student, teacher)
        )
        found = ssul.losses(batch, student, teacher)["bce"]
        assert torch.isfinite(found) and (found == 0) == (value == IGNORED)


def test_targets_keep_ignored_pixels():
    y = torch.tensor([[[0, 0, 3, IGNORED]]])
    salient = torch.tensor([[[True, False, True, True]]])
    found = torch.tensor([[[2, 0, 2, 2]]])
    assert unknown_targets(y, salient, found).tolist() == [[[3, 1, 4, IGNORED]]]
    assert unknown_targets(y, None, None).tolist() == [[[0, 0, 4, IGNORED]]]


def test_only_new_classes_unknown_and_background_train():
    ssul, student, previous = at_step(1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    groups = ssul.groups(student)
    optimiser = build_optimizer(groups, OptimConfig(lr=(0.1,)), lr=0.1)
    student.train()
    assert all(module.frozen for module in student.modules() if isinstance(module, Norm))
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    batch = Batch(images, labels(2, 32, 32, low=16, high=17))
    losses = ssul.losses(batch, student(images), previous.for_inference()(images))
    losses["bce"].backward()
    optimiser.step()
    moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {
        f"{part}.{kind}" for part in ("classifiers.0", "classifiers.1", "unknown") for kind in ("weight", "bias")
    }
    old = student.classifiers[0]
    assert torch.equal(old.weight[1:], before["classifiers.0.weight"][1:])
    assert torch.equal(old.bias[1:], before["classifiers.0.bias"][1:])
    # Nesterov's first step is 1.9 times the gradient times the rate.
    expected = before["classifiers.0.bias"][0] - 0.1 * 1e-4 * 1.9 * old.bias.grad[0]
    assert torch.allclose(old.bias[0], expected, rtol=0, atol=1e-7) and old.bias.grad[0] != 0


def learnt(step: int, **options: object) -> list[float]:
    """The losses of three iterations on one batch, of whose pixels the teacher is certain of half."""
    ssul, student, previous = at_step(step, **{"certain": 0.747, "saliency": "maps"} | options)
    optimiser = build_optimizer(ssul.groups(student), OptimConfig(lr=(0.1,)), lr=0.1)
    teacher = previous and previous.for_inference()
    torch.manual_seed(0)
    images, salient = torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32) < 0.5
    y = labels(2, 32, 32, low=16 * step, high=16 + step)
    batch, losses = Batch(images, y, salient if ssul.needs_saliency else None), []
    for _ in range(3):
        optimiser.zero_grad()
        found = ssul.losses(batch, student(images), teacher and teacher(images))["bce"]
        found.backward()
        optimiser.step()
        losses.append(found.item())
    return losses


@pytest.mark.parametrize(
    ("step", "parts", "rates"),
    [
        (0, [{"saliency": "none"}], [{"body_rate": 1.0}]),
        (1, [{"saliency": "none"}, {"certain": 1.0}, {"unknown_start": False}], [{"background_rate": 1.0}]),
    ],
)
def test_each_part_moves_what_is_learnt(step: int, parts: list[dict], rates: list[dict]):
    """From the first loss on, or, for a rate, from the second on."""
    usual = learnt(step)
    assert usual == learnt(step) and usual[0] > usual[-1]
    for number, others in ((0, parts), (1, rates)):
        for options in others:
            found = learnt(step, **options)
            assert found[:number] == usual[:number]
            differences = [abs(one - other) for one, other in zip(usual[number:], found[number:], strict=True)]
            assert min(differences) > 1e-4, options


def test_in_its_own_head_the_old_classes_have_no_gradient():
    ssul, student, _ = at_step(1, "steps")
    trains = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    parts = ("classifiers.0.parts.0", "classifiers.1.parts.0", "unknown.parts.0")
    kinds = ("conv.weight", "last.weight", "last.bias")
    assert trains == {f"{part}.{kind}" for part in parts for kind in kinds}
    own, unknown = student.classifiers[1].state_dict(), student.unknown.state_dict()
    assert own.keys() == unknown.keys() and all(torch.equal(own[name], unknown[name]) for name in own)
    groups = ssul.groups(student)
    background = groups["old_classifiers"]
    assert background.rate == 1e-4 and [p.requires_grad for p in background.parameters].count(True) == 3
    assert any(parameter is student.unknown.parts[0].last.bias for parameter in groups["classifiers"].parameters)
    student.eval()
    again = load_network(small_config(head="steps"), student.state_dict(), branches=1, classes_per_head=(16, 1))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again.eval()(images).logits, student(images).logits)


def test_new_classes_start_from_the_unknown():
    _, student, _ = at_step(1)
    assert torch.equal(student.classifiers[1].weight, student.unknown.weight)
    assert torch.equal(student.classifiers[1].bias, student.unknown.bias)
    _, student, _ = at_step(1, unknown_start=False)
    assert not torch.equal(student.classifiers[1].weight, student.unknown.weight)


@torch.no_grad()
def test_a_test_counts_the_unknown_as_background():
    """Sigmoids at the size of the image, those of unknown and background added, and the largest one."""
    _, network, _ = at_step(0)
    network.classifiers[0].bias.zero_()[0] = -0.05  # background is second to most
    images = torch.randn(1, 3, 32, 40)
    raw, scored = network.eval()(images), network.for_inference()(images)
    unknown = F.interpolate(raw.features["unknown"], size=(32, 40), mode="bilinear")
    joined = 0
    for row in range(0, 32, 4):
        for column in range(0, 40, 4):
            sigmas = [sigmoid(float(z)) for z in raw.logits[0, :, row, column]]
            sigmas[0] += sigmoid(float(unknown[0, 0, row, column]))
            for of_class, score in zip(sigmas, scored.logits[0, :, row, column], strict=True):
                assert math.exp(float(score)) == pytest.approx(of_class, rel=1e-3)
            joined += sigmas.index(max(sigmas)) != int(raw.logits[0, :, row, column].argmax())
    assert joined  # or the rule would not matter


def test_the_unknown_is_saved_and_loaded():
    _, network, _ = at_step(0)
    again = load_network(small_config(), network.state_dict(), branches=1, classes_per_head=(16,))
    assert torch.equal(again.unknown.weight, network.unknown.weight)


def test_the_step_of_another_method_has_no_unknown():
    ssul, plain = make("SSUL", step=1), small_network(branches=1, classes_per_head=(16,))
    with pytest.raises(UserError, match="step 0 holds no unknown, which --method SSUL needs"):
        ssul.shape(build_student(plain, new_classes=1), plain)


def test_what_is_certain_is_what_the_memory_takes():
    ssul = make("SSUL", step=1, certain=0.7)
    seen = outputs(16, 2)
    found = ssul.confident(seen)
    expected = naive_targets(torch.zeros(2, 4, 6).long(), torch.zeros(2, 4, 6), all_logits(seen), 0.7)
    assert found.flatten().tolist() == [max(target - 1, 0) for target in expected] and found.any()


def test_another_method_does_not_go_on_with_an_unknown(workplace: Workplace, capfd: pytest.CaptureFixture):
    short = ("--epochs", 1, "--no_visualize", "--step")
    assert workplace.run("--method", "SSUL", *short, 0) == 0
    capfd.readouterr()
    assert workplace.run("--method", "MiB", *short, 1) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "step 0 was trained with --method SSUL" in error
