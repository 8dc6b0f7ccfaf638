"""LWF, LWF-MC, ILT, MiB and PLOP: their whole objectives are those of METHODS, and any may distil features."""

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from methods import METHODS
from methods.base import Method
from methods.features import feature_preset
from methods.pseudo import medians
from segmentation_module import SegOutput
from tasks import Task
from tests.helpers import task_of
from tests.methods import spec_losses as spec
from tests.methods.outputs import FEATURES, labels, output

NUM_OLD, NUM_SEEN = 16, 17


def make(name: str, task: Task, step: int, **options: object) -> Method:
    """The method with the preset of the task's data set, as argparser makes it."""
    cls = METHODS[name]
    pod = options.get("pod", cls.Config().pod)
    published = feature_preset(pod, task.dataset, task.name) | cls.preset(task.dataset, task)
    preset = {name: value for name, value in published.items() if name in {spec.name for spec in fields(cls.Config)}}
    return cls(cls.Config(**preset | options), task, step)


def voc(name: str, step: int = 1, **options: object) -> Method:
    return make(name, task_of("voc", "15-1"), step, **options)


def outputs() -> tuple[SegOutput, SegOutput, Tensor]:
    return output(NUM_SEEN, seed=2), output(NUM_OLD, seed=1), labels(NUM_SEEN)


