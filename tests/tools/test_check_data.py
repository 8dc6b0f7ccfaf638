"""tools/check_data.py: counts that a walk over the pixels gives too, every problem with its file, nothing changed."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config import DataConfig
from dataset import index as index_module
from dataset import voc
from dataset.catalogue import load_split, select_steps
from dataset.index import Scan, look_at
from dataset.splits import Split
from metrics.pictures import GAP, HEADER, IGNORED, MARGIN
from tests.helpers import SPECS, task_of
from tools.check_data import SHEET_SIDE, against_published, main
from tools.make_shapes import make_shapes
from utils.errors import UserError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "voc"
    make_shapes(root, train=40, val=24, size=48, workers=1)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "voc"))


def check(root: Path, *options: object, dataset: str = "voc") -> int:
    return main([dataset, str(root), "--sheet", str(root.parent / "sheet.png"), *map(str, options)])


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def masks(root: Path, split: str) -> list[np.ndarray]:
    lines = (root / "list" / f"{split}.txt").read_text().splitlines()
    return [np.asarray(Image.open(root / line.split()[1].lstrip("/"))) for line in lines]


def test_a_sound_data_set_is_counted_and_left_as_it_is(pristine: Path, capsys: pytest.CaptureFixture):
    before = files(pristine)
    assert check(pristine, "--task", "15-5", "--scenario", "disjoint") == 0
    assert files(pristine) == before
    said = capsys.readouterr().out
    assert "voc: 40 training and 24 validation images with masks" in said
    assert "JPEGImages: 64 files\n" in said and "image JPEG RGB 64, mask PNG P 64" in said
    assert "sizes: 48 x 48 64" in said and "label values: 0..20, 255" in said and "no problem found" in said
    train, val = masks(pristine, "train_aug"), masks(pristine, "val")
    labelled = sum(int((mask != 255).sum()) for mask in train)
    assert f"percent of {labelled:,} labelled training pixels" in said
    for label, name in enumerate(voc.CLASS_NAMES):
        share = 100 * sum(int((mask == label).sum()) for mask in train) / labelled
        shown = [sum(bool((mask == label).any()) for mask in part) for part in (train, val)]
        step = int(label > 15)
        assert re.search(rf" {step}  {name} +{share:.2f}% +{shown[0]} +{shown[1]}\b", said), name
    task = task_of("voc", "15-5")
    for step in task.steps:
        new, old = set(step.new_classes), set(step.old_classes)
        sets = [{int(value) for value in np.unique(mask)} for mask in train]
        count = sum(bool(shown & new) and shown <= new | old | {0, 255} for shown in sets)
        assert re.search(rf"^{step} +{len(new)}: .* {count} +\d+ +\d+$", said, re.MULTILINE)


def test_the_contact_sheet_shows_the_labels_of_each_step(pristine: Path):
    assert check(pristine, "--task", "15-1") == 0
    with Image.open(pristine.parent / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] > 8 * SHEET_SIDE and pixels.shape[0] > 6 * SHEET_SIDE
    # From the right: four times labels, image. In each row the class of its step, and none of the others, which the
    # pictures show as well.
    side = SHEET_SIDE + GAP
    right = pixels.shape[1] - MARGIN - SHEET_SIDE
    left = right - 6 * side  # the first labels
    tops = [MARGIN + HEADER + step * side for step in range(6)]
    for step, top in enumerate(tops[1:], start=1):
        shown = pixels[top : top + SHEET_SIDE, left : left + SHEET_SIDE].reshape(-1, 3)
        colours = {tuple(colour) for colour in np.unique(shown, axis=0).tolist()}
        assert colours - {IGNORED} == {(0, 0, 0), voc.SPEC.palette[15 + step]}


def test_each_problem_is_named_with_its_file(root: Path, capsys: pytest.CaptureFixture):
    """All at once, each in files of its own; what is well still counts."""
    list_file = root / "list" / "train_aug.txt"
    lines = list_file.read_text().splitlines()
    pairs = [[root / part.lstrip("/") for part in line.split()] for line in lines]
    expected = []

    def damage(number: int) -> tuple[Path, Path, np.ndarray]:
        return *pairs[number], np.asarray(Image.open(pairs[number][1])).copy()

    image, mask, _ = damage(0)
    image.write_bytes(image.read_bytes()[:-300])
    expected.append(f"image {image} cannot be read (image file is truncated")
    image, mask, _ = damage(1)
    mask.write_bytes(mask.read_bytes()[:-100])
    expected.append(f"mask {mask} cannot be read (")
    image, mask, _ = damage(2)
    mask.unlink()
    expected.append(f"mask {mask} cannot be read (No such file or directory)")
    image, mask, labels = damage(3)
    Image.fromarray(labels[:40]).save(mask)
    expected.append(f"mask {mask} is 48 x 40 pixels and its image {image} 48 x 48")
    image, mask, labels = damage(4)
    labels[3, 3] = 21
    Image.fromarray(labels).save(mask)
    expected.append(f"mask {mask} holds label 21; allowed: 0..20, 255")
    image, mask, labels = damage(5)
    Image.fromarray(np.stack([labels] * 3, axis=2)).save(mask)
    expected.append(f"mask {mask} has mode RGB; a mask has one channel")
    image, mask, _ = damage(6)
    image.write_bytes(b"no picture")
    mask.write_bytes(b"nor this")
    expected += [f"image {image} cannot be read (", f"mask {mask} cannot be read ("]
    list_file.write_text("\n".join([*lines, lines[27]]) + "\n")
    expected.append(f"image {pairs[27][0]} is listed more than once in train")
    with (root / "list" / "val.txt").open("a") as file:
        file.write(lines[28] + "\n")
    expected.append(f"image {pairs[28][0]} is listed for training and for validation")
    assert check(root) == 1
    said = capsys.readouterr().out
    problems = [line.strip() for line in said.split("problem(s):\n")[1].splitlines()]
    assert f"{len(problems)} problem(s):" in said and "voc offline, overlapped: images per step" in said
    for text in expected:
        assert sum(line.startswith(text) for line in problems) == 1, (text, problems)
    # Classes that only the damaged pictures showed are missing, and nothing else.
    assert all("no training image shows" in line for line in problems if not line.startswith(tuple(expected)))


def test_a_class_that_nothing_shows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(3):
            cell = np.zeros((20, 20), np.uint8)
            cell[4:9, 4:9] = 255  # as many tools save a mask of two classes
            Image.fromarray(np.stack([cell] * 3, axis=2)).save(root / "images" / split / f"{number}.png")
            Image.fromarray(cell).save(root / "masks" / split / f"{number}.png")
    (root / "classes.txt").write_text("ground\ncell\n")
    assert check(root, dataset="folder") == 1
    said = capsys.readouterr().out
    assert "no training image shows class 1 (cell)\n" in said
    for name in ("train", "val"):
        assert f"{name}: the masks hold 0 and 255 alone, and 255 is ignored: number the classes from 1" in said
    assert "offline, step 0: no image in the train set" in said


def test_what_cannot_be_looked_at_is_refused_in_one_line(root: Path, capsys: pytest.CaptureFixture):
    def refused(dataset: str, options: str, says: str) -> None:
        assert check(root, *options.split(), dataset=dataset) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and re.search(says, said)

    refused("voc", "--task 15-2", "--task 15-2: .*possible")
    refused("voc", "--scenario all", "--scenario all: choose from overlapped, disjoint, partitioned")
    refused("voc", "--class_order none.txt", "--class_order none.txt cannot be read")
    refused("folder", "", "classes.txt cannot be read")
    refused("cityscape", "", "no folder .*leftImg8bit/train; ")
    (root / "list/val.txt").write_text("\n")
    refused("voc", "", "val.txt names no image")
    shutil.rmtree(root / "JPEGImages")
    refused("voc", "", "no folder .*JPEGImages; ")
    assert not (root.parent / "sheet.png").exists()


# --- The published numbers, on index files made for the purpose: no real data are at hand. ---

BY_HIGHEST = {10: 3706, 11: 188, 12: 868, 13: 227, 14: 201, 15: 3247, 16: 378, 17: 299, 18: 420, 19: 500, 20: 548}
"""Training images by the highest class that they show; the first number is of classes 1 to 10 together."""
BY_LOWEST = {1: 869, 11: 24, 12: 112, 13: 76, 14: 59, 15: 100, 16: 37, 17: 52, 18: 24, 19: 68, 20: 28}
"""Validation images by the lowest class that they show."""


def values_as_published() -> tuple[np.ndarray, np.ndarray]:
    """(10582,256) and (1449,256) bool: masks with which every number of SPEC 2 holds."""
    highest = np.repeat([*BY_HIGHEST], [*BY_HIGHEST.values()])
    train = np.zeros((len(highest), 256), bool)
    train[:, 0] = True
    train[np.arange(len(highest)), highest] = True

    def also(label: int, count: int, rows: np.ndarray) -> None:
        train[np.flatnonzero(rows)[:count], label] = True

    late, person, last = highest >= 16, highest == 15, highest == 20
    for label, count in ((11, 340), (12, 309), (13, 217), (14, 281)):
        also(label, count, person)
    also(15, 651, late)
    also(16, 109, last)
    also(18, 71, last)
    # Of the images whose highest class is above 10, 2433 show one of 1..10: here class 1. 480 of them are late ones
    # that do not show 15, so that 1131 late ones show a class of 1..15.
    also(1, 480, late & ~train[:, 15])
    also(1, 1953, person)
    train[: BY_HIGHEST[10], 1] = True
    lowest = np.repeat([*BY_LOWEST], [*BY_LOWEST.values()])
    val = np.zeros((len(lowest), 256), bool)
    val[np.arange(len(lowest)), lowest] = True
    return train, val


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC of empty files, with index files that say what they would hold."""
    root = tmp_path_factory.mktemp("published") / "voc"
    for folder in ("JPEGImages", "SegmentationClassAug", "list"):
        (root / folder).mkdir(parents=True)
    spec = SPECS["voc"]
    for name, split, values in zip(("train_aug", "val"), ("train", "val"), values_as_published(), strict=True):
        lines = []
        for number in range(len(values)):
            (root / "JPEGImages" / f"{name}{number}.jpg").touch()
            (root / "SegmentationClassAug" / f"{name}{number}.png").touch()
            lines.append(f"/JPEGImages/{name}{number}.jpg /SegmentationClassAug/{name}{number}.png\n")
        (root / "list" / f"{name}.txt").write_text("".join(lines))
        key = look_at(spec.list_samples(root, split), root, spec.label_values).fingerprint
        index_module._write(Scan(values, np.full((len(values), 2), 48)), f"voc-{split}", root, key)
    return root


