"""The power fails: of every file there is what was flushed to the disk, under the names that were. Nothing is lost that
a checkpoint counts as done, and the same command ends the run as one that was left alone."""

import os
import random
import stat
from pathlib import Path

import pytest

import checkpoints
from metrics.report import Reporter
from metrics.results import read_journal
from tests.workplace import Workplace, assert_same, load


class PowerFailure(BaseException):
    """No part of the program sees to it."""


class Disk:
    """What a disk holds for good: of a file the bytes of its last fsync, of a folder the names of its last one.

    Folders themselves are never lost.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.content: dict[int, bytes] = {}
        self.names: dict[str, dict[str, int]] = {}
        self._fsync = os.fsync
        patch.setattr("os.fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        """As os.fsync, and takes note."""
        self._fsync(descriptor)
        status, path = os.fstat(descriptor), os.readlink(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(status.st_mode):
            files = [entry for entry in os.scandir(path) if entry.is_file()]
            self.names[path] = {entry.name: entry.inode() for entry in files}
        else:
            self.content[status.st_ino] = Path(path).read_bytes()

    def fail(self, folder: Path) -> None:
        """Leave in `folder` what the disk holds."""
        for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            for path in [path for path in place.iterdir() if path.is_file()]:
                path.unlink()
            for name, inode in self.names.get(str(place), {}).items():
                (place / name).write_bytes(self.content.get(inode, b""))


def told(workplace: Workplace) -> list[dict]:
    events = read_journal(workplace.results().with_suffix(".jsonl"))
    return [event | {"time": 0} for event in events if event["event"] != "run"]


class Fuse:
    """The power fails before a random figure of the run is told, or just after a checkpoint was written."""

    def __init__(self, patch: pytest.MonkeyPatch, chance: random.Random) -> None:
        self.left, self.after_saving = chance.randrange(1, 14), chance.random() < 0.5
        tell, write = Reporter.losses, checkpoints.save_checkpoint
        patch.setattr(Reporter, "losses", lambda *told, **named: self.figure() or tell(*told, **named))
        patch.setattr(checkpoints, "save_checkpoint", lambda *told: write(*told) or self.saved())

    def figure(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.after_saving:
            raise PowerFailure

    def saved(self) -> None:
        if self.left < 0 and self.after_saving:
            raise PowerFailure


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_that_was_saved(trained: Workplace, workplace: Workplace, seed: int):
    """It fails again and again."""
    chance, words = random.Random(seed), ["--step", 0, 1, "--no_visualize", "--save_minutes", 0.0001]
    failures, ended = 0, False
    while not ended:
        assert failures < 60, "it comes no further"
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch)
            Fuse(patch, chance)
            # What an earlier failure left is on the disk.
            for path in [workplace.folder, *workplace.folder.rglob("*")]:
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
            try:
                assert workplace.run(*words) == 0
                ended = True
            except PowerFailure:
                failures += 1
                disk.fail(workplace.folder)
    assert failures >= 2
    for step in (0, 1):
        assert_same(load(workplace.checkpoint(step)), load(trained.checkpoint(step)))
    assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert told(workplace) == told(trained)
    expected, shown = trained.scalars(), workplace.scalars()
    assert shown.keys() == expected.keys()
    # How fast it was is another matter.
    assert all({*shown[tag]} == {*expected[tag]} for tag in expected if not tag.startswith("speed_"))


def test_zeros_in_the_place_of_the_last_lines_are_dropped(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"event": "run"}\n{"event": "los' + "\0" * 300)
    assert read_journal(path) == [{"event": "run"}]
