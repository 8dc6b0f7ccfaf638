"""EWC, RW and PI on a model of two weights, against the formulas worked out number by number (METHODS 5 to 7)."""

import io
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from methods import METHODS
from methods.importance import ImportanceMethod
from tests.helpers import small_network, task_of
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


def begun(name: str, step: int, student: nn.Module, **options: object) -> ImportanceMethod:
    """The method at the start of a step; step 1 comes after a network (1, 2) with CARRIED."""
    cls = METHODS[name]
    method = cls(cls.Config(**options), task_of("voc", "15-1").step(step))
    method.shape(student, TwoWeights((1.0, 2.0)) if step else None)
    if step:
        method.inherit({f"{entry}.old": torch.tensor(CARRIED[entry], dtype=torch.float64) for entry in method.carries})
    return method


def iterate(method: ImportanceMethod, student: TwoWeights, gradients: list = GRADIENTS) -> list[dict]:
    """Plain gradient descent with the penalty; what each iteration looked like: weights, gradient, full gradient."""
    seen = []
    for values in gradients:
        before = student.old.detach().clone()
        for parameter in student.parameters():
            parameter.grad = torch.tensor(values, dtype=torch.float64)
        penalties = method.after_backward()
        seen.append({"weights": before.tolist(), "grad": values, "full": student.old.grad.tolist(), **penalties})
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= RATE * parameter.grad
    return seen


def left_by(method: ImportanceMethod, student: nn.Module) -> dict[str, Tensor]:
    """The state dict at the end of the step."""
    method.finish(student, None, ())
    return method.state_dict()


def min_max(values) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low + 1e-8) for value in values]


OMEGAS = {
    "EWC": min_max(CARRIED["fisher"]),
    "RW": [f + s for f, s in zip(min_max(CARRIED["fisher"]), min_max(CARRIED["score"]), strict=True)],
    "PI": min_max(CARRIED["path_score"]),
}
every_method = pytest.mark.parametrize("name", OMEGAS)


@every_method
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


@every_method
def test_step_0_has_no_penalty_and_leaves_what_step_1_needs(name: str):
    student = TwoWeights((1.5, 1.8))
    method = begun(name, 0, student)
    assert all("penalty" not in look and look["full"] == list(look["grad"]) for look in iterate(method, student))
    state = left_by(method, student)
    assert {f"{entry}.old" for entry in method.carries} <= state.keys()
    following = METHODS[name](method.config, task_of("voc", "15-1").step(1))
    following.shape(TwoWeights((0.0, 0.0)), student)
    following.inherit(state)
    assert [key for key, _ in following.omegas.items()] == ["old"]


def test_importances_are_not_normalised_where_that_is_asked_for():
    method = begun("EWC", 1, TwoWeights((1.5, 1.8)), reg_no_normalize=True)
    assert method.omegas["old"].tolist() == list(CARRIED["fisher"])


@every_method
def test_the_norms_after_the_atrous_convolutions_are_one_tensor(name: str):
    """As in the public code, in each branch: the least and the largest importance are those over all four."""
    student = small_network(branches=2)
    method = METHODS[name](METHODS[name].Config(), task_of("voc", "15-1").step(1))
    method.shape(student, small_network(branches=2))
    random = torch.Generator().manual_seed(0)
    state = {
        f"{entry}.{key.replace('.', '/')}": (1 + len(key)) * torch.rand(weight.shape, generator=random)
        for entry in method.carries
        for key, weight in student.named_parameters()
    }
    for part in range(4):  # each part has a range of its own
        for entry in method.carries:
            for norm, scale in (("norm", 1.0), ("norm_new", 50.0)):
                for values in ("weight", "bias"):
                    state[f"{entry}.head/atrous/{part}/{norm}/{values}"] += scale * part
    method.inherit(state)

    def expected(*names: str) -> Tensor:
        joined = [torch.cat([state[f"{e}.{n.replace('.', '/')}"].flatten() for n in names]) for e in method.carries]
        return torch.tensor([min_max(values.tolist()) for values in joined]).sum(0)

    groups = [[f"head.atrous.{i}.{n}.{v}" for i in range(4)] for n in ("norm", "norm_new") for v in ("weight", "bias")]
    for group in [*groups, ["head.atrous.1.conv.weight"], ["head.norm.weight"], ["classifiers.0.bias"]]:
        omega = torch.cat([method.omegas[key].flatten() for key in group])
        torch.testing.assert_close(omega, expected(*group), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["EWC", "RW"])