def check(losses: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert float(value) == pytest.approx(expected[name], rel=rel), name


def local_pod(student: SegOutput, teacher: SegOutput, usual: float, last: float, num_old: int = NUM_OLD) -> float:
    """METHODS 9c without the factor sqrt(C/N); the stages before their leaky ReLU."""

    def before(x: Tensor) -> Tensor:
        return torch.where(x < 0, x / 0.01, x)

    total = 0.0
    for name in FEATURES:
        old, new = teacher.features[name], student.features[name]
        if name.startswith("layer"):
            old, new = before(old), before(new)
        total += usual * spec.local_pod(old, new)
    small = spec.folded(student.features["logits_small"], num_old)
    return (total + last * spec.local_pod(teacher.features["logits_small"], small)) / 6


@pytest.mark.parametrize("exact", [False, True])
def test_lwf(exact: bool):
    student, teacher, y = outputs()
    kd = 100 * spec.distillation(student.logits, teacher.logits) * (NUM_OLD if exact else 1)
    expected = {"ce": spec.cross_entropy(student.logits, y), "kd": kd}
    check(voc("LWF", paper_exact=exact).losses(student, teacher, y), expected)


def test_ilt():
    student, teacher, y = outputs()
    difference = (student.features["layer4"] - teacher.features["layer4"]).square().mean()
    expected = {
        "ce": spec.cross_entropy(student.logits, y),
        "kd": 100 * spec.distillation(student.logits, teacher.logits),
        "de": 100 * float(difference),
    }
    check(voc("ILT").losses(student, teacher, y), expected)


def test_lwf_mc():
    student, teacher, y = outputs()
    bce = spec.binary_cross_entropy(student.logits, y)
    kd = 10 * spec.binary_distillation(student.logits, teacher.logits)
    check(voc("LWF-MC").losses(student, teacher, y), {"bce": bce, "kd": kd})
    for options in ({"paper_exact": True}, {"icarl_disjoint": True}, {"icarl_disjoint": True, "icarl_bkg": True}):
        background = options.get("icarl_bkg", False)
        one = spec.disjoint_binary_cross_entropy(student.logits, teacher.logits, y, true_background=background)
        check(voc("LWF-MC", **options).losses(student, teacher, y), {"bce": one})


@pytest.mark.parametrize("exact", [False, True])
def test_mib(exact: bool):
    student, teacher, y = outputs()
    kd = 10 * spec.unbiased_distillation(student.logits, teacher.logits) * (NUM_OLD if exact else 1)
    expected = {"ce": spec.unbiased_cross_entropy(student.logits, y, NUM_OLD), "kd": kd}
    check(voc("MiB", paper_exact=exact).losses(student, teacher, y), expected)


def test_mib_where_domains_arrive_is_plain():
    student, teacher, y = output(19, seed=2), output(19, seed=1), labels(19)
    expected = {
        "ce": spec.cross_entropy(student.logits, y),
        "kd": 10 * spec.distillation(student.logits, teacher.logits),
    }
    check(make("MiB", task_of("cityscapes_domain", "1-1"), 1).losses(student, teacher, y), expected)


def judged(teacher: Tensor, num_seen: int, *, exact: bool) -> list[tuple[float, int]]:
    """Uncertainty and class of each pixel."""
    seen = []
    for logits in spec.pixels(teacher):
        q = [math.exp(value - spec.log_sum_exp(logits)) for value in logits]
        if exact:
            value = -sum(p * math.log(p) for p in q) / math.log(len(q))
        else:
            value = -sum(p * math.log(p + 1e-8) for p in q) / len(q) / math.log(len(q)) / math.log(num_seen)
        seen.append((value, q.index(max(q))))
    return seen


class Talker:
    """A teacher that answers with given logits, batch after batch."""

    def __init__(self, answers: list[Tensor]) -> None:
        self.answers = list(answers)

    def __call__(self, images: Tensor) -> SegOutput:
        return SegOutput(self.answers.pop(0), {})


@pytest.mark.parametrize("exact", [False, True])
def test_plop(exact: bool):
    plop = voc("PLOP", paper_exact=exact)
    assert plop.scans and plop.needs_teacher
    student, teacher, y = outputs()
    y = torch.where(y < NUM_OLD, 0, y)
    scanned = [3 * output(NUM_OLD, seed=seed).logits for seed in (3, 4)]
    plop.scan(Talker(scanned), [(torch.zeros(2, 3, 12, 8), y)] * 2)
    # The bounds, from a list of all values of all background pixels.
    counts = torch.zeros(NUM_OLD, 100, dtype=torch.int64)
    for logits in scanned:
        for (value, label), known in zip(judged(logits, NUM_SEEN, exact=exact), y.flatten().tolist(), strict=True):
            if known == 0:
                counts[label, min(int(100 * value), 99)] += 1
    middles = medians(counts, exact=exact)
    bounds = [0.001 if math.isnan(middle) else max(middle, 0.001) for middle in middles]
    assert plop.bounds.tolist() == pytest.approx(bounds)
    # Labels and factors, pixel by pixel.
    relabelled, factors = y.clone(), []
    values = iter(judged(3 * teacher.logits, NUM_SEEN, exact=exact))
    for image in relabelled:
        taken, background = 0, 0
        for place, label in enumerate(image.flatten().tolist()):
            value, guess = next(values)
            if label < NUM_OLD:
                background += 1
                sure = value < bounds[guess]
                taken += sure
                image.view(-1)[place] = guess if sure else 255
        factors.append(taken / (background + 1e-6))
    assert 0 < factors[0] < 1
    sharp = SegOutput(3 * teacher.logits, teacher.features)
    expected = {
        "ce": spec.adaptive_cross_entropy(student.logits, relabelled, factors),
        "pod": math.sqrt(17) * local_pod(student, teacher, 0.01, 0.0005),
    }
    check(plop.losses(student, sharp, y), expected, rel=1e-6)  # the share of an image is in float32
    assert not torch.equal(y, relabelled)  # the caller's labels stay


def test_plop_keeps_its_bounds_when_a_step_is_cut_off():
    plop, other = voc("PLOP"), voc("PLOP")
    plop.scan(Talker([output(NUM_OLD, seed=3).logits]), [(torch.zeros(2, 3, 12, 8), labels(NUM_SEEN))])
    other.load(plop.state(finished=False))
    assert torch.equal(plop.bounds, other.bounds) and plop.state(finished=True) == {}


def test_plop_has_other_rules_for_pseudo_labels():
    student, teacher, y = outputs()
    naive = voc("PLOP", pseudo="naive", pod="none", classif_adaptive_factor=False)
    taught = torch.where(y < NUM_OLD, teacher.logits.argmax(1), y)
    assert not naive.scans
    check(naive.losses(student, teacher, y), {"ce": spec.cross_entropy(student.logits, taught)})
    none = voc("PLOP", pseudo="none", pod="none")
    check(none.losses(student, teacher, y), {"ce": spec.cross_entropy(student.logits, y)})
    median = voc("PLOP", pseudo="median", threshold=0.3, step_threshold=0.1)
    median.scan(Talker([teacher.logits]), [(torch.zeros(2, 3, 12, 8), torch.zeros_like(y))])
    assert float(median.bounds.max()) <= 0.4 + 1e-6  # of step 1
    sure = teacher.logits.softmax(1).max(1).values > median.bounds[teacher.logits.argmax(1)]
    assert torch.equal(median._sure(*median._judged(teacher.logits)), sure)


def test_where_domains_arrive_plop_only_holds_the_features():
    student, teacher, y = output(19, seed=2), output(19, seed=1), labels(19)
    plop = make("PLOP", task_of("cityscapes_domain", "1-1"), 1)
    assert not plop.scans and not plop.config.init_balanced
    expected = {
        "ce": spec.cross_entropy(student.logits, y),
        "pod": local_pod(student, teacher, 1e-4, 1e-3, num_old=19),
    }
    check(plop.losses(student, teacher, y), expected)


@pytest.mark.parametrize(
    ("dataset", "task", "factors"),
    [
        ("voc", "15-1", (0.01, 0.0005)),
        ("ade", "100-50", (1e-3, 1e-5)),
        ("cityscapes_domain", "11-1", (1e-4, 1e-4)),
        ("cityscapes_domain", "1-1", (1e-4, 1e-3)),
    ],
)
def test_the_factors_of_local_pod(dataset: str, task: str, factors: tuple[float, float]):
    config = make("PLOP", task_of(dataset, task), 1).config
    assert (config.pod_factor, config.pod_logits_factor) == factors


@pytest.mark.parametrize("name", METHODS)
def test_step_0_needs_no_teacher(name: str):
    student, y = output(NUM_OLD, seed=2), labels(NUM_OLD)
    expected = {"ce": spec.cross_entropy(student.logits, y)}
    if name == "LWF-MC":
        expected = {"bce": spec.binary_cross_entropy(student.logits, y)}
    check(voc(name, 0).losses(student, None, y), expected)


@pytest.mark.parametrize("pod", ["cube", "local", "none"])
@pytest.mark.parametrize("name", METHODS)
def test_any_method_may_distil_features(name: str, pod: str):
    student, teacher, y = outputs()
    options = {"pseudo": "naive"} if name == "PLOP" else {}
    method = voc(name, pod=pod, **options)
    losses = method.losses(student, teacher, y)
    terms = {"cube": {"cube_spatial", "cube_channel"}, "local": {"pod"}, "none": set()}[pod]
    assert losses.keys() & {"cube_spatial", "cube_channel", "pod"} == terms
    assert method.needs_teacher or pod == "none"
    if pod == "local":
        assert float(losses["pod"]) == pytest.approx(math.sqrt(17) * local_pod(student, teacher, 0.01, 0.0005))
        without = voc(
            name, pod=pod, no_pod_schedule=True, pod_logits=False, **({"pseudo": "naive"} if name == "PLOP" else {})
        )
        pods = without.losses(student, teacher, y)["pod"]
        small = 0.0005 * spec.local_pod(
            teacher.features["logits_small"], spec.folded(student.features["logits_small"], NUM_OLD)
        )
        assert float(pods) == pytest.approx((6 * local_pod(student, teacher, 0.01, 0.0005) - small) / 5)
