"""One logger for the whole program: `from utils.log import log`. The entry point sets it up, once."""

import contextlib
import io
import logging
import os
import sys

from tqdm import tqdm

log = logging.getLogger("rcil")


class _AboveBars(logging.Handler):
    """Prints records above the progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stdout is None:  # it was closed before the start
            return
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            # Its reader left, or its disk is full: no reason to stop a training.
            with contextlib.suppress(OSError, ValueError):
                print(f"warning: nothing more is said: standard output: {error}", file=sys.stderr, flush=True)
            with contextlib.suppress(OSError, ValueError):  # all that follows, and what is left of this, goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception:
            self.handleError(record)


class _Format(logging.Formatter):
    """The text alone; its level before it where that is worth a look."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


def setup_logging(is_main: bool, debug: bool = False) -> None:
    """Send the log to standard output: all of it in the main process, warnings and worse in the others."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know ASCII alone
    handler = _AboveBars()
    handler.setFormatter(_Format("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    if not is_main:
        log.setLevel(logging.WARNING)
    else:
        log.setLevel(logging.DEBUG if debug else logging.INFO)
