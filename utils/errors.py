"""What ends a run with one line instead of a traceback, and the exit code that says which."""


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
