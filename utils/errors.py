"""What ends a run, or a tool, with one line instead of a traceback, and the exit code that says which."""

import sys
import unicodedata
from collections.abc import Callable
from typing import Any


class RunError(Exception):
    """Ends the run; the text is the whole message, on one line."""

    exit_code = 1


class UserError(RunError, ValueError):
    """Bad input. The text names what came, what is allowed and where to fix it."""

    exit_code = 2


class NonFiniteError(RunError):
    """A loss or a gradient is no finite number. The text names it, the iteration and the images."""

    exit_code = 3


def one_line(error: BaseException) -> str:
    """The message of `error` without a traceback.

    A DataLoader worker re-raises with its whole traceback in the text, whose last line is `module.Class: text`.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].split(f"{type(error).__name__}: ", 1)[-1].strip()


def ending(error: RunError | OSError) -> tuple[str, int]:
    """The line that says why, and the exit code; that of bad input where a file cannot be read or written."""
    if isinstance(error, OSError):
        message = f"{error.strerror or one_line(error)}: {error.filename or 'while writing'}"
        return f"error: {spelled_out(message)}", UserError.exit_code
    # That of a loader process has all that led to it before the line itself.
    message = one_line(error) if "Traceback (most recent" in str(error) else str(error).strip()
    return f"error: {spelled_out(message)}", error.exit_code


def spelled_out(text: str) -> str:
    """`text` with its control characters as they are written in a program: names of files and classes may hold what a
    terminal takes for a command, and ends of lines."""
    kinds = ("Cc", "Cf", "Zl", "Zp")
    return "".join(repr(letter)[1:-1] if unicodedata.category(letter) in kinds else letter for letter in text)


def exit_code(work: Callable[[Any], int | None], options: Any) -> int:
    """Do the `work` of a tool: its exit code, None is 0; or that of its error, whose line goes to standard error."""
    try:
        return work(options) or 0
    except (RunError, OSError) as error:
        message, code = ending(error)
    print(message, file=sys.stderr)
    return code
