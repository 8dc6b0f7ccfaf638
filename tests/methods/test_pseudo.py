"""Pseudo labels against loops over pixels and sorted values."""

import math

import pytest
import torch

from methods.pseudo import histogram, medians, relabel, uncertainty

NUM_OLD, NUM_SEEN = 4, 6


def probabilities() -> torch.Tensor:
    return (3 * torch.randn(2, NUM_OLD, 5, 4, generator=torch.Generator().manual_seed(0)).double()).softmax(1)


@pytest.mark.parametrize("exact", [True, False])
def test_uncertainty(exact: bool):
    q = probabilities()
    values = uncertainty(q, NUM_SEEN, exact=exact)
    for value, pixel in zip(
        values.flatten().tolist(), q.permute(0, 2, 3, 1).reshape(-1, NUM_OLD).tolist(), strict=True
    ):
        if exact:
            expected = -sum(p * math.log(p) for p in pixel) / math.log(NUM_OLD)
        else:
            expected = -sum(p * math.log(p + 1e-8) for p in pixel) / NUM_OLD / math.log(NUM_OLD) / math.log(NUM_SEEN)
        assert value == pytest.approx(expected, rel=1e-9)


def test_exact_uncertainty_goes_from_0_to_1():
    sure = torch.zeros(1, NUM_OLD, 1, 1).index_fill(1, torch.tensor([2]), 1.0)
    assert float(uncertainty(sure, NUM_SEEN, exact=True)) == 0
    even = torch.full((1, NUM_OLD, 1, 1), 1 / NUM_OLD)
    assert float(uncertainty(even, NUM_SEEN, exact=True)) == pytest.approx(1)
    assert float(uncertainty(even, NUM_SEEN, exact=False)) < 1 / NUM_OLD


def test_histogram_counts_by_class_and_bin():
    values, classes = torch.tensor([0.0, 0.05, 0.1, 0.99, 1.0, 0.55]), torch.tensor([0, 0, 0, 2, 2, 1])
    counts = histogram(values, classes, num_classes=4, bins=10)
    expected = torch.zeros(4, 10, dtype=torch.int64)
    expected[0, 0], expected[0, 1], expected[1, 5], expected[2, 9] = 2, 1, 1, 2
    assert torch.equal(counts, expected)


def test_exact_medians_are_those_of_the_sorted_values():
    random = torch.Generator().manual_seed(1)
    values, classes = torch.rand(4000, generator=random) ** 2, torch.randint(3, (4000,), generator=random)
    found = medians(histogram(values, classes, num_classes=4, bins=100), exact=True)
    for label in range(3):
        ordered = sorted(values[classes == label].tolist())
        assert found[label] == pytest.approx(ordered[len(ordered) // 2], abs=0.011)
    assert math.isnan(found[3])


def public_median(row: list[int]) -> float:
    """METHODS 9, point 5, sentence by sentence."""
    half, r = sum(row) / 2, 0
    for i in range(100):
        if r <= half <= r + row[i]:
            break
        r += i
    if row[i] == 0:
        return math.inf if half > r else -math.inf
    return i / 100 + ((half - r) / row[i]) * 0.01


def test_public_medians_add_the_number_of_the_bin():
    random = torch.Generator().manual_seed(2)
    rows = [torch.randint(1, 40, (100,), generator=random).tolist() for _ in range(5)]
    rows += [[50, *[1] * 99], [0] * 99 + [20000], [3000] * 5 + [0] * 95, [10] * 5 + [0] * 95]
    found = medians(torch.tensor(rows), exact=False)
    assert found == [pytest.approx(public_median(row)) for row in rows]
    # Nothing lies in the last bin where the loop ends: a bound that lets all pass, or none.
    assert found[-2:] == [math.inf, -math.inf]
    assert medians(torch.tensor(rows), exact=True)[-1] == pytest.approx(0.025)


@pytest.mark.parametrize("exact", [True, False])
def test_relabel(exact: bool):
    labels = torch.tensor([[[0, 0, 255, 4], [1, 0, 5, 0]], [[4, 4, 5, 255], [4, 4, 4, 4]]])
    pseudo = torch.tensor([[[2, 0, 1, 1], [3, 3, 3, 1]], [[1, 1, 1, 1], [2, 2, 2, 2]]])
    sure = torch.tensor([[[True, True, True, True], [False, True, True, False]], [[True] * 4] * 2])
    relabelled, share = relabel(labels, pseudo, sure, NUM_OLD, exact=exact)
    # Labels below num_old are background, whatever they say.
    assert relabelled.tolist() == [[[2, 0, 255, 4], [255, 3, 5, 255]], labels[1].tolist()]
    assert share.tolist() == pytest.approx([3 / 5, 1.0 if exact else 0.0], abs=1e-6)
    assert labels[0, 0, 0] == 0  # not changed in place
