"""Files of a folder: what is a sample, and what is named rather than passed over."""

from pathlib import Path

import pytest
from PIL import Image

from dataset.base import Sample
from dataset.listing import pair_by_name, pictures_in, read_lines
from utils.errors import UserError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """images and masks with two pairs."""
    made = tmp_path / "images", tmp_path / "masks"
    for folder in made:
        folder.mkdir()
        for name in ("a", "b"):
            Image.new("L", (3, 3)).save(folder / f"{name}.png")
    return made


def test_what_computers_leave_behind_is_no_picture(folders: tuple[Path, Path]):
    images, masks = folders
    for folder in folders:
        for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "._c.jpg"):
            (folder / name).write_bytes(b"x")
        (folder / ".thumbnails").mkdir()
        (folder / ".thumbnails" / "a.png").write_bytes(b"x")
    assert pictures_in(images) == [images / "a.png", images / "b.png"]
    assert pair_by_name(images, masks) == [Sample(images / f"{name}.png", masks / f"{name}.png") for name in "ab"]


@pytest.mark.parametrize("name", ["a.PNG", "a.Png", "a.tif", "a.bmp", "a.gif"])
def test_a_mask_may_end_as_it_likes(folders: tuple[Path, Path], name: str):
    images, masks = folders
    (masks / "a.png").rename(masks / name)
    assert pair_by_name(images, masks)[0].mask == masks / name


FAULTS = {
    "a photo of a phone": (
        "images/c.HEIC",
        r"c\.HEIC would be passed over: \.heic is not read; save it as PNG or JPEG",
    ),
    "a picture in a folder below": ("images/more/c.jpg", r"images/more/c\.jpg would be passed over: .* alone; move it"),
    "a mask without image": ("masks/c.png", r"1 mask\(s\) without image, first .*masks/c\.png: there is no .*images/c"),
    "an image without mask": ("images/c.jpg", r"image .*c\.jpg has no mask: there is no .*masks/c\.png; put it there"),
    "a mask of nearly the name": (
        "images/c.jpg masks/C_mask.png",
        r"image .*c\.jpg has no mask: there is no .*masks/c\.png, but C_mask\.png: rename it",
    ),
    "a mask of nearly the name that is another's": (
        "images/c.jpg images/c2.jpg masks/c2.png",
        r"image .*c\.jpg has no mask: there is no .*masks/c\.png; put it there, or take the image out$",
    ),
    "two masks": ("masks/a.tif", r"a\.png and a\.tif are masks of the same image; take one of them out"),
    "two images": ("images/a.jpg", r"would share the mask a\.png; rename one of them"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_passed_over(folders: tuple[Path, Path], fault: str):
    names, said = FAULTS[fault]
    for name in names.split():
        path = folders[0].parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=said):
        pair_by_name(*folders)


def test_a_list_may_come_from_any_system(tmp_path: Path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \r\n")
    assert read_lines(tmp_path / "list.txt", "") == ["one", "", " two "]
