"""tools/make_saliency.py, with OpenCV itself, and the maps as a third value of a pixel."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import DataConfig
from dataset import SALIENCY
from tests.helpers import data_of
from tests.workplace import Workplace
from tools import make_saliency
from tools.make_shapes import make_shapes
from tools.shapes.draw import draw_picture
from utils.errors import UserError


def maps_of(root: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((root / SALIENCY).iterdir())}


def test_a_disc_on_noise_stands_out_and_a_second_run_draws_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    pytest.importorskip("cv2.saliency")
    make_shapes(tmp_path / "own", layout="folder", train=1, val=1, size=128, workers=1)
    [image] = (tmp_path / "own" / "images" / "train").iterdir()
    rows, columns = np.mgrid[:128, :128]
    disc = (rows - 64) ** 2 + (columns - 50) ** 2 < 30**2
    noise = np.random.default_rng(0).integers(90, 130, (128, 128, 3), dtype=np.uint8)
    noise[disc] = 240, 235, 220
    Image.fromarray(noise).save(image, quality=95)
    (tmp_path / "own" / SALIENCY / f"{image.stem}.png").unlink()
    words = [str(tmp_path / "own"), "--dataset", "folder"]
    assert make_saliency.main(words) == 0 and ": 1 maps drawn" in capsys.readouterr().out
    found = maps_of(tmp_path / "own")[image.stem] > 0
    assert found[disc].mean() > 0.5 > 0.3 > found[~disc].mean()
    assert make_saliency.main(words) == 0 and ": 0 maps drawn" in capsys.readouterr().out


def test_without_opencv_it_says_so(shapes: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert make_saliency.main([str(shapes)]) == 2
    assert capsys.readouterr().err == (
        "error: OpenCV's saliency is not installed: pip install opencv-contrib-python-headless\n"
    )


def test_the_drawn_maps_show_objects_and_distractors(shapes: Path):
    found = maps_of(shapes)
    assert len(found) == 54
    for index in range(5):
        picture = draw_picture(46, 0, index, 64, 20)
        assert np.array_equal(found[f"train_{index:05d}"], picture.salient)
        distracts = picture.salient & (picture.labels == 0)
        assert picture.salient[picture.labels > 0].all() and distracts.any() and not picture.salient.all()


def test_a_map_is_cropped_and_mirrored_as_the_labels_are(own_data: Workplace):
    """Maps that are the masks themselves stay so."""
    for path in (own_data.data / SALIENCY).iterdir():
        mask = np.asarray(Image.open(own_data.data / "SegmentationClassAug" / path.name))
        Image.fromarray(np.where(np.isin(mask, (0, 255)), 0, 7).astype(np.uint8)).save(path)
    config = DataConfig(
        data_root=own_data.data, task="offline", overlap=True, crop_size=48, batch_size=4, num_workers=0
    )
    data = data_of(config)
    batches = data.train(data.task.step(0), saliency=True)
    for epoch in range(2):
        for _, labels, salient in batches.epoch(epoch):
            assert salient.dtype == torch.bool and torch.equal(salient, (labels > 0) & (labels < 255))
    plain = [labels for _, labels in data.train(data.task.step(0)).epoch(0)]
    assert all(torch.equal(one, other[1]) for one, other in zip(plain, batches.epoch(0), strict=True))


def test_maps_that_are_missing_or_of_another_size_are_one_line(own_data: Workplace, capsys: pytest.CaptureFixture):
    options = ("--method", "SSUL", "--step", 0)
    path = own_data.data / SALIENCY / "train_00003.png"
    Image.new("1", (64, 63)).save(path)
    assert own_data.run(*options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path} has 64 x 63 pixels, its picture 64 x 64" in error
    path.unlink()
    assert own_data.run(*options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: no saliency map {path}; make all with: python tools/make_saliency.py")
    assert not list((own_data.folder / "checkpoints").glob("*.pth"))
    data = data_of(DataConfig(data_root=own_data.data, task="15-1", overlap=True))
    with pytest.raises(UserError, match="no saliency map"):
        data.train(data.task.step(0), saliency=True)
