"""tools/make_shapes.py: a folder that depends on the options alone, and is whole or absent; what is on the pictures."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from colorsys import hsv_to_rgb
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.make_shapes import GENERATOR, main, make_shapes
from tools.shapes.catalog import CLASSES, OUTLINE_AREA, shape_class
from tools.shapes.draw import compose, draw_picture
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

SCRIPT = Path(__file__).parents[2] / "tools" / "make_shapes.py"

DIGEST = "e7dfb07f8c471d3f3b0d63e8d6f658c9278a1a0b0a806cb1d466bfd5fb8c70ba"
COLOURS = {  # mean red, green and blue, and the deviation of all
    "train_00000": (129.096, 122.58, 110.732, 49.018),
    "train_00023": (150.409, 144.812, 137.93, 37.583),
    "val_00000": (140.6, 95.678, 99.783, 44.206),
}
"""Labels, lists and marker of `tiny`, and three of its images."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "data"
    assert make_shapes(root, train=24, val=8)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def masks(root: Path, split: str = "train_aug") -> list[np.ndarray]:
    columns = [line.split() for line in (root / "list" / f"{split}.txt").read_text().splitlines()]
    return [np.asarray(Image.open(root / mask.removeprefix("/"))) for _, mask in columns]


def test_lists_name_every_image_with_its_mask(tiny: Path):
    for split, count in (("train_aug", 24), ("val", 8)):
        lines = (tiny / "list" / f"{split}.txt").read_text().splitlines()
        assert len(set(lines)) == count
        for line in lines:
            image, mask = line.split()
            assert image.startswith("/JPEGImages/") and image.endswith(".jpg")
            assert mask == image.replace("JPEGImages", "SegmentationClassAug").replace(".jpg", ".png")
            with Image.open(tiny / image.removeprefix("/")) as picture:
                assert (picture.mode, picture.size) == ("RGB", (112, 112))
            with Image.open(tiny / mask.removeprefix("/")) as labels:
                assert (labels.mode, labels.size) == ("P", (112, 112))
    assert len(list((tiny / "JPEGImages").iterdir())) == len(list((tiny / "SegmentationClassAug").iterdir())) == 32


def test_masks_carry_the_voc_palette(tiny: Path):
    palette = Image.open(next((tiny / "SegmentationClassAug").iterdir())).getpalette()
    colours = {i: tuple(palette[3 * i : 3 * i + 3]) for i in (0, 1, 2, 15, 20, 255)}
    assert colours == {  # as in the masks of the VOC devkit
        0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0),
        15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192),
    }  # fmt: skip


def test_a_rim_keeps_any_two_labels_apart(tiny: Path):
    for mask in masks(tiny):
        assert set(np.unique(mask)) <= {*range(21), IGNORE_INDEX}
        for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            assert ((one == other) | (one == IGNORE_INDEX) | (other == IGNORE_INDEX)).all()
        assert 0 < (mask == IGNORE_INDEX).mean() < 0.2


def test_two_dozen_images_show_every_class(tiny: Path):
    shown = set().union(*(np.unique(mask) for mask in masks(tiny)))
    assert shown == {*range(21), IGNORE_INDEX}


def test_published_pictures_are_drawn_as_ever(tiny: Path):
    # Digest and colours are those that the code drew before there were other layouts. A digest of the image files
    # would depend on the JPEG encoder and on the processor's last digit.
    digest = hashlib.sha256()
    for path in sorted(tiny.rglob("*")):
        if path.parent.name == "saliency_map":
            continue  # younger
        if path.suffix == ".png":
            digest.update(np.asarray(Image.open(path)).tobytes())
        elif path.suffix in (".txt", ".json"):
            digest.update(path.read_bytes())
    assert digest.hexdigest() == DIGEST
    for name, colour in COLOURS.items():
        image = np.asarray(Image.open(tiny / "JPEGImages" / f"{name}.jpg"), dtype=float)
        assert [*image.mean(axis=(0, 1)), image.std()] == pytest.approx(colour, abs=0.02), name