@pytest.fixture(scope="module")
def published(indexed: Path) -> tuple[Split, Split]:
    return tuple(load_split(SPECS["voc"], indexed, name) for name in ("train", "val"))


def test_the_numbers_of_the_specification_are_pinned(published: tuple[Split, Split]):
    spec = SPECS["voc"]
    assert spec.num_images == (10582, 1449) and SPECS["ade"].num_images == (20210, 2000)
    assert SPECS["cityscape"].num_images == SPECS["cityscapes_domain"].num_images == (2975, 500)
    assert {(sizes.task, sizes.scenario): (sizes.train, sizes.test) for sizes in spec.step_sizes} == {
        ("15-1", "overlapped"): ((9568, 487, 299, 491, 500, 548), (1240, 1277, 1329, 1353, 1421, 1449)),
        ("15-1", "disjoint"): ((8437, 378, 299, 420, 500, 548), (1240, 1277, 1329, 1353, 1421, 1449)),
        ("10-1", "overlapped"): (
            (6139, 528, 1177, 444, 482, 3898, 487, 299, 491, 500, 548),
            (869, 893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449),
        ),
        ("10-1", "disjoint"): (
            (3706, 188, 868, 227, 201, 3247, 378, 299, 420, 500, 548),
            (869, 893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449),
        ),
    }
    assert against_published(spec, *published) == []


