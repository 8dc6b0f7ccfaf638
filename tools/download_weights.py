"""Fetch ImageNet weights of a body: `python tools/download_weights.py resnet101_iabn_sync`.

What was cut off goes on, what is whole is left alone, and a file takes its name once its checksum is right.
pretrained/README.md has the names, the sources and the variables that change them.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.downloads.fetch import fetch
from tools.downloads.folder import DISK_FULL, locked, no_space
from tools.downloads.weights import DEFAULT, WEIGHTS
from utils.errors import UserError
from utils.files import atomic_write


def download(names: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Bring the weights of these `names` to `folder`; returns where each lies, whole and checked.

    UserError: a name, a source, a checksum or the disk does not serve. All names and variables are looked at first.
    """
    if unknown := [name for name in names if name not in WEIGHTS]:
        raise UserError(f"no weights {unknown[0]}: choose from {', '.join(WEIGHTS)}")
    archives = [WEIGHTS[name].archive.configured(environment) for name in names]
    with locked(folder):
        return [_brought(fetch(archive, folder), folder / archive.name) for archive in archives]


def _brought(found: Path, target: Path) -> Path:
    """`target`, with the content of `found`, which may be a source on this machine."""
    if found != target:
        try:
            with open(found, "rb") as source, atomic_write(target) as file:
                shutil.copyfileobj(source, file)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise no_space(target.parent, f"a copy of {found}", found.stat().st_size) from error
            raise
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 2 after an error that is the user's to mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Fetch ImageNet weights. See pretrained/README.md.")
    parser.add_argument("names", nargs="*", help=f"one or more of {', '.join(WEIGHTS)} (default: {DEFAULT})")
    parser.add_argument("--folder", type=Path, default=Path("pretrained"), help="where they go")
    options = parser.parse_args(arguments)
    names = options.names or [DEFAULT]
    try:
        paths = download(names, options.folder)
    except (UserError, OSError) as error:
        print(f"download: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("download: interrupted; the same command goes on from where this one stopped", file=sys.stderr)
        return 130
    for name, path in zip(names, paths, strict=True):
        print(f"{path}: whole; train from it with: --backbone {WEIGHTS[name].backbone} --pretrained {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
