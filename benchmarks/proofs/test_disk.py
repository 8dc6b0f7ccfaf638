"""A disk that is full or may not be written: one line, and what was there before is still there."""

import ctypes
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.workplace import Workplace

NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000
"""Of unshare(2)."""


def on_small_disk(folder: Path, old: Path, options: str, arguments: list[str]) -> int:
    """The run with `folder` on a disk of 5 MB that no other process sees; `old` takes most of it.

    `options`: of a second mount over the first. Prints the files that are left but the lock, and whether `old` is.
    """
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None).unshare(NEW_MOUNTS | (NEW_USERS if user else 0)):
        return 99
    if user:
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(content)
    mount = ["mount", "-t", "tmpfs", "-o"]
    for done in (["mount", "--make-rprivate", "/"], [*mount, "size=5m", "tmpfs", folder]):
        if subprocess.run(done, capture_output=True).returncode:
            return 99
    shutil.copy(old, folder)
    if options and subprocess.run(["mount", "-o", options, folder], capture_output=True).returncode:
        return 99
    code = Workplace.main(arguments)
    print(sorted(path.name for path in folder.iterdir() if path.suffix != ".lock"))
    print("the same" if (folder / old.name).read_bytes() == old.read_bytes() else "another")
    return code


@pytest.mark.parametrize(
    ("options", "says"), [("", "No space left on device"), ("remount,ro", "Read-only file system")]
)
def test_a_disk_that_cannot_be_written(trained: Workplace, workplace: Workplace, options: str, says: str):
    old, folder = trained.checkpoint(0), workplace.checkpoint(0).parent
    assert old.stat().st_size + trained.checkpoint(1).stat().st_size > 5 * 2**20
    folder.mkdir()
    process = workplace.start("--step", 1, "--no_visualize", main=partial(on_small_disk, folder, old, options))
    out, err = process.communicate()
    if process.returncode == 99:
        pytest.skip(f"no file system of one's own here: {err}")
    assert process.returncode == 2
    assert err.startswith(f"error: {says}: {folder}") and err.count("\n") == 1, err
    assert out.endswith(f"['{old.name}']\nthe same\n"), out
    assert not workplace.results().exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("option", ["--checkpoint", "--logdir", "--results_dir"])
def test_a_folder_that_may_not_be_written(workplace: Workplace, option: str, capfd: pytest.CaptureFixture):
    folder = workplace.folder / "closed"
    folder.mkdir(mode=0o555)
    assert workplace.run("--step", 0, option, folder, "--no_visualize") == 2
    assert f"error: Permission denied: {folder}" in capfd.readouterr().err
    assert not list(Path(folder).iterdir())
