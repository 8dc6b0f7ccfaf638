"""The obvious formulation that the benchmarks compare with computes what the project computes."""

import numpy as np
import pytest
import torch

from benchmarks import gradients, harness
from benchmarks.iteration import check_rcil
from benchmarks.networks import make_obvious
from benchmarks.obvious.data import map_labels
from dataset import labels
from tests.helpers import SPECS, largest_difference, small_config, small_network, task_of
from tests.workplace import Workplace


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float64 has no other precision beside it."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_an_iteration_of_rcil():
    assert check_rcil() < 1e-9


def test_evaluation():
    network = small_network().double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = make_obvious(small_config(), network, (3,))(images)[0]
    assert largest_difference(network.for_inference()(images).logits, expected) < 1e-9


def test_label_mapping():
    mask = np.random.default_rng(0).choice([*range(21), 255], (20, 30)).astype(np.uint8)
    for step in task_of("voc", "15-1").steps:
        lut = labels.training_lut(step, data_masking="current", class_of=SPECS["voc"].class_of)
        expected = map_labels(mask, step.order, step.new_classes)
        np.testing.assert_array_equal(labels.map_labels(mask, lut), expected)


def test_a_wrong_result_ends_a_benchmark():
    assert harness.check("loss", 0.1, 0.2) == 0.1
    for difference in (0.3, float("nan")):
        with pytest.raises(SystemExit, match="loss: ours differs from the obvious formulation by"):
            harness.check("loss", difference, 0.2)


def test_both_are_timed_in_turn():
    calls = []
    row = harness.compare("x", lambda: calls.append("obvious"), lambda: calls.append("ours"), repeats=3, warmup=2)
    assert calls == ["obvious", "ours"] * 5
    assert row.ratio == pytest.approx(row.obvious / row.ours)


def test_the_pull_of_a_loss_is_the_norm_of_its_gradient_over_all_weights():
    weights = [torch.nn.Parameter(torch.tensor(values)) for values in ([3.0, 0.0], [4.0], [9.0])]
    loss = weights[0].square().sum() + weights[1].square().sum()
    assert gradients.pull(loss, weights) == pytest.approx(10)  # of (6, 0, 8); the third has no part in it


def test_gradients_shows_every_term_and_leaves_the_run_alone(trained: Workplace, capsys: pytest.CaptureFixture):
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    assert gradients.main(["--iterations", "0", "2", "--", *trained.options("--step", 1)]) == 0
    said = capsys.readouterr().out
    assert said.count("iterations: ") == 2
    for term in ("ce", "kd", "cube_spatial", "cube_channel"):
        norms = [float(line.split()[2]) for line in said.splitlines() if line.split()[0] == term]
        assert len(norms) == 2 and min(norms) > 0
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")} == before
