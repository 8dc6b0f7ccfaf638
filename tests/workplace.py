"""A tiny network, and runs of run.py on it, for the tests that go through everything."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, set_start_method
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utils.log import log

StopAt = Callable[[int, int, int], None]
"""(signal, step, iteration): see the fixture stop_at."""

Main = Callable[[list[str]], int]
"""From a command line to an exit code."""

REPOSITORY = Path(__file__).parents[1]
DATE = "2022-01-01"


@dataclass(frozen=True)
class Workplace:
    """A folder that holds all files of the runs in it."""

    folder: Path
    data: Path

    def options(self, *more: object) -> list[str]:
        """The command line of a tiny run: task 15-1, overlapped. What `more` says wins."""
        network = "--backbone resnet14 --width 8 --head_channels 16 --no_pretrained"
        data = "--task 15-1 --overlap --crop_size 64 --batch_size 4 --num_workers 0"
        folders = {"checkpoint": "checkpoints", "logdir": "logs", "results_dir": "results"}
        words = f"{network} {data} --date {DATE} --name tiny --epochs 2 --lr 0.002 --print_interval 1".split()
        words += ["--data_root", self.data]
        for option, name in folders.items():
            words += [f"--{option}", self.folder / name]
        return [*map(str, words), *map(str, more)]

    def run(self, *more: object) -> int:
        """Run in this process; the exit code."""
        return self.main(self.options(*more))

    @staticmethod
    def main(arguments: list[str]) -> int:
        """run.main on the CPU, where figures repeat to the last bit, and the log as it was before."""
        import run  # seconds, which the tests that run nothing need not wait

        before = log.handlers[:], log.level, log.propagate
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("torch.cuda.is_available", lambda: False)
                return run.main(arguments)
        finally:
            log.handlers[:], log.propagate = before[0], before[2]
            log.setLevel(before[1])

    def start(self, *more: object, main: Main | None = None, **environment: str) -> "Started":
        """Start in a process of its own, where `main` stands in for `Workplace.main`."""
        return Started(main or self.main, self.options(*more), environment)

    def wait_for(self, process: "subprocess.Popen | Started", path: Path) -> None:
        """Until `process` has written the file."""
        deadline = time.monotonic() + 120
        while not path.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, process: "subprocess.Popen | Started", path: Path, stop: Callable[[int], object]) -> tuple[str, str]:
        """Output and error output of a `process` to whose number `stop` was done once it had written the file."""
        try:
            self.wait_for(process, path)
            stop(process.pid)
            return process.communicate(timeout=120)
        finally:
            process.kill()

    def checkpoint(self, step: int, *, name: str = "tiny", task: str = "15-1") -> Path:
        return self.folder / "checkpoints" / f"{task}-voc_{name}_{step}.pth"

    def results(self, *, name: str = "tiny", task: str = "15-1") -> Path:
        return self.folder / "results" / f"{DATE}_voc_{task}_{name}.csv"

    def logs(self, *, name: str = "tiny", task: str = "15-1") -> Path:
        return self.folder / "logs" / f"{task}-voc" / name

    def scalars(self, *, name: str = "tiny") -> dict[str, list[tuple[int, float]]]:
        """What TensorBoard shows: name -> (iteration, value)."""
        events = EventAccumulator(str(self.logs(name=name)), size_guidance={"scalars": 0}).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    def files(self) -> dict[Path, int]:
        """Every file with its time of change; locks with none: some releases of filelock empty them first."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path: 0 if path.name.endswith(".lock") else path.stat().st_mtime_ns for path in files}

    def take_checkpoints(self, other: "Workplace", *steps: int) -> None:
        """Copy the checkpoints of `steps` from `other`."""
        self.checkpoint(0).parent.mkdir(parents=True, exist_ok=True)
        for step in steps:
            shutil.copy2(other.checkpoint(step), self.checkpoint(step))


class Started:
    """A run in a process and session of its own, which tells what subprocess.Popen does."""

    def __init__(self, main: Main, arguments: list[str], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        words = (main, arguments, environment, Path(self._folder.name))
        self._process = get_context("forkserver").Process(target=_run, args=words)
        self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Output and error output, once it has ended."""
        self._process.join(timeout)
        assert self.returncode is not None, f"it did not end in {timeout} seconds"
        return tuple(Path(self._folder.name, name).read_text() for name in ("out", "err"))


def run_in(folder: Path, main: Main, *words: object) -> str:
    """What `main` prints in a process whose program is that in `folder`; what it needs of that it imports itself."""
    process = Started(partial(_as_in, folder, main), [*map(str, words)], {})
    said = process.communicate()
    assert process.returncode == 0, said
    return said[0]


def _as_in(folder: Path, main: Main, arguments: list[str]) -> int:
    """Forget the program of this repository."""
    own = {path.stem for path in REPOSITORY.iterdir()} - {"tests"}
    for name in [name for name in sys.modules if name.split(".")[0] in own]:
        del sys.modules[name]
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    code = main(arguments)
    assert Path(sys.modules["run"].__file__).parent == folder
    return code


def _run(main: Main, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
    """What such a process does; what it says comes to lie in `folder`."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    torch.set_num_threads(1)
    os.environ.update(environment)
    set_start_method("fork", force=True)  # of its loader processes, as it is in a run of the shell
    sys.exit(main(arguments))


def start_two(workplace: Workplace, *options: object, other: Sequence[object] = (), main: Main | None = None) -> list:
    """Both processes of a run, as a launcher on their host starts them; the second with `other` options, or `main`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    first = workplace.start(*options, RANK="0", **address)
    return [first, workplace.start(*options, *other, main=main, RANK="1", **address)]


def ends_of(processes: list[Started]) -> tuple[list[int], list[str]]:
    """Exit codes, and what was said on standard error."""
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def terminate(process: int) -> None:
    """Ask it to stop."""
    os.kill(process, signal.SIGTERM)


def load(path: Path) -> dict:
    """A checkpoint."""
    return torch.load(path, weights_only=True)


def assert_same(one: object, other: object) -> None:
    """Two checkpoints, or parts of them, are equal bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other
