"""The VOC layout (SPEC 2): JPEG images, palette PNG masks with a rim around objects, two lists."""

from pathlib import Path

from tools.shapes.draw import Picture
from tools.shapes.layout import Layout, write_jpeg, write_palette_mask

LISTS = {"train": "train_aug.txt", "val": "val.txt"}


def write_picture(root: Path, split: str, index: int, picture: Picture) -> None:
    """Write JPEGImages/SPLIT_INDEX.jpg and SegmentationClassAug/SPLIT_INDEX.png."""
    image, mask = _paths(split, index)
    write_jpeg(root / image, picture.image)
    write_palette_mask(root / mask, picture)


def write_lists(root: Path, counts: dict[str, int]) -> None:
    """Write list/train_aug.txt and list/val.txt, one line `/JPEGImages/x.jpg /SegmentationClassAug/x.png` a picture."""
    (root / "list").mkdir()
    for split, count in counts.items():
        lines = ("/{} /{}\n".format(*_paths(split, index)) for index in range(count))
        (root / "list" / LISTS[split]).write_text("".join(lines))


def _paths(split: str, index: int) -> tuple[str, str]:
    """Image and mask, below the root."""
    name = f"{split}_{index:05d}"
    return f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png"


LAYOUT = Layout(num_classes=20, write_picture=write_picture, finish=write_lists)