def test_a_mask_too_few_of_a_class_is_noticed(published: tuple[Split, Split]):
    train, val = published
    shows_train = np.flatnonzero(train.classes[:, 19])[0]
    classes = train.classes.copy()
    classes[shows_train, 19] = False
    problems = against_published(SPECS["voc"], Split(train.samples, classes), val)
    tail = "499 train images; a complete voc has 500: some masks are not the published ones"
    overlapped = [problem for problem in problems if "overlapped" in problem]
    assert overlapped == [f"15-1 overlapped, step 4: {tail}", f"10-1 overlapped, step 9: {tail}"]
    assert f"15-1 disjoint, step 4: {tail}" in problems


def test_another_number_of_images_is_noticed_and_said_once(published: tuple[Split, Split]):
    train, val = published
    fewer = train.take(np.arange(1464))
    assert against_published(SPECS["voc"], fewer, val) == ["1,464 training images; a complete voc has 10,582"]
    assert against_published(SPECS["ade"], train, val) == [
        "10,582 training images; a complete ade has 20,210",
        "1,449 validation images; a complete ade has 2,000",
    ]


def test_files_are_counted_against_a_complete_copy_unless_drawn(root: Path, capsys: pytest.CaptureFixture):
    assert check(root) == 0
    assert "not compared with the published numbers" in capsys.readouterr().out
    (root / "shapes.json").unlink()
    assert check(root) == 1
    assert "40 training images; a complete voc has 10,582" in capsys.readouterr().out


