"""One run at a time writes to a place: a lock that goes with its process, however that ends."""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from utils.errors import UserError
from utils.log import log

UNKNOWN = {"process": "unknown", "host": "an unknown host", "since": "an unknown time"}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` during the block; the file says who does, and is gone afterwards.

    UserError, naming the process, if another one holds it. The file of a process that is gone is taken over with a
    notice. Where the file system knows no locks there is a warning, and none.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _acquired(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        with contextlib.suppress(OSError):  # not empty: there is something to keep
            for folder in made:
                folder.rmdir()


def _acquired(path: Path) -> IO[str]:
    while True:
        # Not to be opened twice in a process: closing either one would let go of the lock.
        file = open(path, "a+")  # noqa: SIM115
        try:
            # Of the process and not of the open file, which the loader processes inherit and may outlive it with.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning(f"{path} cannot be locked ({error.strerror}): see to it that no other run writes there")
                return file
            holder = _holder(file)
            file.close()
            raise UserError(
                f"{path.parent} is in use: process {holder['process']} on {holder['host']} has run there under the "
                f"same name since {holder['since']}; wait for it, stop it, or give another --name"
            ) from None
        # The one before may have removed the file between opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    if os.fstat(file.fileno()).st_size:
        holder = _holder(file)
        log.info(
            f"the run of process {holder['process']} on {holder['host']}, begun {holder['since']}, was cut off: "
            f"its lock {path} is taken over"
        )
    file.truncate(0)
    now = datetime.now().isoformat(sep=" ", timespec="seconds")
    file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n")
    file.flush()
    return file


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        return UNKNOWN | json.loads(file.read())
    except (ValueError, TypeError):
        return UNKNOWN
