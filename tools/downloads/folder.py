"""The folder that a data set is unpacked into: it holds all of it or none, and nothing of the user's is replaced."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class DataFolder:
    """Unpack into `staging`, then `place`. Both can be cut off anywhere: the next run does what is left.

    .DATASET.unpacking   what is being unpacked; thrown away by the next run
    .DATASET.unpacked    whole, and on its way to the places of its parts
    .DATASET.json        the last part to get there: with it, the data set is whole
    """

    path: Path
    dataset: str
    contents: tuple[str, ...]  # names that the data set has in the folder

    def record(self) -> dict | None:
        """What was written down about the data set that is here; None where there is none."""
        marker = self.path / self._marker
        whole = marker.is_file() and all((self.path / name).exists() for name in self.contents)
        return json.loads(marker.read_text()) if whole else None

    def is_unpacked(self) -> bool:
        """Whether only `place` is left to do."""
        return (self._unpacked / self._marker).is_file()

    def require_room(self) -> None:
        """UserError where something has the name of a part of the data set."""
        for name in self.contents:
            if (self.path / name).exists():
                raise UserError(
                    f"{self.path / name} is there already and is no whole {self.dataset} of this command, which never "
                    "replaces data: keep it and download nothing, or move it away, or name another folder"
                )

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder to unpack into, gone again after an error. The caller fills in `record` with `note`."""
        root = self.path / f".{self.dataset}.unpacking"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        try:
            yield root
            os.sync()  # else a power cut could leave empty files behind names that are in place
            os.replace(root, self._unpacked)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise

    def note(self, root: Path, record: dict) -> None:
        """Write into `root`, a staging folder, what `record` of the placed data set is to say."""
        (root / self._marker).write_text(json.dumps(record, indent=1) + "\n")

    def place(self) -> dict:
        """Move the parts of an unpacked data set to their places, the marker last; returns its record."""
        for part in sorted(self._unpacked.iterdir(), key=lambda path: path.name == self._marker):
            os.replace(part, self.path / part.name)
        self._unpacked.rmdir()
        return json.loads((self.path / self._marker).read_text())

    @property
    def _marker(self) -> str:
        return f".{self.dataset}.json"

    @property
    def _unpacked(self) -> Path:
        return self.path / f".{self.dataset}.unpacked"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` and keep a second download out of it. UserError where one is under way."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another download into {folder} is under way: wait for it, or stop it") from None
    except OSError:
        pass  # some network file systems cannot lock a folder
    try:
        yield
    finally:
        os.close(descriptor)


def no_space(folder: Path, what: str, needed: float | None) -> UserError:
    """The error to raise where `what` takes `needed` bytes (None: nobody knows) more than the disk of `folder` has."""
    free = tqdm.format_sizeof(shutil.disk_usage(folder).free, "B")
    takes = f"takes {tqdm.format_sizeof(needed, 'B')}" if needed else "is longer"
    return UserError(
        f"no space left on the disk of {folder}: {free} is free, {what} {takes}; make room and run the same command "
        "again, which goes on from where this one stopped"
    )
