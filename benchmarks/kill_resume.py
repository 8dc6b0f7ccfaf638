"""A slow proof rather than a benchmark: a run that is killed again and again ends as one that never was.

    python -m benchmarks.kill_resume [--kills 50] [--processes 1 2] [--seed 0] [--method RCIL ...] [--elastic]

A tiny run of three steps on shapes saves at nearly every iteration. SIGKILL comes at random moments, most of them after
the training began: to the whole run at once, as when the power fails, or to one process of two, or to a loader process.
After each kill every file with a final name must be whole; the same command resumes, until the kills are used up and a
last one ends the run. Where it ends earlier another one begins. All checkpoints, with the states of optimiser and
method, and all tables must then be those of a run that was left alone. Exit code 1 if one is not.

With --elastic torchrun starts the processes again by itself, all of them, each time that SIGKILL comes to one.

The method HOLD is the example of docs/ADDING_A_METHOD.md, in a copy of the tree: it has a layer of its own, looks at
the data before it trains, and acts at the end.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from methods import METHODS
from metrics.results import read_rows
from tests.worked_example import tree_with_the_method
from tools.make_shapes import make_shapes
from utils.checkpoint import fingerprint_of, load_checkpoint

ROOT = Path(__file__).parents[1]
EXAMPLE = "HOLD"
BEGUN = "training images, epochs"
"""What a run says when it begins to train a step."""

NETWORK = "--backbone resnet26 --width 8 --head_channels 16 --no_pretrained --lr 0.001 0.0001"
RUN = "--task 15-1 --overlap --step 0 1 2 --epochs 4 --crop_size 64 --num_workers 1 --name killed --date never"
BATCH = 4  # of all processes
MOST_SECONDS = 300


@dataclass(frozen=True)
class Attempt:
    """One start of the run, and its end."""

    victim: str
    seconds: float
    """From the start, or from the beginning of the training, to the kill."""
    reached: str
    """Where the newest checkpoint stands then."""
    left: int
    """Files that were being written."""


def command(folder: Path, data: Path, processes: int, *options: str, root: Path = ROOT, restarts: int = 0) -> list[str]:
    """The run, all its files below `folder`, by the program in `root`; what `options` say wins."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launcher += ["--max-restarts", str(restarts)]
    words = f"{NETWORK} {RUN} --batch_size {BATCH // processes} --save_minutes 0.0005 --print_interval 3".split()
    for option, name in (("checkpoint", "checkpoints"), ("logdir", "logs"), ("results_dir", "results")):
        words += [f"--{option}", str(folder / name)]
    started = [sys.executable, *(launcher if processes > 1 else []), str(root / "run.py")]
    return [*started, *words, "--data_root", str(data), *options]