def test_the_fisher_information(name: str, exact: bool):
    student = TwoWeights((1.5, 1.8), (0.0, 0.0))
    method = begun(name, 1, student, reg_importance=0.0, reg_alpha=0.6, paper_exact=exact)
    iterate(method, student)
    left = left_by(method, student)
    for entry, start in (("old", CARRIED["fisher"]), ("new", (1.0, 1.0))):
        for position in range(2):
            value = start[position]
            for g in GRADIENTS:
                value = 0.6 * g[position] ** 2 + 0.4 * value
            if exact:
                value = sum(g[position] ** 2 for g in GRADIENTS) / 3
            assert float(left[f"fisher.{entry}"][position]) == pytest.approx(value)


@pytest.mark.parametrize("every", [1, 2])
def test_the_score_of_rw(every: int):
    student = TwoWeights((1.5, 1.8))
    method = begun("RW", 1, student, reg_importance=3.0, reg_alpha=0.6, reg_iterations=every)
    looks = iterate(method, student)
    score = left_by(method, student)["score.old"]
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
    left = left_by(method, student)
    damping = 1e-3 if exact else 1e-20
    for position in range(2):
        path = 0.0
        for before, now in pairwise(looks):
            moved = before["weights"][position] - now["weights"][position]
            path += (before if exact else now)["grad"][position] * moved
        distance = (end[position] - (1.0, 2.0)[position]) ** 2 + damping
        expected = CARRIED["path_score"][position] + max(path / distance, 0)
        assert float(left["path_score.old"][position]) == pytest.approx(expected)
    # A new weight is measured from its own start, and carries nothing.
    path = [sum((a if exact else b)[i] * RATE * a[i] for a, b in pairwise(GRADIENTS)) for i in (0, 1)]
    distance = [(RATE * sum(g[i] for g in GRADIENTS)) ** 2 + damping for i in (0, 1)]
    expected = [max(p / d, 0) for p, d in zip(path, distance, strict=True)]
    assert left["path_score.new"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("exact", [False, True])
@every_method
def test_a_step_that_is_resumed_ends_as_one_that_was_not_cut_off(name: str, exact: bool):
    many = GRADIENTS * 4
    options = {"paper_exact": exact} | ({"reg_iterations": 3} if name == "RW" else {})
    for step in (0, 1):
        whole, student = (TwoWeights((1.5, 1.8), (0.3, 0.4)) for _ in range(2))
        uninterrupted = begun(name, step, whole, **options)
        iterate(uninterrupted, whole, many)
        first = begun(name, step, student, **options)
        iterate(first, student, many[:5])
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = begun(name, step, student, **options)
        second.load_state_dict(torch.load(file, weights_only=True))
        iterate(second, student, many[5:])
        for one, other in zip(whole.parameters(), student.parameters(), strict=True):
            assert torch.equal(one, other)
        expected, found = left_by(uninterrupted, whole), left_by(second, student)
        assert expected.pop("_extra_state") == found.pop("_extra_state") == {"count": 12}
        assert expected.keys() == found.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@every_method
def test_a_checkpoint_of_another_method_is_refused(name: str):
    method = METHODS[name](METHODS[name].Config(), task_of("voc", "15-1").step(1))
    method.shape(TwoWeights((0.0, 0.0)), TwoWeights((1.0, 2.0)))
    with pytest.raises(UserError, match=f"the checkpoint of step 0 holds no .*--method {name} needs: train that step"):
        method.inherit({})


def test_frozen_weights_are_left_alone():
    student = TwoWeights((1.5, 1.8), (0.0, 0.0))
    student.old.requires_grad_(False)
    method = begun("EWC", 1, student)
    assert list(method.omegas.items()) == [] and method.weights.keys() == {"new"}
