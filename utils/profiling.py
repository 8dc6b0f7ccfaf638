"""A trace of a few iterations, to see where the time goes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from utils.files import atomic_path
from utils.log import log

Batch = TypeVar("Batch")

WARM_UP = 2
"""Iterations that come first: they set up kernels and memory that the others find ready."""

NUM_ENTRIES = 10


def profiled(batches: Iterable[Batch], *, iterations: int, path: Path) -> Iterator[Batch]:
    """Hand on `batches`; trace the work on `iterations` of them, after a warm-up, and on getting them.

    The trace goes to `path` for chrome://tracing, ui.perfetto.dev and TensorBoard's profiler; the operators that took
    most time, children left out, go to the log.
    """
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]

    def finish(profiler: profile) -> None:
        with atomic_path(path) as unfinished:
            profiler.export_chrome_trace(str(unfinished))
        sort_by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by, row_limit=NUM_ENTRIES, max_name_column_width=60)
        log.info(f"{table}\n{iterations} iterations traced in {path}: open it with ui.perfetto.dev")

    stages = schedule(wait=0, warmup=WARM_UP, active=iterations, repeat=1)
    with profile(activities=activities, schedule=stages, on_trace_ready=finish) as profiler:
        count = 0
        for batch in batches:
            yield batch
            profiler.step()
            count += 1
    if count < WARM_UP + iterations:
        log.warning(f"--profile {iterations}: {WARM_UP + iterations} iterations are needed, and an epoch has {count}")
