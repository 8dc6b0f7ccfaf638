"""Masks of colours become those of label values, or are refused with the place."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.cityscapes import PALETTE, RAW_IDS
from dataset.reading import read_mask
from tools import colours_to_labels
from utils.constants import voc_palette

LABELS = np.random.default_rng(0).integers(0, 21, (12, 17)).astype(np.uint8)
LABELS[3, 4:7] = 255
COLOURS = np.array([*voc_palette(21), *[(0, 0, 0)] * 234, (224, 224, 192)], np.uint8)


def run(*words: object) -> int:
    return colours_to_labels.main([str(word) for word in words])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_colours_of_voc(tmp_path: Path, mode: str, capsys: pytest.CaptureFixture):
    for name in ("a.png", "city/b.PNG", "._c.png"):
        path = tmp_path / "rgb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[LABELS]).convert(mode, palette=Image.Palette.ADAPTIVE).save(path, format="PNG")
    assert run(tmp_path / "rgb", tmp_path / "out", "--dataset", "voc") == 0
    assert capsys.readouterr().out == f"2 masks in {tmp_path / 'out'}\n"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "b.png"]
    for name in ("a.png", "city/b.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / name), LABELS)
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / name).convert("RGB")), COLOURS[LABELS])


def test_the_colours_of_cityscapes_become_raw_ids(tmp_path: Path):
    colours = np.array(PALETTE[1:], np.uint8)[None]
    (tmp_path / "rgb").mkdir()
    Image.fromarray(colours).save(tmp_path / "rgb" / "a.png")
    assert run(tmp_path / "rgb", tmp_path / "out", "--dataset", "cityscape") == 0
    assert tuple(read_mask(tmp_path / "out" / "a.png")[0]) == RAW_IDS


def test_colours_of_ones_own(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("nothing #000000\nroad 1 2 3\n")
    (tmp_path / "rgb").mkdir()
    Image.fromarray(np.array([[(1, 2, 3), (0, 0, 0), (9, 9, 9)]], np.uint8)).save(tmp_path / "rgb" / "a.bmp")
    words = [tmp_path / "rgb", tmp_path / "out", "--classes", tmp_path / "classes.txt"]
    assert run(*words) == 2 and not (tmp_path / "out").exists()
    assert run(*words, "--ignore", "#090909") == 0
    assert read_mask(tmp_path / "out" / "a.png").tolist() == [[1, 0, 255]]


FAULTS = {
    "another colour": (
        "--classes classes.txt",
        r"rgb/a.png has the colour #090909, 9 9 9, in 2 pixels, first in row 0, column 1: no class has it; .* --ignore",
    ),
    "a JPEG": ("--classes classes.txt", r"rgb/a.jpg is a JPEG file, which changes colours; export the masks as PNG"),
    "one colour for two": ("--classes twice.txt", "#010203 is the colour of 1 and of 2: give each a colour of its own"),
    "no colour": ("--classes classes.txt --ignore black", "--ignore black: a colour is rrggbb, as e0e0c0"),
    "nothing to turn": ("--classes classes.txt", "no picture in rgb; name the folder of the masks of colours"),
    "out within": ("--classes classes.txt", "rgb/out lies in rgb, and would mix both kinds"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    options, said = FAULTS[fault]
    Path("classes.txt").write_text("nothing #000000\nroad 1 2 3\n")
    Path("twice.txt").write_text("nothing #000000\nroad 1 2 3\ncar 1 2 3\n")
    Path("rgb").mkdir()
    if fault != "nothing to turn":
        picture = Image.fromarray(np.array([[(1, 2, 3), (9, 9, 9), (9, 9, 9)]], np.uint8))
        picture.save(f"rgb/a.{'jpg' if fault == 'a JPEG' else 'png'}")
    assert run("rgb", "rgb/out" if fault == "out within" else "out", *options.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not Path("out").exists() and not Path("rgb/out").exists()
    assert re.match(f"error: {said}", error), error
