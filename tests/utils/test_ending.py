"""Each end of a run has its line and its exit code; a fault of the program has none, so that its traceback is seen."""

import signal

import pytest

from utils.errors import NonFiniteError, UserError
from utils.stopping import RESUME, Stopped, ending_of

ENDINGS = [
    (UserError("--lr 0: above 0"), "error: --lr 0: above 0", 2),
    (NonFiniteError("the loss became nan"), "error: the loss became nan", 3),
    (OSError(28, "No space left on device", "logs/a"), "error: No space left on device: logs/a", 2),
    (OSError(5, "Input/output error"), "error: Input/output error: while writing", 2),
    (Stopped(signal.SIGTERM, "step 1 is saved"), "stopped by SIGTERM: step 1 is saved; the same command resumes", 143),
    (Stopped(signal.SIGINT), f"stopped by SIGINT: {RESUME}", 130),
    (RuntimeError("DataLoader worker (pid 3) is killed"), "error: a loader process died: DataLoader worker (pid 3)", 1),
]


@pytest.mark.parametrize(("error", "says", "code"), ENDINGS)
def test_an_end_is_one_line_and_a_code(error: BaseException, says: str, code: int):
    message, made = ending_of(error)
    assert message.startswith(says) and "\n" not in message and made == code


@pytest.mark.parametrize("error", [RuntimeError("NCCL error without peers"), KeyError("a"), AssertionError()])
def test_a_fault_of_the_program_is_no_end(error: Exception):
    assert ending_of(error) is None
