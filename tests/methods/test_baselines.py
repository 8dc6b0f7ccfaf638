"""FT, LWF, LWF-MC, ILT, MiB and PLOP: their objectives are those of METHODS, and any method may distil features."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from argparser import parse
from methods import METHODS
from methods.pseudo import medians
from segmentation_module import SegOutput
from tests.methods import spec_losses as spec
from tests.methods.outputs import FEATURES, batch, check, labels, make, output

NUM_OLD, NUM_SEEN = 16, 17
DOMAINS = ("cityscapes_domain", "1-1")


def outputs(num_old: int = NUM_OLD, num_seen: int = NUM_SEEN) -> tuple[SegOutput, SegOutput, Tensor]:
    return output(num_seen, seed=2), output(num_old, seed=1), labels(num_seen)


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


def test_ft_looks_at_nothing_but_the_new_labels():
    student, _, y = outputs()
    ft = make("FT")
    check(ft(batch(y), student, None), {"ce": spec.cross_entropy(student.logits, y)})
    assert not ft.needs_teacher and make("FT", pod="cube").needs_teacher


@pytest.mark.parametrize("exact", [False, True])
def test_lwf_and_mib(exact: bool):
    """`paper_exact`: the distillation is a sum over the classes, not their mean."""
    student, teacher, y = outputs()
    times = NUM_OLD if exact else 1
    kd = 100 * spec.distillation(student.logits, teacher.logits) * times
    expected = {"ce": spec.cross_entropy(student.logits, y), "kd": kd}
    check(make("LWF", paper_exact=exact)(batch(y), student, teacher), expected)
    kd = 10 * spec.unbiased_distillation(student.logits, teacher.logits) * times
    expected = {"ce": spec.unbiased_cross_entropy(student.logits, y, NUM_OLD), "kd": kd}
    check(make("MiB", paper_exact=exact)(batch(y), student, teacher), expected)


def test_mib_where_domains_arrive_is_plain():
    student, teacher, y = outputs(19, 19)
    kd = 10 * spec.distillation(student.logits, teacher.logits)
    expected = {"ce": spec.cross_entropy(student.logits, y), "kd": kd}
    check(make("MiB", *DOMAINS)(batch(y), student, teacher), expected)


def test_ilt():
    student, teacher, y = outputs()
    difference = (student.features["layer4"] - teacher.features["layer4"]).square().mean()
    expected = {
        "ce": spec.cross_entropy(student.logits, y),
        "kd": 100 * spec.distillation(student.logits, teacher.logits),
        "de": 100 * float(difference),
    }
    check(make("ILT")(batch(y), student, teacher), expected)


def test_lwf_mc():
    student, teacher, y = outputs()
    bce = spec.binary_cross_entropy(student.logits, y)
    kd = 10 * spec.binary_distillation(student.logits, teacher.logits)
    check(make("LWF-MC")(batch(y), student, teacher), {"bce": bce, "kd": kd})
    for options in ({"paper_exact": True}, {"icarl_disjoint": True}, {"icarl_disjoint": True, "icarl_bkg": True}):
        background = options.get("icarl_bkg", False)
        one = spec.disjoint_binary_cross_entropy(student.logits, teacher.logits, y, true_background=background)
        check(make("LWF-MC", **options)(batch(y), student, teacher), {"bce": one})


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


def relabelled(y: Tensor, judgements: list[tuple[float, int]], sure: Callable[[float, int], bool]) -> Tensor:
    """`y` with the background replaced by the class that the teacher is sure of, or ignored."""
    made = y.clone()
    for place, (label, (value, guess)) in enumerate(zip(y.flatten().tolist(), judgements, strict=True)):
        if label < NUM_OLD:
            made.view(-1)[place] = guess if sure(value, guess) else spec.IGNORED
    return made


@pytest.mark.parametrize("exact", [False, True])
def test_plop(exact: bool):
    plop = make("PLOP", paper_exact=exact)
    assert plop.needs_teacher
    student, teacher, y = outputs()
    y = torch.where(y < NUM_OLD, 0, y)
    shown = [3 * output(NUM_OLD, seed=seed).logits for seed in (3, 4)]
    plop.before(None, Talker(shown), [batch(y)] * 2)
    # The bounds, from a list of all values of all background pixels.
    counts = torch.zeros(NUM_OLD, 100, dtype=torch.int64)
    for logits in shown:
        for (value, label), known in zip(judged(logits, NUM_SEEN, exact=exact), y.flatten().tolist(), strict=True):
            if known == 0:
                counts[label, min(int(100 * value), 99)] += 1
    middles = medians(counts, exact=exact)
    bounds = [0.001 if math.isnan(middle) else max(middle, 0.001) for middle in middles]
    assert plop.bounds.tolist() == pytest.approx(bounds)
    # Labels and factors, pixel by pixel.
    judgements = judged(3 * teacher.logits, NUM_SEEN, exact=exact)
    taught = relabelled(y, judgements, lambda value, guess: value < bounds[guess])
    background = y < NUM_OLD
    factors = ((taught != spec.IGNORED) & background).sum((1, 2)) / (background.sum((1, 2)) + 1e-6)
    assert 0 < factors[0] < 1
    sharp = SegOutput(3 * teacher.logits, teacher.features)
    expected = {
        "ce": spec.adaptive_cross_entropy(student.logits, taught, factors.tolist()),
        "pod": math.sqrt(17) * local_pod(student, teacher, 0.01, 0.0005),
    }
    before = y.clone()
    check(plop(batch(y), student, sharp), expected, rel=1e-6)  # the share of an image is in float32
    assert torch.equal(y, before) and not torch.equal(y, taught)  # the caller's labels stay
    # A step that is resumed has the same bounds.
    other = make("PLOP", paper_exact=exact)
    other.load_state_dict(plop.state_dict())
    assert torch.equal(plop.bounds, other.bounds)


def test_plop_with_other_rules_for_pseudo_labels_weighs_all_images_alike():
    """As the public code: only `entropy` has the factor, and for `median` a class that the teacher never predicts in
    the look at the data has the bound 0, so that all its pixels count."""
    student, teacher, y = outputs()
    sharp = SegOutput(2 * teacher.logits, teacher.features)
    pixels = list(spec.pixels(sharp.logits))
    judgements = [(math.exp(max(q) - spec.log_sum_exp(q)), q.index(max(q))) for q in pixels]
    shown = sharp.logits.clone()
    shown[:, 5] = -50.0
    median = make("PLOP", pseudo="median", threshold=0.3, pod="none")
    median.before(None, Talker([shown]), [batch(torch.zeros_like(y))])
    bounds = median.bounds.tolist()
    assert bounds[5] == 0
    assert sum(guess == 5 for _, guess in judgements) > 2 and any(v <= bounds[guess] for v, guess in judgements)
    naive, none = make("PLOP", pseudo="naive", pod="none"), make("PLOP", pseudo="none", pod="none")
    for plop, sure in ((median, lambda value, guess: value > bounds[guess]), (naive, lambda value, guess: True)):
        assert plop.config.classif_adaptive_factor
        taught = relabelled(y, judgements, sure)
        check(plop(batch(y), student, sharp), {"ce": spec.cross_entropy(student.logits, taught)})
    check(none(batch(y), student, sharp), {"ce": spec.cross_entropy(student.logits, y)})


def test_step_threshold_is_taken_with_a_note_and_changes_nothing():
    line = ["--method", "PLOP", "--pseudo", "median", "--threshold", "0.3"]
    plain, with_it = parse(line), parse([*line, "--step_threshold", "0.1"])
    assert with_it.config == plain.config and plain.provenance.notes == []
    (note,) = with_it.provenance.notes
    assert note.startswith("--step_threshold has no effect")


def test_where_domains_arrive_plop_only_holds_the_features():
    student, teacher, y = outputs(19, 19)
    plop = make("PLOP", *DOMAINS)
    assert plop.state_dict() == {} and not plop.config.init_balanced
    pod = local_pod(student, teacher, 1e-4, 1e-3, num_old=19)
    check(plop(batch(y), student, teacher), {"ce": spec.cross_entropy(student.logits, y), "pod": pod})


WITHOUT_LAYERS = [name for name in METHODS if name.removesuffix("-M") not in ("DKD", "STAR", "SSUL", "SDR")]
"""Methods that compute their losses without layers, prototypes or outputs of their own."""


def test_step_0_needs_no_teacher():
    student, y = output(NUM_OLD, seed=2), labels(NUM_OLD)
    for name in WITHOUT_LAYERS:
        expected = {"ce": spec.cross_entropy(student.logits, y)}
        if name == "LWF-MC":
            expected = {"bce": spec.binary_cross_entropy(student.logits, y)}
        if name == "CFSSeg":
            expected = {"bce": spec.valid_binary_cross_entropy(student.logits, y)}
        check(make(name, step=0)(batch(y), student, None), expected)


@pytest.mark.parametrize("pod", ["cube", "local", "none"])
def test_any_method_may_distil_features(pod: str):
    student, teacher, y = outputs()
    terms = {"cube": {"cube_spatial", "cube_channel"}, "local": {"pod"}, "none": set()}[pod]
    whole = local_pod(student, teacher, 0.01, 0.0005)
    folded = spec.folded(student.features["logits_small"], NUM_OLD)
    small = 0.0005 * spec.local_pod(teacher.features["logits_small"], folded)
    for name in WITHOUT_LAYERS:
        options = {"pod": pod} | ({"pseudo": "naive"} if name == "PLOP" else {})
        method = make(name, **options)
        if not method.phases_of_step:
            continue
        losses = method(batch(y), student, teacher)
        assert losses.keys() & {"cube_spatial", "cube_channel", "pod"} == terms, name
        assert method.needs_teacher or pod == "none"
        if pod == "local":
            assert float(losses["pod"]) == pytest.approx(math.sqrt(17) * whole), name
            without = make(name, no_pod_schedule=True, pod_logits=False, **options)
            assert float(without(batch(y), student, teacher)["pod"]) == pytest.approx((6 * whole - small) / 5), name
