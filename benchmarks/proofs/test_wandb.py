"""--wandb: a run is shown there, or refused before it starts. The package takes 8 seconds to finish."""

import sys
import time
from collections.abc import Iterator

import pytest

from tests.workplace import Workplace


@pytest.fixture
def wandb() -> Iterator[None]:
    """The package, which is as if just imported afterwards."""
    package = pytest.importorskip("wandb")
    yield
    package.tensorboard.unpatch()
    package.teardown()


@pytest.mark.usefixtures("wandb")
def test_a_run_is_shown_in_wandb_too(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 0, "--test", "--wandb") == 0
    [folder] = workplace.logs().glob("wandb/offline-run-*")
    assert f"wandb        {folder}/files\n" in capfd.readouterr().out
    [record] = folder.glob("run-*.wandb")
    parts = [b"test/mIoU", b"test/fw_iou", b"test/confusion", b"strip", b"resnet14"]
    deadline = time.monotonic() + 30  # a process of the package's own writes it, in its time
    while missing := [part for part in parts if part not in record.read_bytes()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.05)
    assert len(list(folder.glob("files/media/images/**/*.png"))) == 3


@pytest.mark.usefixtures("wandb")
def test_a_run_is_refused_before_it_starts_where_wandb_is_missing_or_does_not_start(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    for name, value in {"HOME": workplace.folder / "home", "WANDB_MODE": "online", "WANDB_API_KEY": ""}.items():
        monkeypatch.setenv(name, str(value))
    assert workplace.run("--step", 0, "--wandb") == 2
    error = capfd.readouterr().err
    assert error.startswith("error: --wandb: it does not start: No API key") and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert workplace.run("--step", 0, "--wandb") == 2
    assert capfd.readouterr().err == (
        "error: --wandb: the package wandb is not installed: pip install wandb, or leave it out\n"
    )
    assert not [
        path for path in workplace.files() if path.suffix in (".pth", ".csv", ".jsonl") or "tfevents" in path.name
    ]
