"""A tiny data set, and a run on it that many tests look at."""

import multiprocessing
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.workplace import StopAt, Workplace
from tools.make_shapes import make_shapes

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where kernels are imported: it runs them on a CPU

# This many give 47 training images in step 0 of 15-1, 9 in step 1, and 19 test images in step 1: an odd number.
NUM_TRAIN, NUM_VAL, SIDE, SEED = 54, 23, 64, 46


def pytest_configure() -> None:
    """As many threads as in the processes that tests start: more of them change the last bits of a sum.

    Such processes are forked by a server that has imported all: each would need seconds for it.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, which the suite may be started with, has it ignored
    multiprocessing.set_forkserver_preload(["tests.helpers", "tests.workplace", "run", "torchvision"])


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a few small pictures. Not to be changed: see `own_data`."""
    root = tmp_path_factory.mktemp("shapes") / "voc"
    make_shapes(root, train=NUM_TRAIN, val=NUM_VAL, size=SIDE, seed=SEED, workers=1)
    return root


@pytest.fixture
def workplace(tmp_path: Path, shapes: Path) -> Workplace:
    """A new folder for runs on `shapes`."""
    return Workplace(tmp_path, shapes)


@pytest.fixture
def own_data(tmp_path: Path, shapes: Path) -> Workplace:
    """A new folder for runs on a copy of `shapes` that may be damaged."""
    shutil.copytree(shapes, tmp_path / "voc")
    return Workplace(tmp_path, tmp_path / "voc")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Workplace:
    """A finished run of steps 0 and 1. Not to be changed."""
    workplace = Workplace(tmp_path_factory.mktemp("trained"), shapes)
    assert workplace.run("--step", 0, 1) == 0
    return workplace


@pytest.fixture(scope="session")
def old_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files that test_old_checkpoints.py is about. Not to be changed."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(Path(__file__).with_name("old_checkpoints.tar.xz")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in the first releases of Python 3.11
        archive.extractall(folder)
    return folder


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> StopAt:
    """stop_at(signum, step, iteration): that signal in that iteration, in the runs of this process."""
    from train import Trainer  # seconds, which the tests that run nothing need not wait

    plain = Trainer.train_epoch

    def stop(signum: int, step: int, iteration: int) -> None:
        def train_epoch(self: "Trainer") -> Iterator[dict[str, float]]:
            for losses in plain(self):
                if (self.step.number, self.updates) == (step, iteration):
                    os.kill(os.getpid(), signum)
                yield losses

        monkeypatch.setattr(Trainer, "train_epoch", train_epoch)

    return stop