def test_a_data_set_without_published_numbers_has_none_to_differ_from(published: tuple[Split, Split]):
    assert against_published(replace(SPECS["voc"], num_images=None), *published) == []


def test_validation_images_that_are_training_images_are_named(root: Path, capsys: pytest.CaptureFixture):
    """By link and by copy; a picture of the same size alone is none."""
    images = [root / line.split()[0].lstrip("/") for line in (root / "list" / "train_aug.txt").read_text().splitlines()]
    tested = [root / line.split()[0].lstrip("/") for line in (root / "list" / "val.txt").read_text().splitlines()]
    for path in tested[:3]:
        path.unlink()
    tested[0].symlink_to(images[0])
    tested[1].hardlink_to(images[1])
    tested[2].write_bytes(images[2].read_bytes())
    assert check(root) == 1
    said = capsys.readouterr().out
    for number in (0, 1):
        assert f"image {tested[number]} and the training image {images[number]} are the same file" in said
    assert f"image {tested[2]} is a copy of the training image {images[2]}" in said
    assert said.count(" are the same file") == 2 and said.count(" is a copy of ") == 1
    with pytest.raises(UserError, match=r"image .* and the training image .* are the same file \(and 1 more\); take"):
        select_steps(DataConfig(dataset="voc", data_root=root), voc.SPEC, task_of("voc", "15-1"))


def test_data_without_a_background_are_sound_and_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    """As CamVid: label 0 stays unused. The pictures of a test split are read, too."""
    root, rng = tmp_path / "streets", np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(3):
            image, mask = rng.integers(0, 256, (20, 20, 3)), rng.integers(1, 4, (20, 20))
            Image.fromarray(image.astype(np.uint8)).save(root / "images" / split / f"{number}.png")
            Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / split / f"{number}.png")
    (root / "classes.txt").write_text("none\nsky\nroad\ntree\n")
    assert check(root, dataset="folder") == 0
    said = capsys.readouterr().out
    assert "folder: 3 training, 3 validation and 3 test images with masks\n" in said
    assert "  note: no mask shows class 0, none: it stands for classes to come alone\n" in said
    (root / "images" / "test" / "1.png").write_bytes((root / "images" / "train" / "2.png").read_bytes())
    assert check(root, dataset="folder") == 1
    assert "test/1.png is a copy of the training image" in capsys.readouterr().out
