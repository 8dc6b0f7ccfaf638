"""Files that are whole or absent."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from utils.files import atomic_write


def test_writes_bytes_and_text(tmp_path):
    with atomic_write(tmp_path / "new" / "a.bin") as file:
        file.write(b"\x00\n\xff")
    with atomic_write(str(tmp_path / "new" / "a.txt"), "w") as file:
        file.write("one\ntwo\r\n")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"\x00\n\xff"
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"one\ntwo\r\n"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.bin", "a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [b"old", None])
def test_an_exception_midway_leaves_what_was_there(tmp_path, before, error):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half of the n")
        file.flush()
        raise error
    assert list(tmp_path.iterdir()) == ([path] if before is not None else [])
    if before is not None:
        assert path.read_bytes() == before


def test_a_reader_sees_old_or_new(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_readable_as_the_user_has_them(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.bin") as file:
            file.write(b"x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


KILLED = """
import os, signal, sys
from utils.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half of the n")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_midway_leaves_the_old_file_and_the_next_one_clears_up(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    process = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2])
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = [other for other in tmp_path.iterdir() if other != path]
    assert left.read_bytes() == b"half of the n"
    with atomic_write(path) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"new"


def test_only_what_nobody_writes_any_more_is_cleared_up(tmp_path):
    """Files of processes that live, or that another host may have: until they are a day old."""
    path, host = tmp_path / "a.bin", socket.gethostname()
    living, elsewhere, others = (
        tmp_path / name
        for name in (f".a.bin.{host}.{os.getpid()}.x", ".a.bin.elsewhere.1.x", f".b.bin.{host}.999999.x")
    )
    for left in (living, elsewhere, others):
        left.touch()
    with atomic_write(path):
        pass
    assert living.exists() and elsewhere.exists() and others.exists()
    for left in (living, elsewhere, others):
        os.utime(left, (0, 0))
    with atomic_write(path):
        pass
    assert not living.exists() and not elsewhere.exists() and others.exists()


def test_an_error_of_the_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.bin") and caught.value.errno == 28
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "a.bin"):
        (tmp_path / "another").read_bytes()
    assert caught.value.filename == str(tmp_path / "another")
