"""Any labels and predictions: the confusion matrix and the scores are those of a count by hand."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.scores import IOU_EPSILON, ConfusionMatrix, Scores
from tests.properties.strategies import IGNORED


class Pixels(NamedTuple):
    """Pixels of `num_classes` classes: label, prediction, and which process sees it."""

    num_classes: int
    pixels: list[tuple[int, int, int]]
    dtype: torch.dtype

    def matrix(self, *processes: int) -> torch.Tensor:
        """What the program counts of the pixels of `processes`."""
        confusion = ConfusionMatrix(self.num_classes)
        chosen = [pixel for pixel in self.pixels if pixel[2] in processes]
        # In batches of three and a rest, which may be empty.
        for start in range(0, len(chosen) + 1, 3):
            table = torch.tensor(chosen[start : start + 3], dtype=torch.int64).view(1, -1, 3)
            confusion.update(table[..., 0].to(self.dtype), table[..., 1])
        return confusion.matrix


@st.composite
def pixels(draw: st.DrawFn) -> Pixels:
    count = draw(st.integers(1, 7) | st.just(255))
    label, prediction = st.integers(0, count - 1) | st.just(IGNORED), st.integers(0, count - 1)
    dtype = draw(st.sampled_from([torch.uint8, torch.int32, torch.int64]))
    return Pixels(count, draw(st.lists(st.tuples(label, prediction, st.integers(0, 3)), max_size=60)), dtype)


@given(pixels())
def test_the_matrix_is_a_count_by_hand(data: Pixels):
    counted = Counter((label, prediction) for label, prediction, _ in data.pixels if label != IGNORED)
    made = data.matrix(*range(4))
    assert made.shape == (data.num_classes,) * 2 and made.dtype == torch.int64
    assert {tuple(at): int(made[tuple(at)]) for at in made.nonzero().tolist()} == counted


@given(pixels())
def test_matrices_of_any_parts_of_the_pixels_add_up(data: Pixels):
    parts = [data.matrix(process) for process in range(4)]
    assert torch.equal(sum(parts), data.matrix(*range(4)))


def in_bounds(value: float) -> bool:
    return math.isnan(value) or 0 <= value <= 1


def check_bounds(scores: Scores) -> None:
    absent = scores.matrix.sum(1) == 0
    for per_class in (scores.iou, scores.accuracy):
        assert all(map(in_bounds, per_class)) and (np.isnan(per_class) == absent).all()
    for figure in ("mean_iou", "mean_accuracy", "overall_accuracy", "fw_iou"):
        value = getattr(scores, figure)
        assert in_bounds(value) and math.isnan(value) == absent.all(), figure


@given(pixels())
def test_scores_are_those_of_sets_of_pixels(data: Pixels):
    scores = Scores.from_matrix(data.matrix(*range(4)).numpy())
    check_bounds(scores)
    labelled = [(label, prediction) for label, prediction, _ in data.pixels if label != IGNORED]
    iou, accuracy, weighted = {}, {}, 0.0
    for c in {label for label, _ in labelled}:
        truth = {number for number, (label, _) in enumerate(labelled) if label == c}
        found = {number for number, (_, prediction) in enumerate(labelled) if prediction == c}
        iou[c] = len(truth & found) / (len(truth | found) + IOU_EPSILON)
        accuracy[c] = len(truth & found) / len(truth)
        weighted += len(truth) / len(labelled) * iou[c]
    assert {c: value for c, value in enumerate(scores.iou) if not np.isnan(value)} == pytest.approx(iou)
    assert {c: value for c, value in enumerate(scores.accuracy) if not np.isnan(value)} == pytest.approx(accuracy)
    if labelled:
        right = sum(label == prediction for label, prediction in labelled)
        assert scores.mean_iou == pytest.approx(sum(iou.values()) / len(iou))
        assert scores.mean_accuracy == pytest.approx(sum(accuracy.values()) / len(accuracy))
        assert scores.overall_accuracy == pytest.approx(right / len(labelled))
        assert scores.fw_iou == pytest.approx(weighted)


counts = st.integers(0, 10) | st.integers(0, 10**9)


@given(st.integers(1, 6).flatmap(lambda c: arrays(np.int64, (c, c), elements=counts, fill=st.just(0))))
def test_scores_of_any_counts_are_fractions(matrix: np.ndarray):
    check_bounds(Scores.from_matrix(matrix))
    check_bounds(Scores.from_matrix(np.diag(matrix.diagonal())))
