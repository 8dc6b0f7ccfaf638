"""Progress of long work: a bar on a terminal, and a line a minute where the output goes to a file."""

import contextlib
import io
import sys
from collections.abc import Iterable

from tqdm import tqdm

SECONDS = 60.0
"""Between two lines."""


class _Lines(tqdm):
    """A bar that is a line of standard error from time to time."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Say how far it is; tqdm asks with a text, an empty one, where a bar is to be wiped out."""
        if msg is None:
            with contextlib.suppress(OSError, ValueError):  # its reader left: no reason to stop the work
                print(self, file=sys.stderr, flush=True)


def progress(
    work: Iterable | None = None,
    title: str = "",
    *,
    unit: str,
    total: int | None = None,
    is_main: bool = True,
) -> tqdm:
    """`work`, or without it what `update` counts, with its progress shown by the main process."""
    options = {"desc": title, "unit": unit, "total": total, "leave": False}
    if not is_main or sys.stderr is None or sys.stderr.isatty():  # None: it was closed before the start
        return tqdm(work, dynamic_ncols=True, disable=None if is_main else True, **options)
    form = "{desc}: {n_fmt}/{total_fmt} {unit}, {remaining} left"
    # Its own output goes nowhere: it may write more than `display` says.
    lines = {"bar_format": form, "mininterval": SECONDS, "maxinterval": SECONDS, "miniters": 1, "delay": SECONDS}
    return _Lines(work, file=io.StringIO(), **lines, **options)
