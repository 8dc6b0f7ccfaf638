"""tools/predict.py: masks are what the network says, in the labels and colours of the data set."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import ade, cityscapes, voc
from dataset.reading import read_image
from dataset.transform import normalise
from dataset.voc import voc_palette
from metrics.pictures import GAP, HEADER, MARGIN
from modules.authors_names import to_authors
from segmentation_module import SegmentationNet, load_network
from tests.helpers import SPECS, small_config, task_of
from tests.networks import save_network
from tests.workplace import Workplace, load
from tiles import predict
from tools.predict import main
from utils.checkpoint import save_checkpoint

LATER, STEP = "--task 15-5s_b", 3
"""A run whose classes arrive in another order than that of their ids."""


def run(*words: object) -> int:
    """The tool on the CPU."""
    return main(["--device", "cpu", *map(str, words)])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def logits(network: SegmentationNet, image: Path) -> torch.Tensor:
    """(C,H,W), by the network alone."""
    with torch.inference_mode():
        return network(normalise(read_image(image)[None])).logits[0]


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SegmentationNet]:
    """A checkpoint whose masks show many classes, and its network. Not to be changed."""
    path = tmp_path_factory.mktemp("later") / "step.pth"
    return path, save_network(path, LATER, STEP)


@pytest.fixture
def images(tmp_path: Path, shapes: Path) -> Path:
    """A folder of pictures of three sizes, in several formats."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, path in enumerate(sorted((shapes / "JPEGImages").iterdir())[:6]):
        with Image.open(path) as image:
            width, height = [(64, 64), (64, 64), (90, 41)][number % 3]
            image.resize((width, height)).save(folder / f"{path.stem}.{'png' if number % 2 else 'jpg'}")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_masks_are_the_largest_outputs_of_a_trained_network(trained: Workplace, images: Path, tmp_path: Path):
    assert run("--ckpt", trained.checkpoint(1), "--out", tmp_path / "out", images) == 0
    weights = load(trained.checkpoint(1))["model_state"]
    network = load_network(small_config(backbone="resnet14"), weights, branches=2, classes_per_head=(16, 1)).merged()
    paths = [path for path in images.iterdir() if path.suffix != ".txt"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{path.stem}_{kind}.png" for path in paths for kind in ("mask", "overlay")
    }
    for path in paths:
        mask = pixels(tmp_path / "out" / f"{path.stem}_mask.png")
        # Folding the norms changes the last bits of the logits.
        assert (mask == logits(network, path).argmax(0).numpy()).mean() > 0.999


def test_masks_hold_class_ids_whatever_the_order_of_arrival(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path
):
    ckpt, network = later
    assert run("--ckpt", ckpt, "--out", tmp_path / "out", images) == 0
    order = np.array(task_of("voc", "15-5s_b").step(STEP).order)
    assert order.tolist() != sorted(order)
    seen = set()
    for path in images.glob("*.??g"):
        with Image.open(tmp_path / "out" / f"{path.stem}_mask.png") as mask:
            assert mask.mode == "P" and mask.getpalette()[: 3 * 21] == [
                c for colour in voc.SPEC.palette for c in colour
            ]
            expected = order[logits(network, path).argmax(0).numpy()]
            assert (np.asarray(mask) == expected).mean() > 0.999
            seen |= {*np.unique(mask).tolist()}
    assert len(seen) > 5


def test_colours_are_those_of_the_data_set(images: Path, tmp_path: Path):
    [image, *_] = images.glob("*.jpg")
    for line, palette in (
        ("--dataset ade --task 100-50", ade.SPEC.palette),
        ("--dataset cityscapes_domain --task 11-5", cityscapes.DOMAIN_SPEC.palette),
    ):
        save_network(tmp_path / "step.pth", line, 0)
        assert run("--ckpt", tmp_path / "step.pth", "--out", tmp_path / "out", image) == 0
        with Image.open(tmp_path / "out" / f"{image.stem}_mask.png") as mask:
            assert mask.getpalette()[: 3 * len(palette)] == [channel for colour in palette for channel in colour]


