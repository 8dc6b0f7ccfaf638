"""How the commands of this folder end."""

import sys
from collections.abc import Callable
from typing import Any

from utils.errors import RunError, one_line


def exit_code(work: Callable[[Any], int | None], options: Any) -> int:
    """Do `work`: its exit code, None is 0; or that of its error, of which one line goes to standard error."""
    try:
        return work(options) or 0
    except RunError as error:
        said, code = one_line(error), error.exit_code
    except OSError as error:
        said, code = f"{error.strerror or error}: {error.filename or 'while writing'}", 2
    print(f"error: {said}", file=sys.stderr)
    return code
