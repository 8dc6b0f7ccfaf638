"""STAR against loops over pixels, features and classes (METHODS2 19)."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from methods import prototypes
from methods.base import Batch, Method
from methods.prototypes import Classes
from segmentation_module import SegmentationNet, SegOutput, build_student
from tests.helpers import run_processes, small_network
from tests.methods import spec_losses as spec
from tests.methods.outputs import batch, make
from tests.methods.spec_losses import IGNORED, binary
from utils.errors import UserError

OLD, SEEN, CHANNELS, BLOCK = 16, 18, 5, 8
HEIGHT, WIDTH = 3, 4


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seen_by(num_classes: int, *, seed: int) -> SegOutput:
    """A network's output for two images, from random features; the teacher's logits are often above 0.5."""
    features = random(2, CHANNELS, HEIGHT, WIDTH, seed=seed)
    weight, bias = random(num_classes, CHANNELS, 1, 1, seed=seed + 1), random(num_classes, seed=seed + 2) - 3.5
    weight[0], bias[0] = 0, 0
    small = F.conv2d(features, weight, bias)
    logits = F.interpolate(small, scale_factor=BLOCK, mode="bilinear")
    return SegOutput(logits, {"pre_logits": features, "logits_small": small}, weight, bias)


def labels() -> Tensor:
    """Background, both new classes and ignored pixels in patches; half is background."""
    kinds = torch.tensor([0, OLD, 0, SEEN - 1, 0, IGNORED])
    picks = torch.randint(6, (2, 6, 8), generator=torch.Generator().manual_seed(7))
    return kinds[picks].repeat_interleave(4, 1).repeat_interleave(4, 2)


def at_step(number: int = 1, scenario: str = "disjoint", **options: object) -> tuple[Method, SegmentationNet]:
    """STAR of task 15-2 (classes 17 and 18 come at once), or of its step 0, and its student."""
    star = make("STAR", task="15-5", step=number, **options)
    task = replace(star.step.task, arrivals=(tuple(range(16)), (16, 17)), scenario=scenario)
    star = type(star)(star.config, task.step(number))
    first = small_network(branches=1, classes_per_head=(OLD,), head_channels=CHANNELS)
    student = build_student(first, new_classes=2) if number else first
    star.shape(student, first if number else None)
    return star, student


def remember_(star: Method) -> Classes:
    """Give it random memories of the old classes, of which one had no feature."""
    with torch.no_grad():
        star.prototypes[:15] = F.normalize(random(15, CHANNELS, seed=20), dim=1)
        star.prototypes[3] = 0
        star.deviations[:15], star.norm_mean[:15] = 0.1, random(15, seed=21).abs()
        star.norm_std[:15] = 0.2
    return star.known


def teacher_sees(teacher: SegOutput) -> list:
    """yhat, pixel by pixel."""
    sees = []
    for q in spec.pixels(teacher.logits):
        best = max(range(1, len(q)), key=lambda c: q[c])
        sees.append(best if q[best] > 0.5 else 0)
    return torch.tensor(sees).view(teacher.logits.shape[0], *teacher.logits.shape[2:])


def centres() -> list[tuple[int, int, int]]:
    return [(b, i, j) for b in range(2) for i in range(HEIGHT) for j in range(WIDTH)]


def pixel(maps: Tensor, place: tuple[int, int, int]) -> int:
    b, i, j = place
    return int(maps[b, BLOCK // 2 + BLOCK * i, BLOCK // 2 + BLOCK * j])


def test_pixels_at_the_centres_are_those_of_the_grid():
    maps = torch.arange(2 * 512 * 512).view(2, 512, 512)
    assert torch.equal(prototypes.at_centres(maps, torch.empty(2, 1, 32, 32)), maps[:, 8::16, 8::16])


def test_the_teacher_sees_a_class_above_a_logit_of_a_half():
    teacher = seen_by(OLD, seed=2)
    expected = teacher_sees(teacher)
    assert torch.equal(prototypes.seen_classes(teacher.logits), expected)
    between = (teacher.logits[:, 1:].amax(1) > 0) & (expected == 0)
    assert between.any() and (expected > 0).any()


@pytest.mark.parametrize("factor", [0.0, 0.7])
def test_the_mixture(factor: float):
    """With features that are not random: drawn from memories without deviation."""
    star, _ = at_step(pos_weight=4.0)
    star.double()
    known = remember_(star)
    star.deviations.zero_(), star.norm_std.zero_()
    star.set_extra_state({"replay": [0, 2, *[0] * 12, 3], "background": factor})
    student, teacher, y = seen_by(SEEN, seed=11), seen_by(OLD, seed=2), labels()
    places = 2 * HEIGHT * WIDTH
    fake = []
    for old, count in ((1, 2), (14, 3)):
        for new in range(OLD, SEEN):
            feature = known.prototypes[old] * known.norm_mean[old]
            fake += [binary(float(student.weight[new, :, 0, 0] @ feature + student.bias[new]), 0.0)] * count
    sees, of_background = teacher_sees(teacher), []
    for b, i, j in centres():
        if pixel(sees, (b, i, j)) == 0 == pixel(y, (b, i, j)):
            of_background.append(
                sum(binary(float(student.features["logits_small"][b, c, i, j]), 0.0) for c in (16, 17))
            )
    assert len(of_background) > 1
    v_f, v_b = 5 / places, factor * len(of_background) / places
    labelled = spec.foreground_binary_cross_entropy(student.logits, y, OLD, 4.0)
    expected = labelled + v_f * sum(fake) / 5 + v_b * sum(of_background) / len(of_background)
    mixed = star.losses(batch(y), student, teacher)["mix"]
    assert float(mixed) == pytest.approx(expected / (1 + v_f + v_b), rel=1e-9)
    alone, _ = at_step(pos_weight=4.0, star_replay=False)
    assert float(alone.double().losses(batch(y), student, teacher)["mix"]) == pytest.approx(labelled)


def test_features_are_held_where_the_teacher_sees_an_old_class():
    star, _ = at_step(star_pkd=3.0)
    student, teacher, y = seen_by(SEEN, seed=11), seen_by(OLD, seed=2), labels()
    sees = teacher_sees(teacher)
    mask = ((y == 0) & (sees > 0)).double()
    mask = F.interpolate(mask[:, None], size=(HEIGHT, WIDTH), mode="bilinear")[:, 0]
    assert 0 < mask[mask > 0].min() < 1
    total = 0.0
    for b, i, j in centres():
        difference = student.features["pre_logits"][b, :, i, j] - teacher.features["pre_logits"][b, :, i, j]
        total += float(mask[b, i, j] * (difference**2).sum())
    expected = 3 * total / (CHANNELS * float(mask.sum()))
    assert float(star.double().losses(batch(y), student, teacher)["pkd"]) == pytest.approx(expected, rel=1e-9)


def test_new_classes_keep_away_from_old_ones():
    star, _ = at_step(star_cont=2.0)
    known = remember_(star.double())
    student, teacher, y = seen_by(SEEN, seed=11), seen_by(OLD, seed=2), labels()
    total = 0.0
    for k in (OLD, SEEN - 1):
        share = F.interpolate((y == k).double()[:, None], size=(HEIGHT, WIDTH), mode="bilinear")[:, 0]
        sums = torch.zeros(CHANNELS, dtype=torch.float64)
        for b, i, j in centres():
            feature = student.features["pre_logits"][b, :, i, j]
            sums += share[b, i, j] * feature / math.sqrt(float((feature**2).sum()))
        mean = sums / sums.norm()
        total += 1 / min(float((mean - known.prototypes[old]).norm()) for old in range(15) if old != 3)
    assert float(star.losses(batch(y), student, teacher)["cont"]) == pytest.approx(2 * total / 2, rel=1e-9)


def test_a_class_without_a_prototype_is_near_to_nothing():
    direction = F.normalize(random(CHANNELS, seed=4), dim=0)
    features, y = direction[None, :, None, None].expand(2, -1, 2, 2), torch.full((2, 8, 8), OLD)
    known = torch.stack([torch.zeros_like(direction), -direction])
    assert float(prototypes.contrast(features, y, range(OLD, OLD + 1), known)) == pytest.approx(1 / 2)
    assert float(prototypes.contrast(features, y, range(OLD, OLD + 1), known[:1])) == 0


@pytest.mark.parametrize("name", ["contrast", "masked_distillation"])
def test_gradients(name: str):
    known = F.normalize(random(3, CHANNELS, seed=5), dim=1)
    student = random(2, CHANNELS, 2, 2, seed=6).requires_grad_()
    for y in (labels()[:, :8, :8], torch.zeros(2, 8, 8, dtype=torch.long)):
        functions = {
            "contrast": lambda f, y=y: prototypes.contrast(f, y, range(OLD, SEEN), known),
            "masked_distillation": lambda f, y=y: prototypes.masked_distillation(
                f, 0 * f.detach(), prototypes.resized(y == OLD, f)
            ),
        }
        assert torch.autograd.gradcheck(functions[name], student)


def test_half_precision_takes_nothing_from_a_loss():
    f, y = random(2, CHANNELS, HEIGHT, WIDTH, seed=6).bfloat16(), labels()
    known = F.normalize(random(3, CHANNELS, seed=5), dim=1).float()
    mask = prototypes.resized(y == OLD, f.float())
    for loss in (
        lambda f: prototypes.contrast(f, y, range(OLD, SEEN), known),
        lambda f: prototypes.masked_distillation(f, f / 2, mask),
    ):
        assert loss(f).dtype == torch.float32 and torch.equal(loss(f), loss(f.float()))


@pytest.mark.parametrize("kind", [0, IGNORED, SEEN - 1])
def test_one_image_of_one_kind_has_finite_losses_and_gradients(kind: int):
    star, student = at_step()
    teacher = small_network(branches=1, classes_per_head=(OLD,), head_channels=CHANNELS).for_inference()
    image = torch.randn(1, 3, 32, 32)
    for remembers in (False, True):
        if remembers:
            remember_(star)
            star.set_extra_state({"replay": [4] * 15, "background": 2.0})
        terms = star.losses(batch(torch.full((1, 32, 32), kind)), student(image), teacher(image))
        sum(terms.values()).backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)
    assert kind == SEEN - 1 or float(terms["cont"].detach()) == pytest.approx(0.05)


def test_drawn_features_have_the_directions_and_norms_that_were_remembered():
    torch.manual_seed(0)
    known = Classes(
        F.normalize(random(2, 3, seed=1), dim=1),
        random(2, 3, seed=2).abs() / 9,
        torch.tensor([5.0, 9.0]).double(),
        torch.tensor([0.5, 0.0]).double(),
    )
    classes = torch.tensor([0, 1]).repeat_interleave(20000)
    drawn = prototypes.draw(known, classes, exact=False).view(2, 20000, 3)
    assert_close(drawn.mean(1), known.prototypes * known.norm_mean[:, None], atol=0.03, rtol=0)
    # Of a product of two that are independent: a norm for each channel.
    mean, std = known.norm_mean[:, None], known.norm_std[:, None]
    variance = (known.deviations**2 + known.prototypes**2) * (mean**2 + std**2) - (known.prototypes * mean) ** 2
    assert_close(drawn.std(1), variance.sqrt(), atol=0.0, rtol=0.03)
    of_one = torch.corrcoef(drawn[0].T)
    assert (of_one - torch.eye(3)).abs().max() < 0.03
    norms = prototypes.draw(known, classes, exact=True).view(2, 20000, 3).norm(dim=2)
    assert_close(norms.mean(1), known.norm_mean, atol=0.02, rtol=0)
    assert_close(norms.std(1), known.norm_std, atol=0.02, rtol=0)


@pytest.mark.parametrize("overlapped", [True, False])
def test_how_much_is_replayed(overlapped: bool):
    """METHODS2 19, point 5, (iii)."""
    prev, pred, new, iterations = [1000.0, 90.0, 10.0, 50.0], [400, 30, 20, 0], [70, 80], 7
    found = prototypes.plan(prev, pred, new, iterations=iterations, overlapped=overlapped)
    if overlapped:
        past = 1000 * (1 - 0.01 * 2)
        expected = ([int(60 / 7), 0, int(50 / 7)], past / 400 - 0.5, [0.5 * 400 + past, 90, 10, 50, 70, 80])
    else:
        expected = ([int(90 / 7), int(10 / 7), int(50 / 7)], 1000 / 400, [1400, 120, 30, 50, 70, 80])
    assert (found.replay, found.counts) == (expected[0], pytest.approx(expected[2]))
    assert found.background == pytest.approx(expected[1])
    assert prototypes.plan(prev, [0, 0, 0, 0], new, iterations=1, overlapped=overlapped).background == 0


def test_what_is_remembered_is_that_of_two_passes():
    features, y = (
        random(4, CHANNELS, 3, 3, seed=9),
        torch.randint(4, (4, 3, 3), generator=torch.Generator().manual_seed(1)),
    )
    y[y == 2] = IGNORED
    y[0, 0, 0] = 2  # the only feature of its class
    sums = sum(prototypes.sums_by_class(f[None], own[None], 5) for f, own in zip(features, y, strict=True))
    found = prototypes.classes_of(sums)
    for label in range(4):
        own = [features[b, :, i, j] for b, i, j in (y == label).nonzero().tolist()]
        norms = torch.stack([feature.norm() for feature in own])
        directions = [feature / feature.norm() for feature in own]
        prototype = sum(directions) / sum(directions).norm()
        squares = sum((direction - prototype) ** 2 for direction in directions) / len(own)
        std = norms.std() if len(own) > 1 else norms.new_zeros(())
        expected = (prototype, squares.sqrt(), norms.mean(), std)
        for name, value, of_it in zip(Classes._fields, expected, found, strict=True):
            assert_close(of_it[label], value, msg=f"{name} of {label}", atol=1e-7, rtol=1e-7)
    assert all(torch.count_nonzero(of_it[4]) == 0 for of_it in found)


def batches(rank: int = 0, world_size: int = 1) -> list[Batch]:
    """Two batches of four images, of which a process has its share."""
    kinds = torch.tensor([0, 1, 2, OLD, SEEN - 1, IGNORED])
    generator = torch.Generator().manual_seed(5)
    made = []
    for _ in range(2):
        images = torch.randn(4, 3, 64, 64, generator=generator)
        y = kinds[torch.randint(6, (4, 4, 4), generator=generator)].repeat_interleave(16, 1).repeat_interleave(16, 2)
        made.append(Batch(images[rank::world_size], y[rank::world_size]))
    return made


def found_by(rank: int, folder: Path) -> dict[str, dict[str, Tensor]]:
    """What STAR keeps of both steps, of which a process sees its share of images."""
    found, state = {}, {}
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    own = batches(rank, world_size)
    for number in (0, 1):
        torch.manual_seed(0)
        star, student = at_step(number, "overlapped")
        teacher = None
        if number:
            star.inherit(state)
            torch.manual_seed(0)
            teacher = small_network(branches=1, classes_per_head=(OLD,), head_channels=CHANNELS).for_inference()
            largest = teacher(batches()[0].images).logits[:, 1:].amax(1)
            teacher.classifiers[0].bias += 0.501 - largest.median()  # it sees classes at half of the pixels
        star.before(student.train(), teacher, iter(own))
        star.finish(student, None, iter(own))
        assert student.training
        state = star.state_dict()
        extra = state.pop("_extra_state")
        found[str(number)] = state | {"replay": torch.tensor([*extra["replay"], extra["background"]])}
    return found


def test_what_is_counted_and_remembered():
    found = found_by(0, Path())
    first, later = found["0"], found["1"]
    grid = torch.cat([y[:, 8::16, 8::16].flatten() for _, y, *_ in batches()])
    assert first["counts"].tolist() == [int((grid == label).sum()) for label in range(OLD)]
    assert later["counts"][1:].tolist() == [*first["counts"][1:].tolist(), *(int((grid == c).sum()) for c in (16, 17))]
    for name in Classes._fields:
        assert torch.equal(later[name][:15], first[name]) and torch.count_nonzero(later[name][15:])
    assert first["prototypes"].norm(dim=1)[:4].tolist() == pytest.approx([1, 1, 0, 0])
    assert later["replay"][-1] > 0 and later["replay"][:2].sum() > 0
    torch.manual_seed(0)
    student = small_network(branches=1, classes_per_head=(OLD,), head_channels=CHANNELS).eval()
    own = []
    with torch.no_grad():
        for images, y, *_ in batches():
            own.append(student(images).features["pre_logits"].movedim(1, -1)[y[:, 8::16, 8::16] == 2])
    directions = F.normalize(torch.cat(own), dim=1)
    assert_close(first["prototypes"][1], F.normalize(directions.sum(0), dim=0))


def test_two_processes_count_and_remember_what_one_does(tmp_path: Path):
    one, two = found_by(0, tmp_path), run_processes(found_by, tmp_path)
    for of_process in two:
        assert_close(of_process, one, rtol=1e-5, atol=1e-6)


def test_it_cannot_start_from_a_step_that_left_no_prototypes():
    star, _ = at_step()
    with pytest.raises(UserError, match="step 0 holds no prototypes, which --method STAR needs"):
        star.inherit({})


def test_a_resumed_step_replays_as_before():
    star, _ = at_step()
    remember_(star)
    star.set_extra_state({"replay": list(range(15)), "background": 1.25})
    other, _ = at_step()
    assert not len(other._drawn_classes(torch.device("cpu")))
    other.load_state_dict(star.state_dict())
    assert (other.replay, other.background) == (star.replay, 1.25)
    drawn = other._drawn_classes(torch.device("cpu"))
    assert torch.equal(drawn.bincount(minlength=15), torch.arange(15))


def test_each_term_can_be_left_out():
    student, teacher, y = seen_by(SEEN, seed=11), seen_by(OLD, seed=2), labels()
    for option in ("star_pkd", "star_cont"):
        star, _ = at_step(**{option: 0.0})
        terms = star.double().losses(batch(y), student, teacher)
        assert {"mix", "pkd", "cont"} - terms.keys() == {option.removeprefix("star_")}
    star, _ = at_step(0)
    assert star.double().losses(batch(y.where(y < 16, 0)), seen_by(OLD, seed=2), None).keys() == {"bce"}


def test_the_new_classifier_learns_a_hundred_times_as_fast_as_the_body():
    star, student = at_step()
    groups = star.groups(student)
    rates = {name: group.rate for name, group in groups.items()}
    assert (rates["body"], rates["head"], rates["old_classifiers"], rates["classifiers"]) == (1, 10, 10, 100)
    assert all(group.decay == 1 for group in groups.values())
