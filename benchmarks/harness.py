"""What all benchmarks share: timing two ways of doing one thing in turn, a table, a JSON file, the machine's rate."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from utils.files import atomic_write

Action = Callable[[], object]

RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Comparison:
    """Median seconds of the obvious way and of ours, run in turn, and the largest relative difference of results."""

    subject: str
    obvious: float
    ours: float
    difference: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.obvious / self.ours


def compare(
    subject: str, obvious: Action, ours: Action, *, repeats: int, warmup: int = 1, difference: float | None = None
) -> Comparison:
    """Time both in turn, so that a busy spell of the machine hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(warmup + repeats):
        for action, taken in zip((obvious, ours), times, strict=True):
            elapsed = seconds(action)
            if number >= warmup:
                taken.append(elapsed)
    return Comparison(subject, *map(statistics.median, times), difference=difference)


def median_seconds(action: Action, *, repeats: int, warmup: int = 1) -> float:
    """Median wall-clock seconds of one call."""
    return statistics.median([seconds(action) for _ in range(warmup + repeats)][warmup:])


def seconds(action: Action) -> float:
    """Wall-clock seconds of one call, the work on the GPU included."""
    _wait_for_gpu()
    start = time.perf_counter()
    action()
    _wait_for_gpu()
    return time.perf_counter() - start


def relative_difference(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is expected, in float64."""
    expected = expected.detach().double()
    return float((ours.detach().double() - expected).norm() / expected.norm())


def check(what: str, difference: float, allowed: float) -> float:
    """`difference` again; the benchmark ends here if it is above what is `allowed`: no time of a wrong result."""
    if not difference <= allowed:
        sys.exit(f"{what}: ours differs from the obvious formulation by {difference:.1e}, allowed {allowed:.0e}")
    return difference


def matrix_rate(dtype: torch.dtype = torch.float32) -> float:
    """Best of ten products of square matrices, in operations per second: two for each multiplication."""
    size = 8192 if torch.cuda.is_available() else 2048
    a, b = (torch.randn(size, size, device=device(), dtype=dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(10))


def peak_memory(module: str, *arguments: object) -> float:
    """Peak memory in bytes of `python -m module ARGUMENTS`, a process of its own, above what it held before its work.

    That program prints the two as its last line: see `print_peak`.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])


def print_peak(work: Action) -> None:
    """Do `work` and print by how many bytes the peak of memory rose: of the GPU where there is one."""
    before = peak_bytes()
    work()
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """The peak of memory of this process so far: of the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Not resource.getrusage: a child process starts with the peak of its parent there.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    sys.exit("peak memory is read from /proc/self/status, which Linux alone has")


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    """Where the benchmarks compute."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def parser(description: str, *, repeats: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--repeats", type=int, default=repeats, help="timed calls of each, after one that warms up")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return made


def report(name: str, out: Path, rows: Sequence[Comparison], **more: Any) -> None:
    """Print comparisons as a table and write them, with `more` figures, to out/name.json."""
    info = machine()
    print(", ".join(f"{key} {value}" for key, value in info.items() if value is not None))
    if rows:
        width = max(len(row.subject) for row in rows)
        print(f"{'':<{width}}   obvious      ours   ratio  difference")
        for row in rows:
            difference = "-" if row.difference is None else f"{row.difference:.1e}"
            print(f"{row.subject:<{width}}  {_time(row.obvious)} {_time(row.ours)}  {row.ratio:6.2f}  {difference:>10}")
    for key, value in more.items():
        print(f"{key.replace('_', ' ')}: {_shown(value)}")
    content = {"machine": info, "comparisons": [asdict(row) | {"ratio": row.ratio} for row in rows], **more}
    with atomic_write(out / f"{name}.json", "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")


def _time(value: float) -> str:
    return f"{value:7.3f} s" if value >= 1 else f"{value * 1e3:6.2f} ms"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