def test_one_s_own_data_have_the_names_of_the_checkpoint_and_the_colours_of_voc(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = load(later[0])
    names = [f"thing {number}" for number in range(19)]
    checkpoint["trainer_state"]["identity"] |= {"dataset": "folder", "classes": names}
    save_checkpoint(tmp_path / "step.pth", checkpoint)
    told = []
    monkeypatch.setattr("tools.predict.draw_overlay", lambda *given: told.append(given) or Image.new("L", (1, 1)))
    assert run("--ckpt", tmp_path / "step.pth", "--out", tmp_path / "out", images) == 0
    order = task_of("voc", "15-5s_b").step(STEP).order
    assert told[0][2] == voc_palette(256) and [told[0][3][label] for label in order] == names


@pytest.mark.parametrize("tiles", [[], ["--tile", 64, "--overlap", 16]])
def test_batches_change_nothing(
    later: tuple[Path, SegmentationNet],
    images: Path,
    tmp_path: Path,
    tiles: list,
    monkeypatch: pytest.MonkeyPatch,
):
    for path in images.glob("*.png"):
        with Image.open(path) as image:
            image.resize((150, 90)).save(path)
    forward, seen = SegmentationNet.forward, []
    monkeypatch.setattr(SegmentationNet, "forward", lambda self, batch: seen.append(len(batch)) or forward(self, batch))
    for batch_size, sizes in ((1, [1]), (4, [1, 2, 3])):
        seen.clear()
        words = ["--out", tmp_path / str(batch_size), "--batch_size", batch_size, *tiles]
        assert run("--ckpt", later[0], "--confidence", *words, images) == 0
        assert sorted({*seen}) == sizes
    one, other = tmp_path / "1", tmp_path / "4"
    assert len(files(one)) == 18 and files(one).keys() == files(other).keys()
    for path in one.glob("*_mask.png"):
        # Convolutions of batches may round otherwise.
        assert (pixels(path) == pixels(other / path.name)).mean() > 0.999


def test_tiles_are_those_of_the_options(later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path):
    ckpt, network = later
    [image, *_] = images.glob("*.png")
    with Image.open(image) as small:
        small.resize((170, 99)).save(image)
    order = np.array(task_of("voc", "15-5s_b").step(STEP).order)

    def expected(**tiles: int) -> np.ndarray:
        found = predict(lambda part: network(normalise(part)).logits, read_image(image)[None], **tiles)
        return order[found.outputs[0].numpy()]

    for words, tiles in (
        ([], {}),
        (["--tile", 64], {"tile": 64, "overlap": 16}),
        (["--tile", 64, "--overlap", 0], {"tile": 64, "overlap": 0}),
        (["--tile", 200], {}),
    ):
        assert run("--ckpt", ckpt, "--out", tmp_path / "out", *words, image) == 0
        mask = pixels(tmp_path / "out" / f"{image.stem}_mask.png")
        assert (mask == expected(**tiles)).mean() > 0.999, words
    assert (expected(tile=64, overlap=16) != expected()).any()


def test_images_of_any_size_are_labelled(later: tuple[Path, SegmentationNet], tmp_path: Path):
    sizes = {"point": (1, 1), "wall": (3, 200), "odd": (33, 31)}
    (tmp_path / "truth").mkdir()
    for name, size in sizes.items():
        Image.new("RGB", size, (90, 120, 30)).save(tmp_path / f"{name}.png")
        Image.new("L", size).save(tmp_path / "truth" / f"{name}.png")
    words = ["--out", tmp_path / "out", "--truth", tmp_path / "truth", "--confidence"]
    assert run("--ckpt", later[0], *words, tmp_path) == 0
    for name, size in sizes.items():
        assert pixels(tmp_path / "out" / f"{name}_mask.png").shape == size[::-1]


def test_truth_stands_beside_the_prediction_and_confidence_is_mapped(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ckpt, network = later
    (tmp_path / "truth").mkdir()
    for path in images.glob("*.??g"):
        with Image.open(path) as image:
            Image.new("L", image.size, 20).save(tmp_path / "truth" / f"{path.stem}.png")
    maps = []
    draw = "tools.predict.draw_confidence"
    monkeypatch.setattr(draw, lambda values: maps.append(values) or Image.new("L", (1, 1)))
    [image, *_] = images.glob("*.png")
    words = ["--truth", tmp_path / "truth", "--confidence", "--out", tmp_path / "out"]
    assert run("--ckpt", ckpt, *words, image) == 0
    assert set(files(tmp_path / "out")) == {
        f"{image.stem}_{kind}.png" for kind in ("mask", "overlay", "compare", "confidence")
    }
    page = pixels(tmp_path / "out" / f"{image.stem}_compare.png")
    with Image.open(image) as picture:
        factor = round(240 / max(picture.size))
        cell = picture.width * factor, picture.height * factor
    middle = MARGIN + cell[0] + GAP + cell[0] // 2
    assert tuple(page[MARGIN + HEADER + cell[1] // 2, middle].tolist()) == voc.SPEC.palette[20]
    assert page.shape[1] == 2 * MARGIN + 4 * cell[0] + 3 * GAP
    torch.testing.assert_close(
        torch.from_numpy(maps[0]), logits(network, image).softmax(0).amax(0), atol=1e-3, rtol=1e-2
    )


def test_truth_of_large_images_is_scaled_down_with_them(later: tuple[Path, SegmentationNet], tmp_path: Path):
    Image.new("RGB", (1500, 70)).save(tmp_path / "wide.png")
    (tmp_path / "truth").mkdir()
    Image.new("L", (1500, 70), 3).save(tmp_path / "truth" / "wide.png")
    words = ["--truth", tmp_path / "truth", "--out", tmp_path / "out"]
    assert run("--ckpt", later[0], *words, tmp_path / "wide.png") == 0
    assert pixels(tmp_path / "out" / "wide_compare.png").shape[1] == 2 * MARGIN + 4 * 1000 + 3 * GAP
    assert pixels(tmp_path / "out" / "wide_overlay.png").shape[1] == 2 * MARGIN + 1500


def test_label_values_of_masks_are_read_as_the_data_set_means_them(images: Path, tmp_path: Path):
    save_network(tmp_path / "step.pth", "--dataset cityscapes_domain --task 11-5", 0)
    [image, *_] = images.glob("*.jpg")
    (tmp_path / "truth").mkdir()
    with Image.open(image) as picture:
        side = picture.width
        Image.new("L", picture.size, 26).save(tmp_path / "truth" / f"{image.stem}.png")  # raw id of a car
    words = ["--truth", tmp_path / "truth", "--out", tmp_path / "out"]
    assert run("--ckpt", tmp_path / "step.pth", *words, image) == 0
    page = pixels(tmp_path / "out" / f"{image.stem}_compare.png")
    centre = page[MARGIN + HEADER + 20, MARGIN + side * round(240 / side) + GAP + 20]
    assert tuple(centre.tolist()) == SPECS["cityscapes_domain"].palette[13]


def test_a_checkpoint_of_another_code_base_is_told_what_it_is(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    save_checkpoint(tmp_path / "step.pth", {"model_state": to_authors(load(later[0])["model_state"])})
    told = ["--dataset", "voc", "--task", "15-5s_b"]
    assert run("--ckpt", later[0], "--out", tmp_path / "ours", images) == 0
    assert run("--ckpt", tmp_path / "step.pth", "--out", tmp_path / "foreign", *told, images) == 0
    assert files(tmp_path / "ours") == files(tmp_path / "foreign")
    assert capsys.readouterr().out.splitlines()[1].startswith("6 image(s) labelled by step 3 of voc, 19 classes: ")
    words = [*told, "--norm_act", "std", "--stem_activation", "--output_stride", 8]
    assert run("--ckpt", tmp_path / "step.pth", "--out", tmp_path / "others", *words, images) == 0
    assert files(tmp_path / "ours") != files(tmp_path / "others")


def test_a_half_done_step_is_labelled_with_a_warning(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    checkpoint = load(later[0])
    checkpoint["trainer_state"]["finished"] = False
    save_checkpoint(tmp_path / "step.pth", checkpoint)
    assert run("--ckpt", tmp_path / "step.pth", "--out", tmp_path / "out", images) == 0
    assert capsys.readouterr().err == f"warning: {tmp_path}/step.pth is a half-done step 3\n"


def test_memory_that_is_too_small_gets_a_line(
    later: tuple[Path, SegmentationNet], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def forward(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(SegmentationNet, "forward", forward)
    assert run("--ckpt", later[0], "--out", tmp_path / "out", images) == 2
    error = capsys.readouterr().err
    assert "64 x 64: out of memory; give --tile 1024" in error and error.count("\n") == 1


Spoil = Callable[[Path], object]


def a_truth(folder: Path, size: tuple[int, int] = (64, 64), value: int = 1) -> None:
    (folder / "truth").mkdir()
    Image.new("L", size, value).save(folder / "truth" / "a.png")


def imagenet(folder: Path) -> None:
    torch.save({"state_dict": {"layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}}, folder / "step.pth")


def other_model(folder: Path) -> None:
    save_checkpoint(folder / "step.pth", {"model_state": {"conv1.weight": torch.zeros(4, 3, 3, 3)}})


def foreign(folder: Path) -> None:
    weights = to_authors(load(folder / "step.pth")["model_state"])
    save_checkpoint(folder / "step.pth", {"model_state": weights})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_INPUT: dict[str, tuple[str, Spoil | None, str]] = {
    "no image": (
        "b.txt",
        lambda f: (f / "b.txt").write_text("text"),
        "image b.txt cannot be read .a text.; put the picture itself there",
    ),
    "no such image": ("none.jpg", None, "image none.jpg cannot be read \\(No such file or directory\\)"),
    "an image cut off": ("a.png", lambda f: cut(f / "a.png"), "image a.png cannot be read"),
    "one cut off after a good one": (
        "b.png a.png",
        lambda f: (shutil.copy(f / "a.png", f / "b.png"), cut(f / "a.png")),
        "image a.png cannot be read",
    ),
    "a folder without images": ("empty", lambda f: (f / "empty").mkdir(), "no image in empty; name another folder"),
    "two of one stem": (
        "a.png more/a.jpg",
        lambda f: ((f / "more").mkdir(), Image.new("RGB", (9, 9)).save(f / "more" / "a.jpg")),
        "a.png and more/a.jpg would both become predictions/a_mask.png; give one at a time",
    ),
    "results beside images": (
        "--out . a.png",
        None,
        "a.png lies in --out ., where the results go; name another folder",
    ),
    "no checkpoint": ("a.png", lambda f: (f / "step.pth").unlink(), "the checkpoint is missing: step.pth"),
    "ImageNet weights": ("a.png", imagenet, "step.pth is no checkpoint of a step: it has no weights under model_state"),
    "another model": ("a.png", other_model, "step.pth: the weights hold .conv1.weight., which is no part of"),
    "a checkpoint cut off": ("a.png", lambda f: cut(f / "step.pth"), "step.pth"),
    "a foreign file": ("a.png", foreign, "step.pth: .* does not say what it is: give --dataset and --task"),
    "half a description": ("--dataset voc a.png", foreign, "give both --dataset and --task"),
    "a stray option": ("--norm_act std a.png", None, "give both --dataset and --task, or none of them"),
    "a needless description": ("--dataset voc --task 15-1 a.png", None, "step.pth: it says itself what it is"),
    "a small tile": ("--tile 63 a.png", None, "--tile 63: at least 64 pixels"),
    "a large overlap": ("--tile 64 --overlap 33 a.png", None, "--overlap 33: 0 to 32, half of --tile 64"),
    "a negative overlap": ("--tile 64 --overlap -1 a.png", None, "--overlap -1: 0 to 32"),
    "an overlap of nothing": ("--overlap 9 a.png", None, "--overlap 9: only tiles overlap; give --tile, too"),
    "no batch": ("--batch_size 0 a.png", None, "--batch_size 0: at least 1"),
    "no window": ("--pooling 0 a.png", None, "--pooling 0: at least 1"),
    "no such device": ("--device tpu a.png", None, "--device tpu: choose from cpu"),
    "no folder of truth": ("--truth truth a.png", None, "mask truth/a.png cannot be read"),
    "truth of another size": (
        "--truth truth a.png",
        lambda f: a_truth(f, (64, 63)),
        "a.png and truth/a.png have 64 x 64 and 64 x 63 pixels",
    ),
    "truth of another data set": (
        "--truth truth a.png",
        lambda f: a_truth(f, value=77),
        "mask truth/a.png holds label values 77; voc knows 0..20, 255",
    ),
    "a file in the place of --out": (
        "--out there a.png",
        lambda f: (f / "there").touch(),
        "(File exists|Not a directory): .*there",
    ),
}


def test_bad_input_gets_one_line_and_nothing_is_written(
    later: tuple[Path, SegmentationNet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    for kind, (words, spoil, message) in BAD_INPUT.items():
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "step.pth").write_bytes(later[0].read_bytes())
        Image.effect_noise((64, 64), 90).convert("RGB").save("a.png")
        if spoil:
            spoil(folder)
        before = {*folder.rglob("*")}
        assert run("--ckpt", "step.pth", *words.split()) == 2, kind
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and err.count("\n") == 1 and not out, kind
        assert re.search(message, err), (kind, err)
        assert {*folder.rglob("*")} == before, kind
