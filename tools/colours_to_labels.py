"""Turn masks of colours into masks of label values, which run.py reads: nothing else about them changes.

    python tools/colours_to_labels.py data/mine/coloured data/mine/masks --classes data/mine/classes.txt
    python tools/colours_to_labels.py SegmentationClassRGB SegmentationClass --dataset voc

Line i of classes.txt names label value i - 1 and its colour, as #rrggbb or R G B. --dataset has those of a public data
set. Colours of --ignore become 255, which no step looks at; for voc the pale border of objects does so by itself. A
colour that nobody knows ends it, and names the file and the place.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS
from dataset.folder import Colour, read_classes
from dataset.index import map_in_threads
from dataset.listing import is_picture, require_folder
from dataset.reading import LOSSY_FORMATS, probe, read_image
from utils.constants import IGNORE_INDEX
from utils.errors import UserError, exit_code
from utils.files import atomic_write
from utils.options import ToolParser, a_path

BORDER_OF_VOC = (224, 224, 192)
PUBLIC = ("voc", "ade", "cityscape")


def turn_all(source: Path, out: Path, value_of: Mapping[Colour, int]) -> int:
    """How many masks below `source` were written below `out`, each where it was. UserError as `turn`, and where there
    is none or one would be overwritten."""
    require_folder(source, "name the folder of the masks of colours")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies in {source}, and would mix both kinds of masks; name another folder")
    paths = [path for path in sorted(source.rglob("*")) if path.name[0] != "." and path.is_file() and is_picture(path)]
    if not paths:
        raise UserError(f"no picture in {source}; name the folder of the masks of colours")

    def work(path: Path) -> None:
        labels = turn(path, value_of)
        picture = Image.fromarray(labels, mode="P")
        picture.putpalette(_palette(value_of))
        with atomic_write(out / path.relative_to(source).with_suffix(".png")) as file:
            picture.save(file, format="PNG")

    map_in_threads(work, paths, "masks")
    return len(paths)


def turn(path: Path, value_of: Mapping[Colour, int]) -> np.ndarray:
    """Label values, uint8 (H,W), of the mask of colours at `path`. UserError where it is lossy or has other colours."""
    kind = probe(path, "image").split()[0]
    if kind in LOSSY_FORMATS:
        raise UserError(f"{path} is a {kind} file, which changes colours; export the masks as PNG")
    red, green, blue = read_image(path).numpy().astype(np.int32)
    codes, places, labels = np.unique((red << 16) + (green << 8) + blue, return_index=True, return_inverse=True)
    values = []
    for code, place in zip(codes.tolist(), places.tolist(), strict=True):
        colour = (code >> 16, code >> 8 & 255, code & 255)
        if colour not in value_of:
            row, column = divmod(place, red.shape[1])
            raise UserError(
                f"{path} has the colour #{code:06x}, {' '.join(map(str, colour))}, in {(labels == len(values)).sum()} "
                f"pixels, first in row {row}, column {column}: no class has it; add it to the classes, or to --ignore"
            )
        values.append(value_of[colour])
    return np.array(values, np.uint8)[labels.reshape(red.shape)]


def colours_of(options: argparse.Namespace) -> dict[Colour, int]:
    """Colour -> label value. UserError where two classes share one, or an option is no colour."""
    if options.classes:
        known = dict(enumerate(read_classes(options.classes)[1]))
    else:
        spec = DATASETS[options.dataset](DataConfig())
        of_class = enumerate(spec.palette)
        known = {spec.class_of.index(label): colour for label, colour in of_class if label in spec.class_of}
    ignored = [_colour(word) for word in options.ignore] + [BORDER_OF_VOC] * (options.dataset == "voc")
    value_of: dict[Colour, int] = {}
    for value, colour in [*known.items(), *((IGNORE_INDEX, colour) for colour in ignored)]:
        if value_of.setdefault(colour, value) != value:
            shown = "#" + bytes(colour).hex()
            raise UserError(
                f"{shown} is the colour of {value_of[colour]} and of {value}: give each a colour of its own"
            )
    return value_of


def _colour(word: str) -> Colour:
    try:
        colour = tuple(bytes.fromhex(word.removeprefix("#")))
    except ValueError:
        colour = ()
    if len(colour) != 3:
        raise UserError(f"--ignore {word}: a colour is rrggbb, as e0e0c0")
    return colour


def _palette(value_of: Mapping[Colour, int]) -> list[int]:
    colours = {value: colour for colour, value in value_of.items()}
    return [part for value in range(256) for part in colours.get(value, (value,) * 3)]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Turn masks of colours into masks of label values.")
    parser.add_argument("source", type=a_path, metavar="COLOURED", help="folder of the masks, and folders below")
    parser.add_argument("out", type=a_path, metavar="OUT", help="folder of the new ones, under the same names, as PNG")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--classes", type=a_path, metavar="FILE", help="names and colours, a line each, from value 0 on")
    known.add_argument("--dataset", choices=PUBLIC, help="whose colours they are")
    parser.add_argument("--ignore", nargs="+", default=[], metavar="RRGGBB", help="colours that become 255")
    return exit_code(_turn_and_say, parser.parse_args(arguments))


def _turn_and_say(options: argparse.Namespace) -> None:
    count = turn_all(options.source, options.out, colours_of(options))
    print(f"{count:,} masks in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
