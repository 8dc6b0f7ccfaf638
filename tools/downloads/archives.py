"""Files out of tar and zip archives: in one pass, and never to a place outside the folder meant for them."""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from tools.downloads.published import CHUNK, progress_bar
from utils.errors import UserError, one_line

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
"""What reading a broken archive raises."""
ZIP_MAGIC = b"PK\x03\x04"


class Member(NamedTuple):
    """A regular file in an archive."""

    name: str
    open: Callable[[], IO[bytes]]  # to be called before the next member is asked for

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


@contextmanager
def opened(archive: Path) -> Iterator[Iterator[Member]]:
    """The regular files of a tar, compressed or not, or of a zip, in the order of the archive.

    Links and devices are left out. UserError: the archive is damaged, or names a file outside of itself.
    """
    try:
        with open(archive, "rb") as raw, progress_bar(f"unpacking {archive.name}", archive.stat().st_size) as bar:
            yield _members(raw, bar)
    except DAMAGE as error:
        raise UserError(f"{archive} is damaged ({one_line(error)}): delete it and fetch it again") from error


def unpack(archive: Path, root: Path, wanted: Callable[[str], object], prefix: str = "") -> set[str]:
    """Write the files whose name without `prefix` is `wanted` below `root`; returns these names.

    Written straight to their names: `root` is a staging folder. UserError as for `opened`.
    """
    names = set()
    with opened(archive) as members:
        for member in members:
            name = member.name.removeprefix(prefix)
            if wanted(name):
                write_file(root / name, member)
                names.add(name)
    return names


def write_file(path: Path, member: Member) -> None:
    """Write `member` to `path`, a piece at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, open(path, "wb") as target:
        while chunk := source.read(CHUNK):
            target.write(chunk)


def _members(raw: IO[bytes], bar: tqdm) -> Iterator[Member]:
    is_zip = raw.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    raw.seek(0)
    for name, open_member in (_zip_files if is_zip else _tar_files)(raw):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{raw.name} names the file {name}, which lies outside: it is not to be trusted")
        yield Member(str(path), open_member)
        bar.update(max(0, raw.tell() - bar.n))


def _tar_files(raw: IO[bytes]) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with tarfile.open(fileobj=raw) as tar:
        for info in tar:
            if info.isfile():
                yield info.name, partial(tar.extractfile, info)


def _zip_files(raw: IO[bytes]) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(raw) as archive:
        for info in archive.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield info.filename, partial(archive.open, info)
