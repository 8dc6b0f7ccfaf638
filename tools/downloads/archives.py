"""Files out of tar and zip archives: in one pass, and never to a place outside the folder meant for them."""

import gzip
import os
import posixpath
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
LONGEST_PATH = 4096
"""Bytes; a zip keeps as the content of a link where it leads to."""


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

    Links to other files of the archive are left out. UserError: the archive is damaged, names a file outside of itself,
    links to one, or holds a device.
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


class _Entry(NamedTuple):
    """Anything in an archive."""

    name: str
    kind: str  # file, folder, link; or device, for what is none of these
    open: Callable[[], IO[bytes]]
    target: str = ""  # of a link: the path in the archive that it leads to


def _members(raw: IO[bytes], bar: tqdm) -> Iterator[Member]:
    is_zip = raw.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    raw.seek(0)
    for entry in (_zip_entries if is_zip else _tar_entries)(raw):
        if fault := _fault(entry):
            raise UserError(f"{raw.name} {fault}: it is not to be trusted")
        if entry.kind == "file":
            yield Member(str(PurePosixPath(entry.name)), entry.open)
        bar.update(max(0, raw.tell() - bar.n))


def _fault(entry: _Entry) -> str:
    """What makes `entry` one that nobody would pack who means well; "" where there is no such thing."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts:
        return f"names the {entry.kind} {_shown(entry.name)}, which lies outside"
    target = posixpath.normpath(entry.target)
    if entry.kind == "link" and (target.startswith("/") or target.split("/")[0] == ".."):
        return f"links {_shown(entry.name)} to {_shown(target)}, which lies outside"
    return f"holds the device {_shown(entry.name)}" if entry.kind == "device" else ""


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _tar_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with tarfile.open(fileobj=raw) as tar:
        for info in tar:
            kind = "file" if info.isfile() else "folder" if info.isdir() else "device"
            kind = "link" if info.issym() or info.islnk() else kind
            # A symbolic link starts from its own folder, a hard one from the top.
            start = posixpath.dirname(info.name) if info.issym() else ""
            yield _Entry(info.name, kind, partial(tar.extractfile, info), posixpath.join(start, info.linkname))


def _zip_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(raw) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}.get(mode, "device")
            kind = "folder" if info.is_dir() else kind
            target = ""
            if kind == "link":
                with archive.open(info) as file:
                    target = posixpath.join(posixpath.dirname(info.filename), os.fsdecode(file.read(LONGEST_PATH)))
            yield _Entry(info.filename, kind, partial(archive.open, info), target)
