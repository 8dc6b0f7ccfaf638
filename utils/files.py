"""Files that are written whole or not at all, and read within bounds."""

import contextlib
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError

DAY = 24 * 60 * 60
LARGEST_TEXT = 2**28
"""Bytes. No list, table or journal has more; a file that holds nothing but holes may have more than the memory."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """The name of an empty file beside `path`, to be written in the block and given that name at its end.

    By then it has been flushed to the disk: a reader, or a run that is killed half-way, sees the old file or the new
    one, never a part of one. What other processes left there half-written when they were killed goes. An OSError of
    the block names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name}.{socket.gethostname()}."
    _remove_left_behind(path, start)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{start}{os.getpid()}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        to_disk(temporary)
        # mkstemp gives 0600; a result is as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, name):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    with contextlib.suppress(OSError):  # not every file system knows how to flush a folder
        to_disk(path.parent)


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file open for writing that gets the name `path` once it is whole: see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, mode, newline=None if "b" in mode else "") as file:
        yield file


def to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path, advice: str, named: str = "") -> str:
    """What a text file in UTF-8 says. UserError, with `advice` at its end, where `path`, which is `named`, is none."""
    named = named or str(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{named} cannot be read (no regular file); {advice}")
        if (size := path.stat().st_size) > LARGEST_TEXT:
            raise UserError(f"{named} cannot be read (no text has {size:,} bytes); {advice}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UserError(f"{named} cannot be read ({reason}); {advice}") from error


def digest_of(path: Path) -> Any:
    """SHA-256 of what is in a file, of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest


def _remove_left_behind(path: Path, start: str) -> None:
    """Remove half-written files of `path`: those of processes of this host that are gone, and any that is a day old."""
    for left in path.parent.glob(f".{path.name}.*"):
        owner = left.name.removeprefix(start).split(".")[0] if left.name.startswith(start) else ""
        with contextlib.suppress(OSError):  # another process may have been faster
            if (owner.isdecimal() and not _lives(int(owner))) or left.stat().st_mtime < time.time() - DAY:
                left.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
