"""Data that do not serve: each fault is one clear line, exit code 2, and no file is left behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dataset.random_sets import random_ade, random_cityscapes, random_folder, random_voc
from tests.workplace import Workplace

RANDOM_SETS = {
    "voc": lambda root: random_voc(root, 0),
    "ade": lambda root: random_ade(root, 0),
    "folder": lambda root: random_folder(root, 0),
    "cityscape": lambda root: random_cityscapes(root, 0, 1),
    "cityscapes_domain": lambda root: random_cityscapes(root, 0, 0),
}
TASKS = {"voc": "10-5", "ade": "75-75", "folder": "2-2", "cityscape": "10-9", "cityscapes_domain": "11-5"}


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Rewrite a text file below the root."""
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def cut(pattern: str, count: int) -> Callable[[Path], None]:
    """Keep the first `count` bytes of the first file that matches."""

    def damage(root: Path) -> None:
        path = sorted(root.glob(pattern))[0]
        path.write_bytes(path.read_bytes()[:count])

    return damage


def swapped(text: str) -> str:
    return "".join(" ".join(reversed(line.split())) + "\n" for line in text.splitlines())


def without(pattern: str) -> Callable[[Path], None]:
    """Delete all files that match."""
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / old).rename(root / new)


def nothing(root: Path) -> None:
    """The data are sound; the options are not."""


LIST = "list/train_aug.txt"
LABELS = "ADEChallengeData2016/annotations/validation"
FAULTS = [
    ("voc", edit(LIST, swapped), "", r"train_aug\.txt, line 1: the mask /JPEGImages/.*swap the columns"),
    ("voc", edit(LIST, lambda text: text.replace("train_aug_007", "gone", 2)), "", r"image .*gone\.jpg cannot be read"),
    ("voc", edit("list/val.txt", lambda text: "\n\n"), "", r"val\.txt names no image; fill it"),
    ("voc", cut("SegmentationClassAug/*", 45), "", r"mask .*png cannot be read .*; restore the file"),
    ("voc", cut("JPEGImages/*", 300), "", r"image .*jpg cannot be read .*"),
    ("voc", cut("JPEGImages/*", 3), "", r"image .*jpg cannot be read \(of no known kind.*; put the picture itself"),
    ("voc", rename("SegmentationClassAug", "masks"), "", "no folder .*SegmentationClassAug nor SegmentationClass"),
    ("ade", rename("ADEChallengeData2016/images", "images"), "", "no folder .*images/training; point --data_root"),
    ("ade", without(f"{LABELS}/*0003.png"), "", r"image .*0003\.jpg has no mask: there is no .*0003\.png; put it"),
    ("ade", without("*/images/validation/*"), "", "no image in .*images/validation; put some there"),
    ("ade", nothing, "--class_order order.txt", r"--class_order order\.txt cannot be read"),
    ("folder", edit("classes.txt", lambda text: text + "thing 2\n"), "", r"classes\.txt, line 8: the class thing 2 ag"),
    (
        "folder",
        edit("classes.txt", lambda text: text.split("thing 5")[0]),
        "",
        r"holds label [56]; allowed: 0\.\.4, 255",
    ),
    (
        "folder",
        without("masks/train/train005.png"),
        "",
        r"image .*5\.png has no mask: there is no .*masks/train/train005",
    ),
    ("folder", nothing, "--task 4-3", "--task 4-3: folder has 2 classes left.* possible: 4-1, 4-2"),
    ("folder", nothing, "--scenario all", "--scenario: invalid choice: 'all' .choose from .*overlapped.*disjoint"),
    ("folder", nothing, "--overlap --scenario disjoint", "--overlap and --scenario disjoint contradict"),
    ("folder", nothing, "--domain_test clean", "--domain_test clean: folder has no domains"),
    ("cityscape", rename("leftImg8bit/train/ulm", "leftImg8bit/train/atlantis"), "", "train/atlantis: no city of City"),
    ("cityscape", nothing, "--scenario disjoint", "--scenario disjoint: cityscape deals out its images by class"),
    ("cityscapes_domain", rename("gtFine/val", "gtFine/test"), "", "no folder .*gtFine/val; point --data_root"),
    ("cityscapes_domain", nothing, "--test_on_val", "--test_on_val: cityscapes_domain takes its test images"),
    ("cityscapes_domain", nothing, "--label_protocol mib", "--label_protocol mib: cityscapes_domain has no background"),
    ("cityscapes_domain", nothing, "--ignore_test_bg", "--ignore_test_bg: cityscapes_domain has no background"),
    ("cityscapes_domain", without("*/*/bremen/*.png"), "--task 1-1 --step 1", r"step 1 \(domains 1\) .* no image"),
]


@pytest.mark.parametrize(("dataset", "damage", "options", "says"), FAULTS)
def test_a_fault_is_one_clear_line(
    tmp_path: Path, dataset: str, damage: Callable, options: str, says: str, capfd: pytest.CaptureFixture
):
    root = tmp_path / "data"
    RANDOM_SETS[dataset](root)
    damage(root)
    workplace = Workplace(tmp_path / "work", root)
    before = sorted(root.rglob("*"))
    words = [word for word in workplace.options() if word != "--overlap"]
    task = [] if "--task" in options or "--class_order" in options else ["--task", TASKS[dataset]]
    words[words.index("--task") : words.index("--task") + 2] = task
    code = workplace.main([*words, "--dataset", dataset, "--no_visualize", *options.split()])
    out, err = capfd.readouterr()
    assert code == 2 and "Traceback" not in out
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(says, err), err
    # The index of a split that is sound may be kept; nothing else appears.
    assert [path for path in sorted(root.rglob("*")) if ".index" not in str(path)] == before
    assert not (tmp_path / "work").exists()


def test_a_class_order_that_misses_a_class(tmp_path: Path, capfd: pytest.CaptureFixture):
    root = tmp_path / "data"
    random_folder(root, 0)
    order = tmp_path / "order.txt"
    order.write_text("thing 3, thing 1\nthing 2, 5\n6\n")
    workplace = Workplace(tmp_path / "work", root)
    words = workplace.options("--dataset", "folder", "--class_order", order)
    words[words.index("--task") : words.index("--task") + 2] = []
    assert workplace.main(words) == 2
    assert capfd.readouterr().err == (
        f"error: --class_order {order}: each class belongs on one line; nowhere: 4 (thing 4)\n"
    )
