"""DKD, and the sigmoid classifiers of the foreground that it shares, against sums over pixels (METHODS2 17, 18)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config import OptimConfig
from methods.base import Method
from modules.norm import Norm
from segmentation_module import SegmentationNet, SegOutput, build_student
from tests.helpers import small_network
from tests.methods import spec_losses as spec
from tests.methods.outputs import batch, check, labels, make, output
from tests.methods.spec_losses import IGNORED, binary, sigmoid
from utils.errors import UserError
from utils.optim import build_optimizer

OLD, SEEN = 16, 17
WEIGHTS = {"loss_kd": 2.0, "loss_dkd": 3.0, "loss_ac": 0.5, "pos_weight": 4.0, "pos_weight_first": 1.5}


def with_classifiers(seen: SegOutput, *, seed: int) -> SegOutput:
    """`seen` with classifiers of its own, none for the background, whose logits it has."""
    random = torch.Generator().manual_seed(seed)
    channels = seen.features["pre_logits"].shape[1]
    weight = torch.randn(seen.logits.shape[1], channels, 1, 1, dtype=torch.float64, generator=random)
    bias = torch.randn(len(weight), dtype=torch.float64, generator=random)
    weight[0], bias[0] = 0, 0
    small = F.conv2d(seen.features["pre_logits"], weight, bias)
    logits = F.interpolate(small, size=seen.logits.shape[-2:], mode="bilinear")
    return SegOutput(logits, seen.features | {"logits_small": small}, weight, bias)


def at_step(number: int, **options: object) -> tuple[Method, SegmentationNet]:
    """DKD at the step after 15 classes, or before it, and its student."""
    dkd = make("DKD", step=number, **options)
    first = small_network(branches=1, classes_per_head=(OLD,), head_channels=5)
    student = build_student(first, new_classes=1) if number else first
    dkd.shape(student, first if number else None)
    return dkd, student


def binary_mean(seen: Tensor, known: Tensor) -> float:
    """Of each channel the mean over pixels, summed over channels."""
    pairs = zip(spec.pixels(seen), spec.pixels(known), strict=True)
    total = sum(binary(q, sigmoid(q_old)) for one, other in pairs for q, q_old in zip(one, other, strict=True))
    return total / (seen.numel() / seen.shape[1])


def part(seen: SegOutput, positive: bool) -> Tensor:
    """pos_c or neg_c of each old class at each place, in loops."""
    x, w = seen.features["pre_logits"], seen.weight[:, :, 0, 0]
    out = torch.zeros(len(x), OLD - 1, *x.shape[2:], dtype=x.dtype)
    for c in range(1, OLD):
        for d in range(x.shape[1]):
            kept = max(float(w[c, d]), 0.0) if positive else min(float(w[c, d]), 0.0)
            out[:, c - 1] += kept * x[:, d]
    return out


def test_the_terms_are_those_of_the_paper():
    dkd, _ = at_step(1, **WEIGHTS)
    dkd.double()
    student, teacher = with_classifiers(output(SEEN, seed=1), seed=3), with_classifiers(output(OLD, seed=2), seed=4)
    y = labels(SEEN)
    a = torch.einsum("d,bdhw->bhw", dkd.aux.weight[0, :, 0, 0], student.features["pre_logits"]) + dkd.aux.bias
    a = F.interpolate(a[:, None], size=(12, 8), mode="bilinear")
    expected = {
        "bce": spec.foreground_binary_cross_entropy(student.logits, y, OLD, 4.0),
        "ac": 0.5 * sum(binary(value, 0.0) for value in a.flatten().tolist()) / a.numel(),
        "kd": 2 * binary_mean(student.logits[:, 1:OLD], teacher.logits[:, 1:]),
        "pos": 3 * binary_mean(part(student, True), part(teacher, True)),
        "neg": 3 * binary_mean(part(student, False), part(teacher, False)),
    }
    terms = dkd.losses(batch(y), student, teacher)
    check({name: term.detach() for name, term in terms.items()}, expected)
    both = part(student, True) + part(student, False) + student.bias[1:OLD, None, None]
    torch.testing.assert_close(both, student.features["logits_small"][:, 1:OLD])


def test_step_0_has_the_classes_and_the_auxiliary_classifier():
    dkd, _ = at_step(0, **WEIGHTS)
    seen, y = with_classifiers(output(OLD, seed=1), seed=3), labels(OLD)
    terms = dkd.double().losses(batch(y), seen, None)
    assert terms.keys() == {"bce", "ac"}
    assert float(terms["bce"]) == pytest.approx(spec.foreground_binary_cross_entropy(seen.logits, y, 0, 1.5))


def test_a_weight_of_0_leaves_a_term_out():
    student, teacher = with_classifiers(output(SEEN, seed=1), seed=3), with_classifiers(output(OLD, seed=2), seed=4)
    for option, gone in {"loss_kd": {"kd"}, "loss_dkd": {"pos", "neg"}, "loss_ac": {"ac"}}.items():
        dkd, _ = at_step(1, **{option: 0.0})
        terms = dkd.double().losses(batch(labels(SEEN)), student, teacher)
        assert {"bce", "ac", "kd", "pos", "neg"} - terms.keys() == gone
        assert dkd.aux.weight.requires_grad == (gone != {"ac"})


@pytest.mark.parametrize("kind", [0, IGNORED, SEEN - 1])
def test_one_image_of_one_kind_has_finite_losses_and_gradients(kind: int):
    dkd, student = at_step(1)
    teacher = small_network(branches=1, classes_per_head=(OLD,), head_channels=5).for_inference()
    image = torch.randn(1, 3, 32, 32)
    y = torch.full((1, 32, 32), kind)
    terms = dkd.losses(batch(y), student(image), teacher(image))
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


def test_the_auxiliary_classifier_learns_and_teaches_nothing():
    dkd, student = at_step(1)
    dkd.losses(batch(torch.zeros(1, 32, 32, dtype=torch.long)), student(torch.randn(1, 3, 32, 32)), None)[
        "ac"
    ].backward()
    assert dkd.aux.weight.grad.abs().max() > 0 and all(p.grad is None for p in student.parameters())


def test_new_classes_start_from_the_auxiliary_classifier_which_trains_on():
    dkd, student = at_step(1)
    old = dkd.state_dict()
    state = {"aux.weight": torch.randn(1, 5, 1, 1), "aux.bias": torch.randn(1)}
    dkd.inherit(state)
    dkd.initialise(student, student)
    new = student.classifiers[-1]
    assert torch.equal(new.weight, state["aux.weight"]) and torch.equal(new.bias, state["aux.bias"])
    assert dkd.state_dict().keys() == old.keys() == state.keys()
    assert all(torch.equal(dkd.state_dict()[name], value) for name, value in state.items())
    with pytest.raises(UserError, match="the checkpoint of step 0 holds no aux, which --method DKD needs"):
        dkd.inherit({"bounds": torch.zeros(3)})


def test_the_background_stays_at_0_whatever_pulls_at_it():
    dkd, student = at_step(1)
    optimizer = build_optimizer(dkd.groups(student), OptimConfig(weight_decay=0.1), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(student(torch.randn(2, 3, 32, 32)).logits, torch.zeros(2, 32, 32, dtype=torch.long)).backward()
        optimizer.step()
    first = student.classifiers[0]
    assert first.weight.grad[1:].abs().max() > 0 and first.bias.grad[1:].abs().max() > 0
    assert torch.count_nonzero(first.weight[0]) == torch.count_nonzero(first.bias[0]) == 0


def test_a_class_is_seen_where_its_sigmoid_is_the_largest_and_above_a_half():
    dkd = make("DKD", step=0)
    network = small_network(branches=1, classes_per_head=(4,)).eval()
    dkd.shape(network, None)
    dkd.initialise(network, None)
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        network.classifiers[0].bias[1:] -= network(images).logits[:, 1:].mean((0, 2, 3))
        logits = network(images).logits
    sure, best = logits[:, 1:].sigmoid().max(1)
    assert torch.equal(logits.argmax(1), torch.where(sure > 0.5, best + 1, 0)) and 0 < (sure > 0.5).double().mean() < 1


@pytest.mark.parametrize(
    ("step", "options", "frozen"), [(0, {}, False), (1, {}, True), (1, {"freeze_norms": False}, False)]
)
def test_norms_stay_as_they_are_in_later_steps(step: int, options: dict, frozen: bool):
    _, student = at_step(step, **options)
    norms = [module for module in student.train().modules() if isinstance(module, Norm)]
    assert norms and all(norm.frozen == frozen and norm.training != frozen for norm in norms)
    assert all(parameter.requires_grad != frozen for norm in norms for parameter in norm.parameters())
    assert student.head.reduce.weight.requires_grad


@pytest.mark.parametrize("step", [0, 1])
def test_rates_and_decays_by_part(step: int):
    dkd, student = at_step(step, head_rate=3.0, classifier_rate=7.0)
    found = {name: (group.rate, group.decay) for name, group in dkd.groups(student).items()}
    old = 0.0 if step else 1.0
    slow = {"body": (1.0, old), "head": (3.0, old), "old_classifiers": (3.0, old), "method": (3.0, old)}
    assert found == slow | {"classifiers": (7.0, 1.0)}


def test_a_start_from_the_background_is_refused():
    with pytest.raises(UserError, match="--init_balanced True: leave it out"):
        make("DKD", init_balanced=True)
