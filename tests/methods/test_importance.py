"""EWC, RW and PI on a model of two weights, against the formulas worked out number by number (METHODS 5 to 7)."""

import io
from itertools import pairwise

import pytest
import torch
from torch import nn

from methods import METHODS
from methods.importance import ImportanceMethod
from tests.helpers import task_of
from utils.errors import UserError

GRADIENTS = [(0.5, -2.0), (1.0, 0.3), (-0.2, 0.8)]
"""Of the losses, at three iterations."""
RATE = 0.1
CARRIED = {"fisher": (0.4, 3.0), "score": (0.2, 0.9), "path_score": (0.6, 0.1)}


class TwoWeights(nn.Module):
    """Weights (2,) that an old network has too, and (2,) that are new."""

    def __init__(self, old: tuple[float, float], new: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.old = nn.Parameter(torch.tensor(old, dtype=torch.float64))
        if new is not None:
            self.new = nn.Parameter(torch.tensor(new, dtype=torch.float64))


def begun(name: str, step: int, student: TwoWeights, **options: object) -> ImportanceMethod:
    """The method at the start of a step; step 1 comes after a network (1, 2) with CARRIED."""
    cls = METHODS[name]
    method = cls(cls.Config(**options), task_of("voc", "15-1"), step)
    previous = TwoWeights((1.0, 2.0)) if step else None
    carried = {entry: {"old": torch.tensor(values, dtype=torch.float64)} for entry, values in CARRIED.items()}
    method.begin(student, previous, carried if step else {})
    return method


def iterate(method: ImportanceMethod, student: TwoWeights, gradients: list = GRADIENTS) -> list[dict]:
    """Plain gradient descent with the penalty; what each iteration looked like: weights, gradient, full gradient."""
    seen = []
    for values in gradients:
        before = student.old.detach().clone()
        for parameter in student.parameters():
            parameter.grad = torch.tensor(values, dtype=torch.float64)
        penalties = method.after_backward(may_overflow=False)
        seen.append({"weights": before.tolist(), "grad": values, "full": student.old.grad.tolist(), **penalties})
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= RATE * parameter.grad
    return seen


def min_max(values) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low + 1e-8) for value in values]


OMEGAS = {
    "EWC": min_max(CARRIED["fisher"]),
    "RW": [f + s for f, s in zip(min_max(CARRIED["fisher"]), min_max(CARRIED["score"]), strict=True)],
    "PI": min_max(CARRIED["path_score"]),
}


@pytest.mark.parametrize("name", OMEGAS)
def test_the_penalty_and_its_gradient(name: str):
    student = TwoWeights((1.5, 1.8), (0.0, 0.0))
    method = begun(name, 1, student, reg_importance=7.0)
    for look in iterate(method, student):
        moved = [value - anchor for value, anchor in zip(look["weights"], (1.0, 2.0), strict=True)]
        terms = [omega * move**2 for omega, move in zip(OMEGAS[name], moved, strict=True)]
        assert float(look["penalty"]) == pytest.approx(7 * sum(terms))
        for full, own, omega, move in zip(look["full"], look["grad"], OMEGAS[name], moved, strict=True):
            assert full == pytest.approx(own + 2 * 7 * omega * move)
    # A weight that the old network had not is free.
    assert student.new.grad.tolist() == pytest.approx(GRADIENTS[-1])


@pytest.mark.parametrize("name", OMEGAS)
def test_step_0_has_no_penalty_and_leaves_what_step_1_needs(name: str):
    student = TwoWeights((1.5, 1.8))
    method = begun(name, 0, student)
    assert all("penalty" not in look and look["full"] == list(look["grad"]) for look in iterate(method, student))
    state = method.state(finished=True)
    assert set(method.carries) <= state.keys()
    following = METHODS[name](method.config, task_of("voc", "15-1"), 1)
    following.begin(TwoWeights((0.0, 0.0)), student, state)
    assert following.penalised == ["old"]


def test_importances_are_not_normalised_where_that_is_asked_for():
    student = TwoWeights((1.5, 1.8))
    method = begun("EWC", 1, student, reg_no_normalize=True)
    assert method.omegas[0].tolist() == list(CARRIED["fisher"])


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["EWC", "RW"])
def test_the_fisher_information(name: str, exact: bool):
    student = TwoWeights((1.5, 1.8), (0.0, 0.0))
    method = begun(name, 1, student, reg_importance=0.0, reg_alpha=0.6, paper_exact=exact)
    iterate(method, student)
    fisher = method.state(finished=True)["fisher"]
    for entry, start in (("old", CARRIED["fisher"]), ("new", (1.0, 1.0))):
        for position in range(2):
            value = start[position]
            for g in GRADIENTS:
                value = 0.6 * g[position] ** 2 + 0.4 * value
            if exact:
                value = sum(g[position] ** 2 for g in GRADIENTS) / 3
            assert float(fisher[entry][position]) == pytest.approx(value)


