"""A data set of one's own: images/, masks/ and classes.txt in one folder, no code.

images/{train,val,test}/NAME.jpg any name, any usual image format; without test, val is tested
masks/{train,val,test}/NAME.png  one channel of label values; 255 is ignored
classes.txt                      line i names label value i - 1, so that the first line is the background; the name
                                 may be followed by its colour, as #rrggbb or as three numbers
"""

import re
from pathlib import Path

from config import DataConfig
from dataset.base import DatasetSpec, Sample
from dataset.listing import pair_by_name, read_lines, require_folder
from dataset.voc import voc_palette
from tasks import Facts
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

CLASSES_FILE = "classes.txt"
Colour = tuple[int, int, int]

_LINE = re.compile(
    r"(?P<name>.*?)(?:(?:^|\s+)(?:#(?P<hex>[0-9a-fA-F]{6})|(?P<red>\d{1,3})\s+(?P<green>\d{1,3})\s+(?P<blue>\d{1,3})))?\s*"
)


def spec(config: DataConfig) -> DatasetSpec:
    """What classes.txt in `--data_root` says. UserError where it lacks or is no list of classes."""
    root = config.data_root
    if root is None:
        raise UserError("--dataset folder needs --data_root DIR, the folder that holds images/, masks/ and classes.txt")
    require_folder(root, "point --data_root at the folder that holds images/, masks/ and classes.txt")
    names, palette = read_classes(root / CLASSES_FILE)
    return DatasetSpec(
        facts=Facts(dataset="folder", num_units=len(names) - 1, num_classes=len(names)),
        folder="folder",
        class_names=names,
        palette=palette,
        label_values=frozenset((*range(len(names)), IGNORE_INDEX)),
        splits=splits,
        list_samples=list_samples,
    )


def splits(root: Path) -> tuple[str, ...]:
    """Images of a test split are tested, where there is one."""
    has_test = (root / "images" / "test").exists() or (root / "masks" / "test").exists()
    return ("train", "val", "test") if has_test else ("train", "val")


def list_samples(root: Path, split: str) -> list[Sample]:
    """Samples of `split` by name. UserError where a folder lacks or is empty."""
    images, masks = root / "images" / split, root / "masks" / split
    for folder in (images, masks):
        needed = ", ".join(f"images/{name} and masks/{name}" for name in splits(root))
        require_folder(folder, f"{root} needs {needed}")
    return pair_by_name(images, masks)


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and RGB colours by label value; a class without a colour gets the one that VOC would give it."""
    lines = read_lines(path, "it names the classes, one a line, the background first")
    while lines and not lines[-1].strip():
        lines.pop()
    if not 2 <= len(lines) <= IGNORE_INDEX:
        raise UserError(f"{path} names {len(lines)} classes; it needs the background and 1 to {IGNORE_INDEX - 1} more")
    classes: dict[str, Colour] = {}
    for number, line in enumerate(lines, 1):
        try:
            name, colour = _parsed(line.strip())
            if name in classes:
                raise ValueError(f"the class {name} again, after line {[*classes].index(name) + 1}; rename one of them")
        except ValueError as fault:
            raise UserError(f"{path}, line {number}: {fault}") from None
        classes[name] = colour or voc_palette(number)[-1]
    return tuple(classes), tuple(classes.values())


def _parsed(line: str) -> tuple[str, Colour | None]:
    """Name and colour of a line. ValueError for what is no such line."""
    match = _LINE.fullmatch(line)
    name = match["name"].strip()
    if not name:
        raise ValueError("no name; a line is NAME, NAME #rrggbb or NAME R G B, and none may be left out")
    if match["hex"]:
        return name, tuple(bytes.fromhex(match["hex"]))
    if match["red"] is None:
        return name, None
    colour = tuple(int(match[channel]) for channel in ("red", "green", "blue"))
    if max(colour) > 255:
        raise ValueError(f"colour {' '.join(map(str, colour))}; its parts are 0 to 255")
    return name, colour
