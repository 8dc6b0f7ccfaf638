"""A data set of one's own: what classes.txt may say, and what is missing or wrong is named."""

import os
import shutil
from pathlib import Path

import pytest

from config import DataConfig
from dataset import open_dataset, open_task
from dataset.catalogue import select_steps
from dataset.folder import list_samples, read_classes, spec
from dataset.splits import StepSets
from dataset.voc import voc_palette
from tests.dataset.random_sets import random_folder
from utils.errors import UserError


def classes_of(folder: Path, text: str) -> tuple:
    path = folder / "classes.txt"
    path.write_text(text)
    return read_classes(path)


def test_names_and_colours_by_line(tmp_path: Path):
    names, palette = classes_of(tmp_path, "ground\nbig cat #ff8000\ntraffic light 250 170 30\n  dog \nn 7 1\n\n")
    assert names == ("ground", "big cat", "traffic light", "dog", "n 7 1")
    default = voc_palette(5)
    assert palette == (default[0], (255, 128, 0), (250, 170, 30), default[3], default[4])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ground\ncat\ndog\ncat\n", "line 4: the class cat again, after line 2; rename one of them"),
        ("ground\ncat 1 2 3\ncat 3 2 1\n", "line 3: the class cat again, after line 2"),
        ("ground\n\ncat\n", "line 2: no name; a line is NAME, NAME #rrggbb or NAME R G B"),
        ("ground\n #ff0000\ncat\n", "line 2: no name"),
        ("ground\ncat 256 0 0\n", "line 2: colour 256 0 0; its parts are 0 to 255"),
        ("ground\n", "names 1 classes; it needs the background and 1 to 254 more"),
        ("", "names 0 classes; it needs the background"),
        ("".join(f"class {number}\n" for number in range(256)), "names 256 classes"),
        ("ground\nc\0at\n", "line 2: the control character '\\x00'; it names the classes, one a line"),
        ("ground\n\x1b[2Jcat\n", "line 2: the control character '\\x1b'"),
        (f"ground\ncat{' ' * 100_000}1 2 3\n", "line 2: 100008 characters, 1000 are allowed"),
    ],
)
def test_a_list_of_classes_that_is_none_is_refused(tmp_path: Path, text: str, says: str):
    with pytest.raises(UserError) as caught:
        classes_of(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "classes.txt")) and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_classes_is_text_in_a_file(tmp_path: Path):
    path = tmp_path / "classes.txt"
    path.write_bytes(b"ground\nk\xe4se\n")  # in Latin 1
    with pytest.raises(UserError, match=r"classes\.txt cannot be read \(no text\); it names the classes"):
        read_classes(path)
    path.write_bytes("\ufeffground\r\nKäse\r\n".encode())  # as an editor of Windows leaves it
    assert read_classes(path)[0] == ("ground", "Käse")
    path.unlink()
    os.mkfifo(path)  # of which nothing would ever come
    with pytest.raises(UserError, match=r"classes\.txt cannot be read \(no regular file\)"):
        read_classes(path)


def test_the_largest_list_of_classes(tmp_path: Path):
    names, palette = classes_of(tmp_path, "".join(f"class {number}\n" for number in range(255)))
    assert len(names) == len(palette) == 255
    data = spec(DataConfig(data_root=tmp_path))
    assert data.label_values == frozenset(range(256)) and data.facts.num_units == 254


def test_samples_are_pairs_in_order_of_name(tmp_path: Path):
    data = random_folder(tmp_path, 0)
    for split, names in (("train", data.train), ("val", data.val)):
        samples = list_samples(tmp_path, split)
        assert [sample.image.stem for sample in samples] == sorted(names)
        assert all(sample.mask == tmp_path / "masks" / split / f"{sample.image.stem}.png" for sample in samples)


def test_other_files_are_no_samples(tmp_path: Path):
    data = random_folder(tmp_path, 0)
    for name in ("Thumbs.db", "notes.txt", ".DS_Store"):
        (tmp_path / "images" / "train" / name).write_text("")
    assert len(list_samples(tmp_path, "train")) == len(data.train)


def test_what_is_missing_is_named(tmp_path: Path):
    random_folder(tmp_path, 0)
    with pytest.raises(UserError, match="--dataset folder needs --data_root DIR"):
        spec(DataConfig())
    with pytest.raises(UserError, match=r"no folder .*nowhere; point --data_root at"):
        spec(DataConfig(data_root=tmp_path / "nowhere"))
    shutil.copy(tmp_path / "images/val/val000.png", tmp_path / "images/val/val001.jpeg")
    with pytest.raises(UserError, match=r"val001\.jpeg and val001\.png would share the mask val001\.png; rename"):
        list_samples(tmp_path, "val")
    shutil.rmtree(tmp_path / "masks" / "val")
    with pytest.raises(UserError, match=r"no folder .*masks/val; .* needs images/train and masks/train, images/val"):
        list_samples(tmp_path, "val")
    for path in (tmp_path / "images" / "train").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no image in .*images/train; put some there \(\.jpg, "):
        list_samples(tmp_path, "train")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes\.txt cannot be read \(No such file.*\); it names the classes"):
        spec(DataConfig(data_root=tmp_path))


def test_a_test_split_is_tested_where_there_is_one(tmp_path: Path):
    data = random_folder(tmp_path, 0)
    config = DataConfig(dataset="folder", data_root=tmp_path, task="offline", overlap=True)

    def sets() -> StepSets:
        found = open_dataset(config)
        [of_step] = select_steps(config, found, open_task(config, found))
        return of_step

    assert sets().test == sets().val and {sample.image.stem for sample in sets().test} <= {*data.val}
    for part in ("images", "masks"):
        shutil.copytree(tmp_path / part / "val", tmp_path / part / "test")
    assert {sample.image.parent.name for sample in sets().test} == {"test"}
    assert {sample.image.parent.name for sample in sets().val} == {"val"}
    for part in ("images", "masks"):
        (tmp_path / part / "test" / "leak.png").symlink_to(tmp_path / part / "train" / "train000.png")
    with pytest.raises(UserError, match=r"image .*/test/.* and the training image .* are the same file; take it out"):
        sets()
    shutil.rmtree(tmp_path / "masks" / "test")
    with pytest.raises(UserError, match=r"no folder .*masks/test; .* needs .*images/test and masks/test"):
        sets()
