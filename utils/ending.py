"""How a run ends that cannot continue: one line that says why, and an exit code."""

import signal

from utils.distributed import lost_contact
from utils.errors import RunError, one_line
from utils.interrupt import Stopped

RESUME = "the same command resumes from the last checkpoint"


def ending_of(error: BaseException) -> tuple[str, int] | None:
    """Message and exit code: 2 for bad input, 3 for a loss or gradient that is not finite, 1 for a process that died,
    and 128 + N if signal N stopped the run. None for what is a fault of the program."""
    if isinstance(error, RunError):
        return f"error: {one_line(error)}", error.exit_code
    if isinstance(error, OSError):
        return f"error: {error.strerror or one_line(error)}: {error.filename or 'while writing'}", 2
    if isinstance(error, Stopped):
        where = f"{error.where}; the same command resumes there" if error.where else RESUME
        return f"stopped by {signal.Signals(error.signum).name}: {where}", error.exit_code
    if isinstance(error, RuntimeError) and lost_contact(error):
        return f"error: contact with another process was lost, which torchrun names below; {RESUME}", 1
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        cure = "too little memory is the usual reason: lower --num_workers or --batch_size"
        return f"error: a loader process died: {one_line(error)}; {cure}; {RESUME}", 1
    return None
