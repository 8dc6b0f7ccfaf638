"""segmenter.py and hubconf.py: what torch.hub hands out labels as tools/predict.py does, from any folder."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmenter import load_segmenter
from tests.networks import save_network
from tools.predict import main
from utils.errors import UserError

ROOT = Path(__file__).parents[1]
LATER, STEP = "--task 15-5s_b", 3
"""A run whose classes arrive in another order than that of their ids."""
NOTEBOOK = f"""
import torch
network = torch.hub.load({str(ROOT)!r}, "rcil", source="local", checkpoint="step.pth")
result = network.predict("photo.png", tile=64)
assert not network.training and network.class_names[0] == "background" and len(network.palette) == 21
result.overlay.save("overlay.png"), result.mask.save("mask.png"), result.confidence_map.save("confidence.png")
assert result._repr_png_().startswith(b"\\x89PNG")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a checkpoint and a picture that is larger than a tile."""
    folder = tmp_path_factory.mktemp("notebook")
    save_network(folder / "step.pth", LATER, STEP)
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    Image.fromarray(noise).resize((110, 90), Image.Resampling.BICUBIC).save(folder / "photo.png")
    return folder


def test_the_hub_labels_as_the_tool_does(folder: Path):
    subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=folder, check=True)
    words = ["--ckpt", "step.pth", "--device", "cpu", "--tile", "64", "--confidence", "--out", "tool", "photo.png"]
    assert main([str(folder / word) if (folder / word).exists() or word == "tool" else word for word in words]) == 0
    for kind in ("mask", "overlay", "confidence"):
        with Image.open(folder / f"{kind}.png") as ours, Image.open(folder / "tool" / f"photo_{kind}.png") as tools:
            assert np.array_equal(ours, tools) and ours.getpalette() == tools.getpalette()
    with Image.open(folder / "mask.png") as mask:
        assert len(np.unique(mask)) > 1


def test_a_picture_is_a_file_an_image_or_an_array(folder: Path):
    network = load_segmenter(folder / "step.pth")
    path = folder / "photo.png"
    with Image.open(path) as photo:
        pictures = [path, str(path), photo, photo.convert("RGBA"), np.asarray(photo)]
        results = [network.predict(picture) for picture in pictures]
    for result in results:
        assert np.array_equal(result.labels, results[0].labels)
    with torch.inference_mode():
        logits = network(network.transform(path))
    assert logits.shape == (1, len(network.labels), 90, 110)
    assert np.array_equal(np.array(network.labels)[logits[0].argmax(0)], results[0].labels)
    assert np.allclose(logits[0].softmax(0).amax(0), results[0].confidence, atol=1e-5)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(folder: Path, picture: np.ndarray):
    with pytest.raises(UserError, match=r"uint8 \(H,W,3\), not"):
        load_segmenter(folder / "step.pth").predict(picture)
    with pytest.raises(UserError, match="only tiles overlap"):
        load_segmenter(folder / "step.pth").predict(folder / "photo.png", overlap=4)
