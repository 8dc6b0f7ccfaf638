"""The confusion matrix and the scores made from it, against loops over pixels and classes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.scores import IOU_EPSILON, ConfusionMatrix, Scores, present_mean
from tests.helpers import run_processes
from utils.constants import IGNORE_INDEX

C = 5


def batch(seed: int, dtype: torch.dtype = torch.uint8) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels without class 3 and with ignored pixels, and predictions that are half right."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 4, IGNORE_INDEX])[torch.randint(5, (2, 7, 9), generator=random)]
    guesses = torch.randint(C, labels.shape, generator=random)
    right = (torch.rand(labels.shape, generator=random) < 0.5) & (labels != IGNORE_INDEX)
    return labels.to(dtype), torch.where(right, labels, guesses)


def counted(labels: torch.Tensor, predictions: torch.Tensor) -> np.ndarray:
    matrix = np.zeros((C, C), np.int64)
    for label, prediction in zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True):
        if label != IGNORE_INDEX:
            matrix[label, prediction] += 1
    return matrix


def test_counts_equal_a_loop_over_pixels():
    confusion = ConfusionMatrix(C)
    expected = np.zeros((C, C), np.int64)
    for seed, dtype in enumerate((torch.uint8, torch.int32, torch.int64)):
        labels, predictions = batch(seed, dtype)
        before = labels.clone()
        confusion.update(labels, predictions)
        expected += counted(labels, predictions)
        assert torch.equal(labels, before)
    assert confusion.matrix.dtype == torch.int64
    assert np.array_equal(confusion.matrix.numpy(), expected)


def test_rows_are_ground_truth():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([[[1, 1]]]), torch.tensor([[[2, 2]]]))
    assert confusion.matrix.tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_narrow_predictions_do_not_overflow():
    confusion = ConfusionMatrix(151)
    confusion.update(torch.full((1, 1, 1), 150, dtype=torch.uint8), torch.full((1, 1, 1), 150, dtype=torch.uint8))
    assert confusion.matrix[150, 150] == 1


def test_label_that_is_no_class_raises():
    for prediction in (0, C - 1):
        with pytest.raises((RuntimeError, IndexError)):
            ConfusionMatrix(C).update(torch.full((1, 1, 1), C), torch.full((1, 1, 1), prediction))


def test_scores_equal_a_loop_over_classes():
    labels, predictions = batch(0)
    confusion = ConfusionMatrix(C)
    confusion.update(labels, predictions)
    scores = confusion.scores()
    labels, predictions = labels.numpy(), predictions.numpy()
    valid = labels != IGNORE_INDEX
    iou, accuracy, weighted = {}, {}, 0.0
    for c in (0, 1, 2, 4):
        both = (valid & (labels == c) & (predictions == c)).sum()
        truth, predicted = (labels == c).sum(), (valid & (predictions == c)).sum()
        iou[c] = both / (truth + predicted - both + IOU_EPSILON)
        accuracy[c] = both / truth
        weighted += truth / valid.sum() * iou[c]
    assert np.isnan(scores.iou[3]) and np.isnan(scores.accuracy[3])
    np.testing.assert_allclose(scores.iou[list(iou)], list(iou.values()), rtol=1e-12)
    assert scores.iou.dtype == np.float64
    assert scores.mean_iou == pytest.approx(np.mean(list(iou.values())), rel=1e-12)
    assert scores.mean_accuracy == pytest.approx(np.mean(list(accuracy.values())), rel=1e-12)
    assert scores.overall_accuracy == pytest.approx((labels == predictions)[valid].mean(), rel=1e-12)
    assert scores.fw_iou == pytest.approx(weighted, rel=1e-12)
    assert present_mean(scores.iou[[0, 3]]) == pytest.approx(iou[0], rel=1e-12)
    assert math.isnan(present_mean(scores.iou[[3]])) and math.isnan(present_mean([]))


def test_predicting_an_absent_class_costs_only_the_others():
    scores = Scores.from_matrix(np.array([[3, 1], [0, 0]]))
    assert scores.mean_iou == pytest.approx(3 / 4, abs=1e-6)
    assert np.isnan(scores.iou[1])


@pytest.mark.filterwarnings("error")
def test_all_ignored_is_nan_everywhere():
    confusion = ConfusionMatrix(C)
    confusion.update(torch.full((1, 4, 4), IGNORE_INDEX), torch.zeros(1, 4, 4, dtype=torch.int64))
    scores = confusion.scores()
    assert scores.matrix.sum() == 0 and np.isnan(scores.iou).all()
    for figure in ("mean_iou", "mean_accuracy", "overall_accuracy", "fw_iou"):
        assert math.isnan(getattr(scores, figure)), figure


def count(rank: int, folder: Path) -> torch.Tensor:
    confusion = ConfusionMatrix(C)
    for seed in range(rank, 4, 2):
        confusion.update(*batch(seed))
    confusion.all_reduce()
    return confusion.matrix.clone()


def test_two_processes_count_as_one(tmp_path: Path):
    alone = ConfusionMatrix(C)
    for seed in range(4):
        alone.update(*batch(seed))
    assert all(torch.equal(matrix, alone.matrix) for matrix in run_processes(count, tmp_path))
