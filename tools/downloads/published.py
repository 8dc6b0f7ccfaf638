"""A published file: where it is to be had, and by which checksum it is known."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError

CHUNK = 1 << 20
HTTP = ("http://", "https://")
PREFIX = "-prefix"
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, f"sha256{PREFIX}": 8}
"""Hexadecimal digits of each kind of checksum; of a prefix, those that torchvision writes into its file names."""


@dataclass(frozen=True)
class Archive:
    """A published file. The variables KEY_URL and KEY_SUM take the place of its sources and its checksum."""

    key: str
    name: str
    checksum: str  # ALGORITHM:HEX
    sources: tuple[str, ...] = ()  # addresses, or files of this machine, to try in turn; none: fetched by hand
    page: str = ""  # where a browser gets it, to be told when no source serves

    def configured(self, environment: Mapping[str, str]) -> "Archive":
        """With what `environment` says. UserError where it says nothing usable."""
        sources = tuple(environment.get(f"{self.key}_URL", "").split()) or self.sources
        for source in sources:
            if not source.startswith(HTTP) and not Path(source).is_file():
                raise UserError(f"{self.key}_URL {source}: neither http://, https:// nor a file of this machine")
        checksum = environment.get(f"{self.key}_SUM", "").lower() or self.checksum
        algorithm, _, digits = checksum.partition(":")
        if len(digits) != DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digits):
            raise UserError(f"{self.key}_SUM {checksum}: ALGORITHM:HEX with one of {', '.join(DIGITS)} is needed")
        return replace(self, sources=sources, checksum=checksum)


class WrongChecksum(UserError):
    """A file that is not the one that was asked for."""


def require_checksum(path: Path, archive: Archive) -> None:
    """WrongChecksum unless `path` is `archive`."""
    kind, _, expected = archive.checksum.partition(":")
    algorithm = kind.removesuffix(PREFIX)
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file, progress_bar(f"checking {archive.name}", path.stat().st_size) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest()[: len(expected)] != expected:
        raise WrongChecksum(f"{path} has checksum {algorithm}:{digest.hexdigest()}, not {archive.checksum}")


def progress_bar(title: str, total: int | None, done: int = 0) -> tqdm:
    """A bar in bytes, of which `done` were there before; silent where the output is no terminal."""
    return tqdm(desc=title, total=total, initial=done, unit="B", unit_scale=True, disable=None)
