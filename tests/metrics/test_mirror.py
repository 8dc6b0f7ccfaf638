"""Weights & Biases, offline: the real package takes what TensorBoard gets, and its lack is one line."""

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.board import Board
from metrics.mirror import Mirror
from tests.workplace import Workplace


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def recorded(folder: Path, *parts: bytes) -> bytes:
    """The record of the only run, once all `parts` are in it: a process of the package's own writes it, in its time."""
    [record] = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30
    while missing := [part for part in parts if part not in record.read_bytes()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.05)
    return record.read_bytes()


def test_figures_and_pictures_arrive(tmp_path: Path, offline: None):
    pytest.importorskip("wandb")
    board = Board(tmp_path, True, lambda: Mirror(tmp_path, name="a", group="b", config={"lr": (0.1, 0.2)}))
    assert not list(tmp_path.iterdir())  # a run that shows nothing starts nothing
    with board:
        board.scalars({"ce": 0.25}, 7, group="loss_step0")
        board.picture("samples", Image.fromarray(np.zeros((8, 8, 3), np.uint8)), 0)
    parts = (b"loss_step0/ce", b"0.25", b"loss_step0/iteration", b"samples/picture", b"(0.1, 0.2)")
    written = recorded(tmp_path, *parts)
    assert re.search(rb"loss_step0/iteration\W{1,6}7\b", written)  # the axis, with its value
    assert len(list((tmp_path / "wandb").glob("offline-run-*/files/media/images/samples/*.png"))) == 1


def test_without_the_package_a_run_is_refused_before_it_starts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert workplace.run("--step", 0, "--wandb") == 2
    assert capfd.readouterr().err == (
        "error: --wandb: the package wandb is not installed: pip install wandb, or leave it out\n"
    )
    assert not workplace.files()


def test_a_run_is_mirrored(trained: Workplace, workplace: Workplace, offline: None, capfd: pytest.CaptureFixture):
    pytest.importorskip("wandb")
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 0, "--test", "--wandb", "--latex") == 0
    recorded(workplace.logs(), b"test/mIoU", b"resnet26")
    said = capfd.readouterr().out
    assert "wandb        " in said and r"\begin{tabular}" in said
