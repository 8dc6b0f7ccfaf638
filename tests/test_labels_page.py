"""The commands and lines of docs/LABELS.md make a data set of what the tools export."""

import importlib
import json
import shlex
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.folder import read_classes
from dataset.reading import read_mask
from tests.worked_example import blocks
from tools import colours_to_labels

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "LABELS.md").read_text()


def test_a_mask_export_of_cvat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """labelmap.txt by name, so that the background is in its midst; colours of the tool's own."""
    (commands,) = [block for block in blocks(PAGE, "sh") if "labelmap" in block]
    classes = {"apple tree": (51, 221, 255), "background": (0, 0, 0), "car": (250, 50, 83)}
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in classes.items()]
    labels = np.array([[0, 1, 2], [2, 1, 0]])
    order = ["background", "apple tree", "car"]
    Image.fromarray(np.array([classes[name] for name in order], np.uint8)[labels]).save(tmp_path / "mask.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "picture.jpg")
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as file:
        file.writestr("labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n")
        file.write(tmp_path / "mask.png", "SegmentationClass/one.png")
        file.write(tmp_path / "picture.jpg", "JPEGImages/one.jpg")
    monkeypatch.chdir(tmp_path)
    unpack, classes_file, turn, copy = commands.replace("\\\n", "").splitlines()
    with zipfile.ZipFile("task.zip") as file:  # not every machine has unzip
        file.extractall(unpack.split(" -d ")[1].split()[0])
    made = unpack.split(" && ")[1]
    subprocess.run(["sh", "-e", "-c", f"{made}\n{classes_file}\n{copy}"], check=True)
    assert colours_to_labels.main(shlex.split(turn)[2:]) == 0
    mine = tmp_path / "data" / "mine"
    names, palette = read_classes(mine / "classes.txt")
    assert list(names) == order and list(palette) == [classes[name] for name in order]
    assert (read_mask(mine / "masks" / "train" / "one.png") == labels).all()
    assert (mine / "images" / "train" / "one.jpg").is_file()


def test_a_coco_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Polygons, run lengths, and a box without an outline; category numbers with 0 and gaps."""
    pytest.importorskip("pycocotools")
    (lines,) = blocks(PAGE, "python")

    def thing(number: int, category: int, outline: object, area: float, *, crowd: int = 0) -> dict:
        return {
            **{"id": number, "image_id": 7, "category_id": category, "area": area, "iscrowd": crowd},
            **{"bbox": [0, 0, 1, 1], "segmentation": outline},
        }

    def box(x: int, y: int, size: int) -> list[list[int]]:
        return [[x, y, x + size, y, x + size, y + size, x, y + size]]

    crowd = {"size": [20, 30], "counts": [580, 20]}  # the last column
    things = [thing(1, 0, box(4, 4, 4), 16), thing(2, 90, box(2, 2, 12), 144), thing(3, 5, crowd, 20, crowd=1)]
    names = {90: "zebra", 0: "bird", 5: "tree"}
    content = {
        "images": [{"id": 7, "file_name": "train/one.jpg", "height": 20, "width": 30}],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "annotations": [*things, thing(4, 0, [], 900)],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines_for_coco.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("lines_for_coco")
    expected = np.zeros((20, 30), np.uint8)
    expected[2:14, 2:14], expected[4:8, 4:8], expected[:, -1] = 3, 1, 255
    assert (read_mask(tmp_path / "data/mine/masks/train/one.png") == expected).all()
    assert read_classes(tmp_path / "data/mine/classes.txt")[0] == ("background", "bird", "tree", "zebra")
