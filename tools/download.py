"""Fetch a data set and unpack it to the layout that the loaders read: `python tools/download.py voc data/voc`.

What was cut off goes on, what is whole is left alone, and the folder holds all of a data set or nothing of it.
data/README.md has the sources, the variables that change them, and the layouts.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.downloads import ade, cityscapes, voc
from tools.downloads.fetch import fetch
from tools.downloads.folder import DISK_FULL, DataFolder, locked, no_space
from tools.downloads.published import Archive, WrongChecksum, require_checksum
from tools.downloads.recipe import Counts, Recipe
from utils.errors import UserError

RECIPES = {"voc": voc.RECIPE, "ade": ade.RECIPE, "cityscapes": cityscapes.RECIPE}
ARCHIVES = "archives"
"""Folder of the archives, inside that of the data set."""


def download(dataset: str, folder: Path, environment: Mapping[str, str] = os.environ) -> tuple[Counts, bool]:
    """Bring `dataset` to `folder`; returns the images of each split, and whether anything was left to do.

    UserError: a source, a checksum, an archive or the disk does not serve, or `folder` holds something else.
    """
    recipe = RECIPES[dataset]
    place = DataFolder(folder, dataset, recipe.contents)
    with locked(folder):
        if record := place.record():
            return record["images"], False
        if not place.is_unpacked():
            place.require_room()
            archives = [archive.configured(environment) for archive in recipe.archives]
            paths = _obtain(archives, folder, Path(environment.get("CITYSCAPES_ZIPS") or folder), recipe.by_hand)
            _unpack(recipe, archives, paths, place)
        if environment.get("KEEP_ARCHIVES") != "1":
            _delete_archives(recipe, folder / ARCHIVES)
        return place.place()["images"], True


def _obtain(archives: Sequence[Archive], folder: Path, zips: Path, by_hand: str) -> list[Path]:
    """Where each archive lies, whole and checked: fetched, or in `zips` where no source is known."""
    brought = {archive: zips / archive.name for archive in archives if not archive.sources}
    if lacking := [str(path) for path in brought.values() if not path.is_file()]:
        raise UserError(f"no {' and no '.join(lacking)}\n{by_hand.format(folder=folder.resolve())}")
    for archive, path in brought.items():
        try:
            require_checksum(path, archive)
        except WrongChecksum as error:
            raise UserError(f"{error}: fetch it again, or set {archive.key}_SUM if it is meant") from None
    return [brought.get(archive) or fetch(archive, folder / ARCHIVES) for archive in archives]


def _unpack(recipe: Recipe, archives: Sequence[Archive], paths: Sequence[Path], place: DataFolder) -> None:
    checksums = {archive.name: archive.checksum for archive in archives}
    try:
        with place.staging() as root:
            counts = recipe.unpack(root, *paths)
            place.note(root, {"images": counts, "archives": checksums})
    except OSError as error:
        if error.errno in DISK_FULL:
            raise no_space(place.path, f"unpacking {place.dataset}", recipe.unpacked_bytes) from error
        raise
    published = all(archive.checksum == checksums[archive.name] for archive in recipe.archives)
    if published and counts != recipe.published:
        print(f"download: warning: {_told(counts)}; known is {_told(recipe.published)}", file=sys.stderr)


def _delete_archives(recipe: Recipe, folder: Path) -> None:
    for archive in recipe.archives:
        (folder / archive.name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or holds something else
        folder.rmdir()


def _told(counts: Counts) -> str:
    return ", ".join(f"{count} images in {split}" for split, count in counts.items())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 2 after an error that is the user's to mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Fetch a data set and unpack it. See data/README.md.")
    parser.add_argument("dataset", choices=RECIPES)
    parser.add_argument("folder", type=Path, help="where it goes")
    options = parser.parse_args(arguments)
    try:
        counts, fetched = download(options.dataset, options.folder)
    except (UserError, OSError) as error:
        print(f"download: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("download: interrupted; the same command goes on from where this one stopped", file=sys.stderr)
        return 130
    print(f"{options.folder}: {_told(counts)}{'' if fetched else ', already there'}")
    print(f"next: sh scripts/check_data.sh {RECIPES[options.dataset].check_as} {shlex.quote(str(options.folder))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
