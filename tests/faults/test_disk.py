"""A disk that is full or may not be written: one line, and what was there before is still there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workplace import REPOSITORY, Workplace

UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
"""A name space of one's own, in which file systems can be mounted that nobody else sees."""

SCRIPT = """
mount -t tmpfs -o size=6m tmpfs "$1" && cp "$2" "$1" || exit 99
$3
shift 3
"$@"
echo "exit code $?"
ls -A "$0"
cmp "$0"/*_0.pth "$OLD" && echo the same
"""


def run_on_small_disk(workplace: Workplace, trained: Workplace, before: str) -> subprocess.CompletedProcess:
    """Step 1 with its checkpoints on a disk of 6 MB, of which step 0 has taken most; `before`: what is done to it."""
    folder = workplace.checkpoint(0).parent
    folder.mkdir()
    old = trained.checkpoint(0)
    command = [sys.executable, REPOSITORY / "run.py", *workplace.options("--step", 1, "--no-visualize")]
    words = [*UNSHARE, "sh", "-c", SCRIPT, folder, folder, old, before.format(folder=folder), *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "OLD": str(old)}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no file system of one's own here: {done.stderr}")
    return done


@pytest.mark.parametrize(
    ("before", "says"),
    [("", "No space left on device"), ("mount -o remount,ro {folder}", "Read-only file system")],
)
def test_a_disk_that_cannot_be_written(trained: Workplace, workplace: Workplace, before: str, says: str):
    assert trained.checkpoint(0).stat().st_size + trained.checkpoint(1).stat().st_size > 6 * 2**20
    done = run_on_small_disk(workplace, trained, before)
    assert done.stderr.startswith(f"error: {says}: {workplace.checkpoint(0).parent}") and done.stderr.count("\n") == 1
    assert done.stdout.endswith("exit code 2\n15-1-voc_tiny_0.pth\nthe same\n"), done.stdout
    assert not workplace.results().exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("option", ["--checkpoint", "--logdir", "--results_dir"])
def test_a_folder_that_may_not_be_written(workplace: Workplace, option: str, capfd: pytest.CaptureFixture):
    folder = workplace.folder / "closed"
    folder.mkdir(mode=0o555)
    assert workplace.run("--step", 0, option, folder, "--no-visualize") == 2
    assert f"error: Permission denied: {folder}" in capfd.readouterr().err
    assert not list(Path(folder).iterdir())
