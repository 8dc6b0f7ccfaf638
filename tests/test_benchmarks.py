"""The obvious formulation that the benchmarks compare with computes what the project computes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu_acceptance, gradients, harness, roofline
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


def test_operations_bytes_and_memory_are_counted_on_meta_tensors():
    conv, relu = torch.nn.Conv2d(3, 8, 3, bias=False, device="meta"), torch.nn.ReLU()
    images = torch.empty(2, 3, 10, 10, device="meta")
    with roofline.Trace() as counted, torch.no_grad():
        counted.part = "first"
        y = conv(images)
        y = relu(y)
    (first, second) = counted.operators
    size = 4 * 2 * 8 * 8 * 8
    assert (first.part, first.operations, first.half) == ("first", 2 * 2 * 8 * 8 * 8 * 3 * 9, False)
    assert first.bytes == 4 * (2 * 3 * 10 * 10 + 8 * 3 * 9) + size
    assert (second.operations, second.bytes) == (0, 2 * size)
    assert (counted.peak, counted.alive) == (2 * size, size)  # the output of the convolution is let go
    del y
    assert counted.alive == 0
    card = roofline.Card(bf16=100.0, fp32=10.0, bandwidth=1000.0)
    assert second.seconds(card) == 2 * size / 1000 and first.seconds(card) == first.operations / 10


def test_a_kernel_is_counted_by_its_tiles():
    maps = torch.empty(2, 3, 70, 40, dtype=torch.float32, device="meta")
    with roofline.Trace() as counted:
        roofline.cube_kernel.cube_squares(maps, maps, [4, 24])
    (kernel,) = counted.operators
    # 3 x 2 tiles of 32 windows, which read 64 pixels a side; rows, then columns; each number is three.
    assert kernel.operations == (2 * 3) * (3 * 2) * 2 * 3 * 2 * (32 * 64 * 64 + 32 * 64 * 32)
    assert kernel.half and kernel.bytes == 4 * (2 * maps.numel() + 2 * 3)


def test_autocast_is_imitated_on_meta_tensors():
    conv, images = torch.nn.Conv2d(3, 8, 3, device="meta"), torch.empty(2, 3, 10, 10, device="meta")
    with roofline.Autocast("meta"):
        assert conv(images).dtype == torch.bfloat16
        with roofline.Autocast("meta", enabled=False):
            assert conv(images).dtype == torch.float32
        assert (images + images).dtype == torch.float32
    assert conv(images).dtype == torch.float32


def test_the_acceptance_of_a_gpu_runs_dry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """All parts but the slow ones, which start runs and tests of their own."""
    only = ["parity", "waits", "group", "cube", "speed"]
    monkeypatch.setattr("sys.argv", ["gpu_acceptance", "--dry", "--only", *only, "--out", str(tmp_path)])
    assert gpu_acceptance.main() == 0
    lines = (tmp_path / "gpu_acceptance.md").read_text().splitlines()
    assert len(lines) == 15 and all(line.endswith("| pass |") for line in lines[4:])


def test_a_part_that_fails_is_told_and_the_next_ones_are_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.argv", ["gpu_acceptance", "--dry", "--only", "group", "cube", "--out", str(tmp_path)])
    monkeypatch.setattr(torch.distributed, "HashStore", lambda: 1 / 0)
    assert gpu_acceptance.main() == 1
    lines = (tmp_path / "gpu_acceptance.md").read_text().splitlines()
    assert [line.endswith("| **fail** |") for line in lines[4:]] == [True, False, False, False]
