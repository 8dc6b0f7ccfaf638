"""Each end of a run has its line and its exit code; a fault of the program has none, so that its traceback is seen."""

import signal
from pathlib import Path

import pytest
import torch

from tests.helpers import run_processes
from utils.errors import NonFiniteError, UserError, ending
from utils.stopping import RESUME, Stopped, ending_of

ENDINGS = [
    (UserError("--lr 0: above 0"), "error: --lr 0: above 0", 2),
    (NonFiniteError("the loss became nan"), "error: the loss became nan", 3),
    (OSError(28, "No space left on device", "logs/a"), "error: No space left on device: logs/a", 2),
    (OSError(5, "Input/output error"), "error: Input/output error: while writing", 2),
    (Stopped(signal.SIGTERM, "step 1 is saved"), "stopped by SIGTERM: step 1 is saved; the same command resumes", 143),
    (Stopped(signal.SIGINT), f"stopped by SIGINT: {RESUME}", 130),
    (RuntimeError("DataLoader worker (pid 3) is killed"), "error: a loader process died: DataLoader worker (pid 3)", 1),
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried\n20 GiB"),
        "error: out of memory: CUDA out of memory. Tried 20",
        1,
    ),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: out of memory: DefaultCPUAllocator: can't", 1),
]


@pytest.mark.parametrize(("error", "says", "code"), ENDINGS)
def test_an_end_is_one_line_and_a_code(error: BaseException, says: str, code: int):
    message, made = ending_of(error)
    assert message.startswith(says) and "\n" not in message and made == code


@pytest.mark.parametrize("error", [RuntimeError("NCCL error without peers"), KeyError("a"), AssertionError()])
def test_a_fault_of_the_program_is_no_end(error: Exception):
    assert ending_of(error) is None


def test_an_error_of_nccl_keeps_its_reason(tmp_path: Path):
    """Among two processes; alone it is a fault of the program."""
    for said in run_processes(said_of_nccl, tmp_path):
        assert "contact with another process was lost: NCCL error: unhandled system error, socket refused" in said[0]
        assert "NCCL_SOCKET_IFNAME" in said[0] and len(said[1]) < 700 and said[1].count("x") < 310


def said_of_nccl(rank: int, folder: Path) -> list[str]:
    texts = ["NCCL error: unhandled system error,\nsocket refused", f"NCCL {'x ' * 1000}"]
    return [ending_of(RuntimeError(text))[0] for text in texts]


def test_what_a_terminal_would_obey_is_spelled_out():
    """Names of files may hold anything."""
    for error in (
        UserError("image a\x1b[2J\nb\u202e.png is none"),
        OSError(2, "No such file", "a\x1b[2J\nb\u202e.png"),
    ):
        message, code = ending(error)
        assert r"a\x1b[2J\nb\u202e.png" in message and "\n" not in message and "\x1b" not in message and code == 2
