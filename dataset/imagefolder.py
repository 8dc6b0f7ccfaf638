"""Classification (METHODS2 24): a folder of pictures for each class, as torchvision's ImageFolder reads them.

train/CLASS/NAME.jpg, val/CLASS/NAME.jpg      any names, also in folders below; any usual image format
imagenet100: the classes of data/imagenet100_classes.txt; imagefolder: all that there are. Both: `--class_list`
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from config import DataConfig
from dataset.base import DatasetSpec, Sample
from dataset.listing import CONTROLS, IMAGE_SUFFIXES, is_picture, read_lines, require_folder
from dataset.splits import overlapped, select_by_class
from dataset.transform import centre_image, crop_image
from tasks import Facts
from utils.constants import IGNORE_INDEX, voc_palette
from utils.errors import UserError

LIST = Path(__file__).parents[1] / "data" / "imagenet100_classes.txt"
NETWORK = {"backbone": "resnet18", "head": "pool", "output_stride": 32, "no_pretrained": True}
SCHEDULE = {"crop_size": 224, "batch_size": 64, "lr": (0.05,), "epochs": (90,), "weight_decay": 5e-4}
PRESET = NETWORK | SCHEDULE
"""The schedule is that of PODNet's runs on ImageNet-100, but for its shape: poly here, a cosine there."""
ADVICE = "point --data_root at the folder that holds train/CLASS/ and val/CLASS/"


class ClassFolder(NamedTuple):
    """Where the pictures of a class lie in train/ and val/, and what it is called."""

    folder: str
    name: str


def imagenet100(config: DataConfig) -> DatasetSpec:
    """A hundred classes of ImageNet, or those of `--class_list`. UserError where that is no list of classes."""
    classes = read_class_list(config.class_list or LIST)
    return _spec("imagenet100", classes, is_chosen=True, published=("50-10", "offline"))


def spec(config: DataConfig) -> DatasetSpec:
    """All classes in `--data_root`, by the names of their folders, or those of `--class_list`. UserError where there
    are none."""
    if config.data_root is None:
        raise UserError(f"--dataset imagefolder needs --data_root DIR: {ADVICE}")
    require_folder(config.data_root / "train", ADVICE)
    classes = read_class_list(config.class_list) if config.class_list else None
    found = [ClassFolder(name, name) for name in _folders(config.data_root / "train")]
    return _spec("imagefolder", classes or _required(found, config.data_root / "train"), is_chosen=classes is not None)


def read_class_list(path: Path) -> list[ClassFolder]:
    """The classes that a text file names: a line each, FOLDER, or FOLDER and the name. Empty lines are skipped."""
    lines = read_lines(path, "give a text file with the folder of a class in each line")
    classes = [ClassFolder(folder, name.strip() or folder) for folder, _, name in _parted(lines)]
    for folder, times in Counter(folder for folder, _ in classes).items():
        if times > 1:
            raise UserError(f"{path} names {folder} {times} times; a class arrives once")
    # ImageNet has two cranes.
    shared = {name for name, times in Counter(name for _, name in classes).items() if times > 1}
    classes = [ClassFolder(folder, f"{name} {folder}" if name in shared else name) for folder, name in classes]
    return _required(classes, path)


def _parted(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.strip().replace("\t", " ").partition(" ") for line in lines if line.strip()]


def _required(classes: list[ClassFolder], path: Path) -> list[ClassFolder]:
    if not 1 <= len(classes) <= IGNORE_INDEX:
        raise UserError(f"{path} has {len(classes)} classes, and 1 to {IGNORE_INDEX} go; choose some with --class_list")
    return classes


def _folders(path: Path) -> list[str]:
    """Names of the folders in `path`, hidden ones left out."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if strange := next((name for name in names if CONTROLS.search(name)), None):
        raise UserError(f"{path / strange}: a control character is in its name; rename it")
    return names


def _spec(name: str, classes: list[ClassFolder], *, is_chosen: bool, published: tuple[str, ...] = ()) -> DatasetSpec:
    count, folders = len(classes), tuple(folder for folder, _ in classes)
    return DatasetSpec(
        facts=Facts(dataset=name, kind="image", num_units=count, num_classes=count, published=published),
        folder=name,
        class_names=tuple(called for _, called in classes),
        palette=voc_palette(count + 1)[1:],
        label_values=frozenset(range(count)),
        list_samples=partial(list_samples, folders),
        list_faults=partial(list_faults, folders, is_chosen),
        select=partial(select_by_class, scenarios={"by class": overlapped}),
        scenarios=("by class",),
        train_transform=crop_image,
        eval_transform=centre_image,
        preset=PRESET,
    )


def list_samples(folders: tuple[str, ...], root: Path, split: str) -> list[Sample]:
    """The pictures of `split`, "train" or "val", by class and name. UserError where there is no such folder."""
    require_folder(root / split, ADVICE)
    return [
        Sample(picture, None, label=label)
        for label, folder in enumerate(folders)
        for picture in sorted(_found(root / split / folder))
    ]


def list_faults(folders: tuple[str, ...], is_chosen: bool, root: Path, split: str) -> list[str]:
    """A line for each class without a folder or without a picture, and, unless classes are chosen by a list, for each
    folder in val that is no class."""
    there = set(_folders(root / split))
    faults = [
        f"no folder {root / split / folder}: put the pictures of that class there"
        for folder in folders
        if folder not in there
    ]
    faults += [
        f"no picture in {root / split / folder}; put some there ({', '.join(IMAGE_SUFFIXES)})"
        for folder in folders
        if folder in there and not any(_found(root / split / folder))
    ]
    strange = [] if is_chosen else sorted(there - set(folders))
    return faults + [f"{root / split / folder} is no class: train has no such folder" for folder in strange]


def _found(folder: Path) -> Iterator[Path]:
    """All pictures in it, hidden ones left out. UserError for one of a kind that is not read."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and is_picture(path):
            yield path
