"""A server and a small disk for the tests of downloads."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.file_server import FileServer, file_server
from tools.downloads import fetch


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """An HTTP server, and downloads that do not wait before they try it again."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSES", (0, 0))
    with file_server() as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB; `enlarge` makes it one of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = _mount(folder, "size=400k")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def enlarge(folder: Path) -> None:
    _mount(folder, "remount,size=4m").check_returncode()


def _mount(folder: Path, options: str) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
