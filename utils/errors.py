"""The one exception that is the user's to mend: its text is the whole message, on one line."""


class UserError(ValueError):
    """Bad input. The text names what came, what is allowed and where to fix it; run.py exits with code 2."""


def one_line(error: BaseException) -> str:
    """The message of `error` without a traceback.

    A DataLoader worker re-raises with its whole traceback in the text, whose last line is `module.Class: text`.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].split(f"{type(error).__name__}: ", 1)[-1].strip()