@contextlib.contextmanager
def started(words: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
    """The command, its words going to `log`; killed at the end of the block, all its processes with it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    with open(log, "w") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            yield process
        finally:
            kill([process.pid, *descendants(process.pid)])
            process.wait()


def finish(words: Sequence[str], log: Path) -> None:
    """Run the command to its end. RuntimeError with its last words where it fails."""
    with started(words, log) as process:
        if process.wait(MOST_SECONDS):
            raise RuntimeError(log.read_text()[-3000:])


def descendants(process: int) -> list[int]:
    """Processes that `process` started, and those that they started."""
    found = []
    with contextlib.suppress(OSError):
        for child in map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def kill(processes: Sequence[int]) -> None:
    """SIGKILL to all of them."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def attempt(folder: Path, words: Sequence[str], chance: random.Random, duration: float) -> Attempt | None:
    """Start the run, `words`, and kill it within `duration` seconds of its training, or sometimes before that.

    None if it came to its end first.
    """
    early = chance.random() < 0.15
    delay = chance.uniform(0, 4 if early else duration)
    whole = chance.random() < 0.5
    log = folder / "log"
    with started(words, log) as process:
        until = time.monotonic() + MOST_SECONDS
        while not early and BEGUN not in log.read_text() and process.poll() is None:
            if time.monotonic() > until:
                raise RuntimeError(f"the run does not begin:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        begun = time.monotonic()
        while time.monotonic() < begun + delay and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is not None:
            if process.returncode:
                raise RuntimeError(log.read_text()[-3000:])
            return None
        children, workers = descendants(process.pid), workers_of(process.pid)
        if whole or not workers:
            victim = "all"
            kill([process.pid, *children])
        else:
            number = chance.randrange(len(workers))
            victim = f"process {number}" if "torch.distributed.run" in words else "loader"
            kill([workers[number]])
            process.wait(60)  # the others must end, too, and soon
    return Attempt(victim, time.monotonic() - begun, reached(folder), len(half_written(folder)))


def workers_of(process: int) -> list[int]:
    """Processes of the run that torchrun started, or loader processes of a run without it."""
    return [pid for pid in descendants(process) if b"run.py" in command_line(pid) and parent(pid) == process]


def restarted(folder: Path, words: Sequence[str], chance: random.Random, kills: int, duration: float) -> list[Attempt]:
    """The run, `words`, one process of which is killed each time within `duration` seconds of its training, and which
    torchrun starts again. RuntimeError where it does not come to its end by itself."""
    attempts, begun = [], 0
    log = folder / "log"
    with started(words, log) as process:
        while process.poll() is None and len(attempts) < kills:
            until = time.monotonic() + MOST_SECONDS
            while log.read_text().count(BEGUN) == begun and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            training = time.monotonic()
            time.sleep(chance.uniform(0, duration))
            begun, workers = log.read_text().count(BEGUN), workers_of(process.pid)
            if len(workers) > 1:
                number = chance.randrange(len(workers))
                kill([workers[number]])
                seconds = time.monotonic() - training
                attempts.append(Attempt(f"process {number}", seconds, reached(folder), len(half_written(folder))))
        if process.wait(MOST_SECONDS):
            raise RuntimeError(log.read_text()[-3000:])
    return attempts


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def half_written(folder: Path) -> list[Path]:
    """Files that a reader would not take for whole ones; locks are none."""
    return [path for path in folder.rglob(".*") if path.is_file() and "lock" not in path.name]


def reached(folder: Path) -> str:
    """Where the newest checkpoint stands. UserError if any file with a final name is not whole."""
    place = "nothing"
    for path in sorted((folder / "checkpoints").glob("*.pth")):
        saved = load_checkpoint(path, "a checkpoint")
        state, step = saved["trainer_state"], path.stem[-1]
        place = f"step {step}, " + (
            "finished" if state["finished"] else f"epoch {saved['epoch'] + 1}, iteration {state['iteration']}"
        )
    for path in (folder / "results").glob("*.csv"):
        read_rows(path)
    return place


def outcome(folder: Path) -> dict[str, str]:
    """A digest of what each checkpoint holds, the optimiser's state included, and of each table."""
    found = {path.name: path.read_text() for path in (folder / "results").glob("*.csv")}
    for path in (folder / "checkpoints").glob("*.pth"):
        found[path.name] = fingerprint_of(load_checkpoint(path, "a checkpoint"))
    return found


def torture(
    work: Path, data: Path, *options: str, processes: int, kills: int, seed: int, elastic: bool, root: Path = ROOT
) -> tuple[list[Attempt], list[str]]:
    """The attempts of runs that were killed `kills` times in all, and what differs in the end: nothing, it should."""
    calm = work / "calm"
    calm.mkdir(parents=True)
    start = time.monotonic()
    finish(command(calm, data, processes, *options, root=root), calm / "log")
    expected, duration = outcome(calm), time.monotonic() - start
    chance, attempts, wrong, number = random.Random(seed), [], [], 0
    while len(attempts) < kills:
        number += 1
        folder = work / f"killed{number}"
        folder.mkdir()
        words, ended = command(folder, data, processes, *options, root=root, restarts=kills * elastic), False
        # So that the kills are spread over the whole run, of which each attempt does a part only.
        part = duration * min(4 / kills, 0.4)
        if elastic:
            attempts += restarted(folder, words, chance, kills - len(attempts), part)
        while len(attempts) < kills and not ended and not elastic:
            made = attempt(folder, words, chance, part)
            ended = made is None
            attempts += [made] if made else []
        if not elastic:
            finish(words, folder / "log")
        found = outcome(folder)
        wrong += [f"{folder.name}: {name}" for name in expected | found if found.get(name) != expected.get(name)]
        wrong += [f"left half-written: {path}" for path in half_written(folder)]
    return attempts, wrong


def markdown(by_processes: dict[int, list[Attempt]]) -> str:
    """A row an attempt, the runs of one process and of two side by side."""
    title = " | ".join(f"{n} process{'es' * (n > 1)}: killed | after s | newest checkpoint then" for n in by_processes)
    lines = [f"| | {title} |", "|--:|" + ":--|--:|:--|" * len(by_processes)]
    for number in range(max(map(len, by_processes.values()))):
        cells = [
            f"{a.victim} | {a.seconds:.1f} | {a.reached}{', half a file beside it' * (a.left > 0)}"
            for a in (attempts[number] for attempts in by_processes.values() if number < len(attempts))
        ]
        lines.append(f"| {number + 1} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("kill_resume", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of each method with each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", nargs="+", default=["RCIL"], choices=[*METHODS, EXAMPLE])
    parser.add_argument("--elastic", action="store_true", help="torchrun itself starts the two processes again")
    options = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_shapes(work / "data", train=54, val=23, size=64, seed=46)
        (work / "tree").mkdir()
        tree = tree_with_the_method(work / "tree")
        for method in options.method:
            attempts: dict[int, list[Attempt]] = {}
            for processes in [2] if options.elastic else options.processes:
                choice = {"processes": processes, "kills": options.kills, "seed": options.seed}
                choice["elastic"] = options.elastic
                choice["root"] = tree if method == EXAMPLE else ROOT
                place = work / f"{method}-{processes}"
                attempts[processes], wrong = torture(place, work / "data", "--method", method, **choice)
                failed |= bool(wrong)
                print(
                    f"{method}, {processes} process(es), {options.kills} kills: {', '.join(wrong) or 'identical'}",
                    flush=True,
                )
            print(markdown(attempts), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