@pytest.mark.parametrize("every", [1, 2])
def test_the_score_of_rw(every: int):
    student = TwoWeights((1.5, 1.8))
    method = begun("RW", 1, student, reg_importance=3.0, reg_alpha=0.6, reg_iterations=every)
    looks = iterate(method, student)
    score = method.state(finished=True)["score"]["old"]
    for position in range(2):
        fisher, grown, snapshot = CARRIED["fisher"][position], 0.0, None
        for k, look in enumerate(looks):
            weight, g = look["weights"][position], look["grad"][position]
            if k % every == 0:
                if snapshot is not None:
                    grown += g * (snapshot - weight) / (0.5 * fisher * (weight - snapshot) ** 2 + 1e-8)
                snapshot = weight
            fisher = 0.6 * g**2 + 0.4 * fisher
        assert float(score[position]) == pytest.approx((max(grown, 0) + CARRIED["score"][position]) / 2)


@pytest.mark.parametrize("exact", [False, True])
def test_the_score_of_pi(exact: bool):
    student = TwoWeights((1.5, 1.8), (0.3, 0.4))
    method = begun("PI", 1, student, reg_importance=3.0, paper_exact=exact)
    looks = iterate(method, student)
    end = student.old.tolist()
    score = method.state(finished=True)["path_score"]
    damping = 1e-3 if exact else 1e-20
    for position in range(2):
        path = 0.0
        for before, now in pairwise(looks):
            moved = before["weights"][position] - now["weights"][position]
            path += (before if exact else now)["grad"][position] * moved
        distance = (end[position] - (1.0, 2.0)[position]) ** 2 + damping
        expected = CARRIED["path_score"][position] + max(path / distance, 0)
        assert float(score["old"][position]) == pytest.approx(expected)
    # A new weight is measured from its own start, and carries nothing.
    path = [sum((a if exact else b)[i] * RATE * a[i] for a, b in pairwise(GRADIENTS)) for i in (0, 1)]
    distance = [(RATE * sum(g[i] for g in GRADIENTS)) ** 2 + damping for i in (0, 1)]
    expected = [max(p / d, 0) for p, d in zip(path, distance, strict=True)]
    assert score["new"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", OMEGAS)
def test_a_step_that_was_cut_off_goes_on_as_if_it_had_not(name: str, exact: bool, step: int):
    many = GRADIENTS * 4
    options = {"paper_exact": exact} | ({"reg_iterations": 3} if name == "RW" else {})
    whole, student = TwoWeights((1.5, 1.8), (0.3, 0.4)), TwoWeights((1.5, 1.8), (0.3, 0.4))
    uninterrupted = begun(name, step, whole, **options)
    iterate(uninterrupted, whole, many)
    first = begun(name, step, student, **options)
    iterate(first, student, many[:5])
    file = io.BytesIO()
    torch.save(first.state(finished=False), file)
    file.seek(0)
    second = begun(name, step, student, **options)
    second.load(torch.load(file, weights_only=True))
    iterate(second, student, many[5:])
    for one, other in zip(whole.parameters(), student.parameters(), strict=True):
        assert torch.equal(one, other)
    for entry, values in uninterrupted.state(finished=True).items():
        found = second.state(finished=True)[entry]
        same = (
            [torch.equal(values[key], found[key]) for key in values] if isinstance(values, dict) else [values == found]
        )
        assert all(same), entry


@pytest.mark.parametrize("name", OMEGAS)
def test_a_checkpoint_of_another_method_is_refused(name: str):
    method = METHODS[name](METHODS[name].Config(), task_of("voc", "15-1"), 1)
    with pytest.raises(UserError, match=f"the checkpoint of step 0 holds no .*--method {name} needs: train that step"):
        method.begin(TwoWeights((0.0, 0.0)), TwoWeights((1.0, 2.0)), {})


def test_a_gradient_that_overflowed_does_no_lasting_harm():
    student = TwoWeights((1.5, 1.8))
    method = begun("EWC", 1, student)
    student.old.grad = torch.tensor([float("inf"), float("nan")], dtype=torch.float64)
    method.after_backward(may_overflow=True)
    assert method.state(finished=True)["fisher"]["old"].isfinite().all()


def test_frozen_weights_are_left_alone():
    student = TwoWeights((1.5, 1.8), (0.0, 0.0))
    student.old.requires_grad_(False)
    method = begun("EWC", 1, student)
    assert method.penalised == [] and method.weights.keys() == {"new"}
