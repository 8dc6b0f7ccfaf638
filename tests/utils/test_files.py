"""Files that are whole or absent."""

import os
import stat

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
