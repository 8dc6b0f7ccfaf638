"""Large files over HTTP: what was cut off goes on, and a file takes its name once its checksum is right."""

import os
import shutil
import time
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tools.downloads.folder import DISK_FULL, no_space
from tools.downloads.published import CHUNK, HTTP, Archive, WrongChecksum, progress_bar, require_checksum
from utils.errors import UserError, one_line

TIMEOUT = 30
"""Seconds without a byte after which a connection counts as dead."""
PAUSES = (0, 3, 15)
"""Seconds before each round through the sources."""


def fetch(archive: Archive, folder: Path) -> Path:
    """Where `archive` lies, whole and checked: in `folder`, or where a source on this machine has it.

    UserError: no source serves it, with the reason of each, or the disk is full. What came is kept in NAME.part
    for the next call, unless its checksum is wrong.
    """
    target = folder / archive.name
    if target.is_file():
        try:
            require_checksum(target, archive)
        except WrongChecksum as error:
            raise UserError(f"{error}: delete it, or set {archive.key}_SUM if it is meant") from None
        return target
    sources, reasons = list(archive.sources), {}
    for pause in PAUSES:
        time.sleep(pause if sources else 0)
        for source in tuple(sources):
            try:
                return _fetch_from(source, archive, target)
            except (OSError, HTTPException, WrongChecksum) as error:
                reasons[source] = one_line(error)
                if isinstance(error, WrongChecksum) or _is_refusal(error):
                    sources.remove(source)
    told = "; ".join(f"{source}: {reason}" for source, reason in reasons.items())
    raise UserError(
        f"{archive.name} could not be fetched ({told}); run the same command again, which goes on from where this one "
        f"stopped, or name another source in {archive.key}_URL"
        + (f", or save it from {archive.page} as {target}" if archive.page else "")
    )


def _fetch_from(source: str, archive: Archive, target: Path) -> Path:
    if not source.startswith(HTTP):
        require_checksum(Path(source), archive)
        return Path(source)
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    print(f"{archive.name} from {source}", flush=True)
    _receive(source, part)
    try:
        require_checksum(part, archive)
    except WrongChecksum:
        part.unlink()  # going on from it would be wrong for ever
        raise
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    return target


def _receive(source: str, part: Path) -> None:
    """Bring `part` to its full length, asking for the rest again as long as every answer brings more."""
    while True:
        before = _size(part)
        try:
            return _receive_once(source, part)
        except (OSError, HTTPException):
            if _size(part) <= before:
                raise


def _receive_once(source: str, part: Path) -> None:
    start = _size(part)
    headers = {"User-Agent": "rcil-download"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(source, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to send; the checksum tells whether that is true
        raise
    if response.headers.get_content_type() == "text/html":  # of a login or an error, and no reason to drop the part
        response.close()
        raise ConnectionError("the answer is a web page")
    if response.status != HTTPStatus.PARTIAL_CONTENT:  # a server that knows no ranges starts over
        start = 0
    length = response.headers["Content-Length"]
    total = start + int(length) if length else None
    if total and total - start > shutil.disk_usage(part.parent).free:
        response.close()
        raise no_space(part.parent, f"the rest of {part.stem}", total - start)
    try:
        with response, open(part, "ab" if start else "wb") as file, progress_bar(part.stem, total, start) as bar:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    except OSError as error:
        if error.errno in DISK_FULL:
            raise no_space(part.parent, f"the rest of {part.stem}", total and total - _size(part)) from error
        raise
    # read1 does not notice a connection that ends early.
    if total and _size(part) < total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _is_refusal(error: Exception) -> bool:
    """Whether asking again would be answered the same, as with a file that is not there (HTTP 4xx)."""
    return isinstance(error, HTTPError) and error.code < HTTPStatus.INTERNAL_SERVER_ERROR


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
