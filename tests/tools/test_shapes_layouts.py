"""The layouts of tools/make_shapes.py: which files, which label values, and that they are those of the pictures."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.make_shapes import make_shapes
from tools.shapes.catalog import CLASSES
from tools.shapes.draw import Picture, draw_picture
from tools.shapes.layout import CITIES, city_light

SIZE = 64
COUNTS = {"voc": 24, "ade": 150, "cityscapes": 20, "folder": 24}
"""Images of a split that show every class. Without masks: tests/test_whole_images.py."""

TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of Cityscapes
VALUES = {
    "voc": {*range(21), 255},
    "ade": {*range(151)},
    "cityscapes": {0, 5, 6, *TRAINED_IDS},
    "folder": {*range(21), 255},
}
GLOBS = {  # images and masks of a split
    "voc": ("JPEGImages/{}_*.jpg", "SegmentationClassAug/{}_*.png"),
    "ade": ("ADEChallengeData2016/images/{}*/*.jpg", "ADEChallengeData2016/annotations/{}*/*.png"),
    "cityscapes": ("leftImg8bit/{}/*/*.png", "gtFine/{}/*/*.png"),
    "folder": ("images/{}/*.jpg", "masks/{}/*.png"),
}
NO_IMAGES = ("SegmentationClassAug", "gtFine", "masks", "list")
in_every_layout = pytest.mark.parametrize("layout", COUNTS)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set in each layout, with as many images as show every class."""
    top = tmp_path_factory.mktemp("layouts")
    for layout, count in COUNTS.items():
        make_shapes(top / layout, layout=layout, train=count, val=count, size=SIZE, workers=1)
    return {layout: top / layout for layout in COUNTS}


def files(root: Path, layout: str, split: str) -> tuple[list[Path], list[Path]]:
    """Images and masks of a split, in the order of their indices."""
    return tuple(sorted(root.glob(pattern.format(split)), key=in_turn) for pattern in GLOBS[layout])


def in_turn(path: Path) -> tuple[str, int]:
    """By name; in Cityscapes, the pictures of all cities that have the same number follow each other."""
    cities = CITIES["train"] + CITIES["val"]
    city, _, rest = path.name.partition("_")
    return (rest, cities.index(city)) if city in cities else (path.name, 0)


def masks(root: Path, layout: str, split: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in files(root, layout, split)[1]]


def drawn(layout: str, split: str, index: int) -> Picture:
    return draw_picture(0, ("train", "val").index(split), index, SIZE, 150 if layout == "ade" else 20)


NAMES = {
    "voc": {
        "JPEGImages/train_00000.jpg", "JPEGImages/train_00001.jpg", "JPEGImages/val_00000.jpg",
        "SegmentationClassAug/train_00000.png", "SegmentationClassAug/train_00001.png",
        "SegmentationClassAug/val_00000.png", "list/train_aug.txt", "list/val.txt",
    },
    "ade": {
        "ADEChallengeData2016/images/training/ADE_train_00000001.jpg",
        "ADEChallengeData2016/images/training/ADE_train_00000002.jpg",
        "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg",
        "ADEChallengeData2016/annotations/training/ADE_train_00000001.png",
        "ADEChallengeData2016/annotations/training/ADE_train_00000002.png",
        "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
    },
    "cityscapes": {
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
        "leftImg8bit/train/bremen/bremen_000000_000019_leftImg8bit.png",
        "leftImg8bit/val/frankfurt/frankfurt_000000_000019_leftImg8bit.png",
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
        "gtFine/train/bremen/bremen_000000_000019_gtFine_labelIds.png",
        "gtFine/val/frankfurt/frankfurt_000000_000019_gtFine_labelIds.png",
    },
    "folder": {
        "images/train/00000.jpg", "images/train/00001.jpg", "images/val/00000.jpg",
        "masks/train/00000.png", "masks/train/00001.png", "masks/val/00000.png", "classes.txt",
    },
}  # fmt: skip


def test_files_are_where_the_data_set_has_them(tmp_path: Path):
    for layout, names in NAMES.items():
        root = tmp_path / layout
        make_shapes(root, layout=layout, train=2, val=1, size=32)
        found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        training = [Path(name) for name in names if "train" in name and Path(name).parts[0] not in NO_IMAGES]
        assert found == {*names, "shapes.json", *(f"saliency_map/{path.stem}.png" for path in training)}


