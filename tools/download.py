"""Fetch data sets and ImageNet weights: `python tools/download.py voc data/voc`, `... weights resnet50_v2`.

A file is used if its checksum is right, and a folder holds all of a data set or nothing. See the pages beside the data.
"""

import csv
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from scipy.io import loadmat

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.constants import IGNORE_INDEX, voc_palette
from utils.errors import UserError
from utils.options import ToolParser, a_path


class Published(NamedTuple):
    """A published file: a line of download.csv."""

    name: str  # NAME_URL is the variable that takes the place of its sources
    file: str
    checksum: str  # ALGORITHM:HEX; of torchvision's files the first 8 digits, which are in the name of the file. None:
    # it is packed anew for who asks, and what is in it is checked
    sources: str  # addresses to try in turn; none: it wants an account, and is fetched by hand


with open(Path(__file__).with_suffix(".csv"), newline="") as table:
    PUBLISHED = {row["name"]: Published(**row) for row in csv.DictReader(table)}


CAMVID_CLASSES = Path(__file__).parents[1] / "data" / "camvid_classes.txt"
CAMVID_LABELS = "decea4aace1404bb60884cd2f00b87d7f273b611cb74a53de4e11006d062a518"
"""SHA-256 of all names and labels of CamVid, split by split and in their order."""


def fetch(published: Published, folder: Path) -> Path:
    """Where the file lies in `folder`, whole and checked. What came of it stays in FILE.part for the next call.

    UserError: no source serves it, with the reason of each, or another file has its name.
    """
    target, part = folder / published.file, folder / f"{published.file}.part"
    if target.exists():
        if fault := _fault(target, published.checksum):
            raise UserError(f"{target} {fault}: delete it and run the same command again")
        return target
    variable, reasons = f"{published.name.upper()}_URL", []
    for source in os.environ.get(variable, "").split() or published.sources.split():
        print(f"{published.file} from {source}", flush=True)
        if not (fault := _receive(source, part)):
            if not (fault := _fault(part, published.checksum)):
                return part.rename(target)
            part.unlink()
        reasons.append(f"{source}: {fault}")
    if not reasons:
        raise UserError(
            f"no {target}: Cityscapes wants an account. Register at https://www.cityscapes-dataset.com/register/, get "
            "gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from https://www.cityscapes-dataset.com/downloads/,"
            " put both there or set CITYSCAPES_ZIPS to the folder that they are in, and run the same command again"
        )
    free = shutil.disk_usage(folder).free / 1e9
    raise UserError(
        f"{target} could not be fetched, with {free:.1f} GB free ({'; '.join(reasons)}): run the same command again, "
        f"which resumes {part} unless that is deleted, name another source in {variable}, or put the file there by hand"
    )


def _receive(source: str, part: Path) -> str:
    """Bring `part` to its full length; returns why that failed, "" where it did not."""
    command = ["curl", "--fail", "--location", "--globoff", "--retry", "3", "--continue-at", "-", "--output", str(part)]
    command += ["--progress-bar" if sys.stderr.isatty() else "--silent", "--write-out", "%{errormsg}", "--url", source]
    while True:
        before = part.stat().st_size if part.exists() else 0
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return ""
        # --retry serves where a server does not answer; one that breaks off is asked again as long as it brings more.
        if not part.exists() or part.stat().st_size <= before:
            return done.stdout or f"curl ended with {done.returncode}"


def _fault(path: Path, checksum: str) -> str:
    """How the checksum of a file differs from this one; "" where it does not."""
    if not checksum:
        return ""
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    return "" if found.startswith(expected) else f"has {algorithm} {found}, not {expected}"


def unpack_zips(wanted: str, root: Path, *paths: Path) -> None:
    """Unpack the members whose names match `wanted`. UserError: a name leads out of the archive."""
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if outside := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
                raise UserError(f"{path} cannot be unpacked: {outside[0]} leads out of it")
            archive.extractall(root, filter(re.compile(wanted).fullmatch, names))


def untar(path: Path, root: Path, *options: str) -> None:
    """Unpack a tar. UserError: a name leads out of the archive, or the disk is full, in tar's words."""
    command = ["tar", "-xf", path, "-C", root, "--no-same-owner", *options]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        free, said = shutil.disk_usage(root).free / 1e9, "; ".join(done.stderr.splitlines()[:2])
        raise UserError(f"{path} cannot be unpacked, with {free:.1f} GB free: {said}")


