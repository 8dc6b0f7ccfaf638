"""The plain layout: images/SPLIT, masks/SPLIT, and classes.txt, which names each label value and its colour."""

from pathlib import Path

from tools.shapes.catalog import CLASSES
from tools.shapes.draw import Picture
from tools.shapes.layout import Layout, voc_palette, write_jpeg, write_palette_mask


def write_picture(root: Path, split: str, index: int, picture: Picture) -> None:
    """Write images/SPLIT/INDEX.jpg and masks/SPLIT/INDEX.png."""
    write_jpeg(root / "images" / split / f"{index:05d}.jpg", picture.image)
    write_palette_mask(root / "masks" / split / f"{index:05d}.png", picture)


def write_classes(root: Path, counts: dict[str, int]) -> None:
    """Write classes.txt: line i + 1 is `name #rrggbb` of label value i, in the colours of the masks."""
    palette = voc_palette()
    names = ("background", *(shape.name for shape in CLASSES))
    lines = (f"{name} #{palette[3 * label : 3 * label + 3].hex()}\n" for label, name in enumerate(names))
    (root / "classes.txt").write_text("".join(lines))


LAYOUT = Layout(num_classes=len(CLASSES), write_picture=write_picture, finish=write_classes)