@in_every_layout
def test_a_split_has_the_formats_of_the_data_set_and_every_class(roots: dict[str, Path], layout: str):
    mask_format = ("PNG", "P" if layout in ("voc", "folder") else "L", (SIZE, SIZE))
    image_format = ("PNG" if layout == "cityscapes" else "JPEG", "RGB", (SIZE, SIZE))
    for split in ("train", "val"):
        for paths, expected in zip(files(roots[layout], layout, split), (image_format, mask_format), strict=True):
            assert len(paths) == COUNTS[layout]
            for path in paths:
                with Image.open(path) as image:
                    assert (image.format, image.mode, image.size) == expected
        assert set(np.unique(masks(roots[layout], layout, split)).tolist()) == VALUES[layout]


@in_every_layout
def test_a_mask_belongs_to_its_image(roots: dict[str, Path], layout: str):
    ids = {"cityscapes": np.array((*TRAINED_IDS, 5, 6))}.get(layout, np.arange(151))
    rim = {"ade": 0, "cityscapes": 0}.get(layout, 255)
    for split in ("train", "val"):
        images, paths = files(roots[layout], layout, split)
        for index in range(0, len(paths), 4):
            picture = drawn(layout, split, index)
            assert (np.asarray(Image.open(paths[index])) == np.where(picture.rim, rim, ids[picture.labels])).all()
            if layout != "cityscapes":  # where the light is another
                image = np.asarray(Image.open(images[index]), dtype=float)
                assert np.abs(image - picture.image).mean() < 6


def test_the_lists_of_voc_are_in_order(roots: dict[str, Path]):
    for name, split in (("train_aug", "train"), ("val", "val")):
        pairs = zip(*files(roots["voc"], "voc", split), strict=True)
        lines = [f"/JPEGImages/{image.name} /SegmentationClassAug/{mask.name}" for image, mask in pairs]
        assert (roots["voc"] / "list" / f"{name}.txt").read_text().splitlines() == lines


def test_cities_take_turns(roots: dict[str, Path]):
    for split, cities in CITIES.items():
        images, labels = files(roots["cityscapes"], "cityscapes", split)
        turns = [f"{cities[i % len(cities)]}_{i // len(cities):06d}_000019" for i in range(20)]
        assert [path.name for path in images] == [f"{turn}_leftImg8bit.png" for turn in turns]
        assert [path.name for path in labels] == [f"{turn}_gtFine_labelIds.png" for turn in turns]
    assert len({*CITIES["train"], *CITIES["val"]}) == 21


def test_every_city_has_a_light_of_its_own(roots: dict[str, Path]):
    for split in ("train", "val"):
        for index, path in enumerate(files(roots["cityscapes"], "cityscapes", split)[0]):
            light, scene = city_light(path.parent.name), drawn("cityscapes", split, index).image
            expected = np.stack([light[scene[..., channel], channel] for channel in range(3)], axis=-1)
            assert (np.asarray(Image.open(path)) == expected).all()
    lights = [city_light(city).astype(float) for cities in CITIES.values() for city in cities]
    for one, other in combinations(lights, 2):
        assert np.abs(one - other).mean() > 10  # grey levels
    for light in lights:
        assert (np.diff(light, axis=0) >= 0).all() and (light[-1] - light[0]).min() > 80


def test_classes_txt_names_the_colours_of_the_masks(roots: dict[str, Path]):
    lines = (roots["folder"] / "classes.txt").read_text().splitlines()
    names, colours = zip(*(line.split(" ") for line in lines), strict=True)
    assert names == ("background", *(shape.name for shape in CLASSES))
    for path in files(roots["folder"], "folder", "train")[1]:
        with Image.open(path) as mask:
            palette, labels = mask.getpalette(), np.asarray(mask)
            coloured = np.asarray(mask.convert("RGB"))
        assert [f"#{bytes(palette[3 * i : 3 * i + 3]).hex()}" for i in range(21)] == list(colours)
        for label in set(np.unique(labels).tolist()) - {255}:
            assert {f"#{bytes(pixel).hex()}" for pixel in coloured[labels == label]} == {colours[label]}


def test_a_worker_has_little_to_import():
    code = "import sys, tools.make_shapes; print({'torch', 'dataset'} & sys.modules.keys())"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert printed.stdout == "set()\n", printed.stderr