def unpack_voc(root: Path, devkit: Path, sbd: Path) -> None:
    """The images that have a mask, the masks, and the lists of the devkit and those of the authors.

    train_aug is VOC's train and all of SBD, without VOC's val. An official mask, with its rim, goes before SBD's.
    """
    untar(devkit, root)
    untar(sbd, root, "--exclude=*.jpg")
    for part in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (root / "VOCdevkit/VOC2012" / part).rename(root / part)
    masks = Path(shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug"))
    for path in (root / "benchmark_RELEASE/dataset/cls").glob("2*.mat"):
        if not (target := masks / f"{path.stem}.png").exists():
            mask = Image.fromarray(loadmat(path, variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"])
            mask.putpalette([value for colour in voc_palette(256) for value in colour])
            mask.save(target)
    for name in {path.stem for path in (root / "JPEGImages").iterdir()} - {path.stem for path in masks.iterdir()}:
        (root / f"JPEGImages/{name}.jpg").unlink()

    lists = root / "ImageSets/Segmentation"
    val = (lists / "val.txt").read_text().split()
    train_aug = sorted({path.stem for path in masks.iterdir()} - {*val})
    (lists / "train_aug.txt").write_text("".join(f"{name}\n" for name in train_aug))
    (root / "list").mkdir()
    for split, names in (("train_aug", train_aug), ("val", val)):
        lines = (f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in names)
        (root / f"list/{split}.txt").write_text("".join(lines))


def unpack_camvid(root: Path, archive: Path) -> None:
    """The folder layout, with a folder of test images. Label 0 is no class: 11, of what nobody labelled, becomes 255,
    and each other label, from the sky's 0 on, one more. UserError: the labels are not those that were published."""
    untar(archive, root, "--strip-components=1", "--wildcards", "*/CamVid/*")
    digest = hashlib.sha256()
    names, colours = zip(*(line.split() for line in CAMVID_CLASSES.read_text().splitlines()), strict=True)
    palette = b"".join(bytes.fromhex(colour[1:]) for colour in colours)
    for split in ("train", "val", "test"):
        masks = root / "masks" / split
        masks.mkdir(parents=True)
        (root / "images").mkdir(exist_ok=True)
        (root / "CamVid" / split).rename(root / "images" / split)
        for path in sorted((root / "CamVid" / f"{split}annot").iterdir()):
            published = np.array(Image.open(path))
            labels = np.where(published == len(names) - 1, IGNORE_INDEX, published + 1).astype(np.uint8)
            mask = Image.fromarray(labels)
            mask.putpalette(palette.ljust(3 * 256, b"\0"))  # of fewer colours PIL keeps fewer bits
            mask.save(masks / path.name)
            written = np.array(Image.open(masks / path.name))
            digest.update(f"{split}/{path.stem} {written.shape}".encode() + written.tobytes())
    if digest.hexdigest() != CAMVID_LABELS:
        raise UserError(f"{archive} has other labels than CamVid's: name another source in CAMVID_URL")
    shutil.copy(CAMVID_CLASSES, root / "classes.txt")


# Name -> archives, what unpacks them into an empty folder, what is kept of it, and the images.
DATA = {
    "voc": ("voc sbd", unpack_voc, "JPEGImages SegmentationClass SegmentationClassAug ImageSets list", "JPEGImages/*"),
    "ade": ("ade", partial(unpack_zips, ".*"), "ADEChallengeData2016", "ADEChallengeData2016/images/*/*"),
    "cityscapes_domain": (
        "gtfine leftimg8bit",
        partial(unpack_zips, r"(leftImg8bit|gtFine)/(train|val)/.*_(leftImg8bit|gtFine_labelIds)\.png"),
        "gtFine leftImg8bit",
        "leftImg8bit/*/*/*",
    ),
    "camvid": ("camvid", unpack_camvid, "images masks classes.txt", "images/*/*"),
}
LAYOUTS = {"camvid": "folder"}
"""What a data set is to tools/check_data.py, where that has another name."""


def download(dataset: str, folder: Path) -> int:
    """Bring all of a data set to `folder`, or nothing; returns how many images it has. UserError: a part is there."""
    names, unpack, parts, images = DATA[dataset]
    archives = [PUBLISHED[name] for name in names.split()]
    there = [folder / part for part in parts.split() if (folder / part).exists()]
    staging, unpacked = folder / f".{dataset}.unpacking", folder / f".{dataset}.unpacked"
    if there and not unpacked.exists():
        if len(there) < len(parts.split()):
            raise UserError(f"{there[0]} is there, but not all of {dataset}: move it away, or name another folder")
        print(f"{dataset} is in {folder} already: nothing is fetched")
    elif not unpacked.exists():
        zips = Path(os.environ.get("CITYSCAPES_ZIPS") or folder)
        paths = [fetch(archive, folder if archive.sources else zips) for archive in archives]
        print(f"unpacking to {folder}", flush=True)
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        try:
            staging.mkdir()
            try:
                unpack(staging, *paths)
            except UserError:
                for archive, path in zip(archives, paths, strict=True):
                    if not archive.checksum:  # it may have been cut off
                        path.unlink()
                raise
            os.sync()  # else a power cut could leave empty files behind names that are in place
            staging.rename(unpacked)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    if unpacked.exists():  # now, or since a run that was killed here
        for archive in archives:
            if archive.sources:
                (folder / archive.file).unlink(missing_ok=True)
        for part in parts.split():
            if (unpacked / part).exists():
                (unpacked / part).rename(folder / part)
        shutil.rmtree(unpacked)
    return sum(1 for _ in folder.glob(images))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 2 after an error that is the user's to fix, 130 after Ctrl-C."""
    parser = ToolParser(description="Fetch a data set or ImageNet weights.")
    commands = parser.add_subparsers(dest="what", required=True)
    for name in DATA:
        commands.add_parser(name).add_argument("folder", type=a_path)
    weights = [name for name, published in PUBLISHED.items() if ".pth" in published.file]
    commands.add_parser("weights").add_argument("names", nargs="+", choices=weights, metavar="NAME")
    options = parser.parse_args(arguments)
    folder = Path("pretrained") if options.what == "weights" else options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            if options.what == "weights":
                for name in options.names:
                    path = fetch(PUBLISHED[name], folder)
                    print(f"{path}: whole; train from it with: --backbone {name.split('_')[0]} --pretrained {path}")
            else:
                print(f"{folder}: {download(options.what, folder)} images")
                layout = LAYOUTS.get(options.what, options.what)
                print(f"next: sh scripts/check_data.sh {layout} {shlex.quote(str(folder))}")
    except (UserError, OSError) as error:
        busy = f"another download into {folder} is under way: wait for it, or stop it"
        print(f"download: {busy if isinstance(error, Timeout) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("download: interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to end curl as Ctrl-C does
    sys.exit(main())