def test_images_do_not_depend_on_the_number_of_workers(tmp_path: Path):
    for workers in (1, 2):
        make_shapes(tmp_path / str(workers), layout="cityscapes", train=50, val=20, size=32, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_an_image_depends_on_seed_split_and_index_only(tiny: Path, tmp_path: Path):
    make_shapes(tmp_path / "fewer", train=3, val=3)
    make_shapes(tmp_path / "other", train=3, val=3, seed=1)
    whole, fewer, other = contents(tiny), contents(tmp_path / "fewer"), contents(tmp_path / "other")
    images = [name for name in fewer if name.endswith(".jpg")]
    assert len({fewer[name] for name in images}) == len(images) == 6
    assert all(fewer[name] == whole[name] and fewer[name] != other[name] for name in images)


def test_a_second_run_finds_the_data_complete(tmp_path: Path, capsys: pytest.CaptureFixture):
    options = ["--root", str(tmp_path / "a"), "--layout", "ade", "--train", "2", "--val", "1", "--size", "32"]
    assert main(options) == 0
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").rglob("*"))]
    assert main(options) == 0
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").rglob("*"))] == before
    assert "already there" in capsys.readouterr().out


def test_a_folder_of_other_options_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture):
    make_shapes(tmp_path / "a", train=2, val=1, size=32)
    before = contents(tmp_path / "a")
    assert main(["--root", str(tmp_path / "a"), "--train", "3", "--val", "1", "--size", "32"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "train 2" in message and "--root" in message
    with pytest.raises(UserError, match=r"drawn with layout voc .*, not with layout folder "):
        make_shapes(tmp_path / "a", layout="folder", train=2, val=1, size=32)
    assert contents(tmp_path / "a") == before


def test_a_folder_that_is_older_than_the_layouts_is_of_voc(tmp_path: Path):
    old = {"generator": GENERATOR, "train": 2, "val": 1, "size": 32, "seed": 0}
    (tmp_path / "shapes.json").write_text(json.dumps(old))
    assert not make_shapes(tmp_path, train=2, val=1, size=32)
    with pytest.raises(UserError, match="layout voc"):
        make_shapes(tmp_path, layout="folder", train=2, val=1, size=32)


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path):
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train_aug.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no shapes\.json"):
        make_shapes(tmp_path, train=2, val=1, size=32)
    assert contents(tmp_path) == {"list/train_aug.txt": b"mine"}


def test_options_out_of_range_are_named_before_anything_is_written(tmp_path: Path):
    for name, value in {"train": 0, "val": 0, "size": 8, "seed": -1, "workers": 0}.items():
        with pytest.raises(UserError, match=f"--{name} {value}: "):
            make_shapes(tmp_path / "a", **{name: value})
    for bad, said in (({"layout": "coco"}, "--layout 'coco': choose from voc, ade"), ({"company": 1.5}, "0 to 1")):
        with pytest.raises(UserError, match=said):
            make_shapes(tmp_path / "a", **bad)
    assert not any(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path: Path):
    words = ["--root", tmp_path / "a", "--train", "5000", "--workers", "2"]
    # A suite in the background may have been told to ignore Ctrl-C.
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen([sys.executable, SCRIPT, *words], stderr=subprocess.DEVNULL, **options)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".a.*/**/*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert time.monotonic() < deadline
    assert not any(tmp_path.iterdir())


def test_objects_overlap_at_most_by_their_edges():
    rng = np.random.default_rng(0)
    for index in range(300):
        placed = compose(rng, index, 112, 20)
        for one, other in combinations(placed, 2):
            assert np.hypot(one.x - other.x, one.y - other.y) > 0.7 * (one.radius + other.radius)
        assert 1 <= len(placed) <= 4


def test_every_class_on_a_picture_is_seen():
    for index, num_classes in product(range(40), (20, 150)):
        picture = draw_picture(0, 0, index, 112, num_classes)
        placed = {item.label for item in compose(np.random.default_rng((0, 0, index)), index, 112, num_classes)}
        seen = {int(label) for label in np.unique(picture.labels[~picture.rim])}
        assert seen - {0} == placed


def test_classes_are_unlike_each_other_and_alike_in_size():
    assert len(CLASSES) == 20
    for values in zip(*[(c.name, c.outline.tobytes(), (c.colour, c.texture)) for c in CLASSES], strict=True):
        assert len(set(values)) == 20
    for shape in CLASSES:
        x, y = shape.outline.T
        assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == pytest.approx(OUTLINE_AREA)


def test_variants_of_a_shape_differ_in_hue_alone():
    for label in range(1, 161):
        shape, original = shape_class(label), CLASSES[(label - 1) % 20]
        assert (shape.name, shape.texture) == (original.name, original.texture)
        assert shape.colour[1:] == original.colour[1:] and shape.second[1:] == original.second[1:]
        if label <= 20:
            assert (shape.colour, shape.second) == (original.colour, original.second)
    for shape in range(1, 21):
        for one, other in combinations([shape_class(label) for label in range(shape, 161, 20)], 2):
            pairs = ((one.colour, other.colour), (one.second, other.second))
            # On the canvas a hue strays by 9 degrees to either side, and by a few more in a coloured light.
            turns = [min((a[0] - b[0]) % 360, (b[0] - a[0]) % 360) for a, b in pairs]
            assert min(turns) >= 45
            assert max(np.linalg.norm(rgb(a) - rgb(b)) for a, b in pairs) > 0.25


def rgb(colour: tuple[float, float, float]) -> np.ndarray:
    hue, saturation, value = colour
    return np.array(hsv_to_rgb(hue / 360, saturation, value))


def test_150_classes_come_one_by_one_and_then_at_random():
    scenes = [
        [item.label for item in compose(np.random.default_rng((0, 0, index)), index, 112, 150)] for index in range(1200)
    ]
    assert [labels[0] for labels in scenes[:150]] == [*range(1, 151)]
    images = np.bincount([label for labels in scenes[150:] for label in set(labels)], minlength=151)
    assert images[0] == 0 and len(images) == 151
    assert images[1:].min() >= 4 and images[1:].max() <= 10 * images[1:].min()


def test_disjoint_and_overlapped_15_1_differ_and_every_step_has_images():
    rngs = [np.random.default_rng((0, 0, index)) for index in range(2400)]  # those of the default data set
    scenes = [{item.label for item in compose(rng, index, 112, 20)} for index, rng in enumerate(rngs)]
    first, new = set(range(1, 16)), set(range(16, 21))
    overlapped = sum(bool(scene & first) for scene in scenes)
    disjoint = sum(scene <= first for scene in scenes)
    assert 0.4 * overlapped < disjoint < 0.7 * overlapped
    assert min(sum(label in scene for scene in scenes) for label in first) >= 150
    for label in new:
        images = [scene for scene in scenes if label in scene]
        assert len(images) >= 250
        assert 0.7 < np.mean([bool(scene & first) for scene in images]) < 0.9


def test_company_is_how_many_classes_meet(tmp_path: Path):
    def classes_seen(company: float) -> list[int]:
        rngs = (np.random.default_rng((0, 0, index)) for index in range(300))
        return [len({item.label for item in compose(rng, i, 112, 20, company)}) for i, rng in enumerate(rngs)]

    alone, some, usual = map(classes_seen, (0.0, 0.3, 1.0))
    assert set(alone) == {1} and np.mean(alone) < np.mean(some) < np.mean(usual)
    make_shapes(tmp_path / "a", train=2, val=1, size=32, company=0.0)
    assert not make_shapes(tmp_path / "a", train=2, val=1, size=32, company=0.0)
    with pytest.raises(UserError, match=r"was drawn with .*company 0\.0 .*, not with .*company 1\.0"):
        make_shapes(tmp_path / "a", train=2, val=1, size=32)
