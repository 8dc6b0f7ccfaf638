"""The files that tools/predict.py writes."""

from pathlib import Path

import numpy as np
from PIL import Image

from dataset.labels import map_labels
from dataset.reading import read_mask
from dataset.voc import voc_palette
from metrics.pictures import colour_mask, draw_confidence, draw_overlay, draw_samples, save_picture
from tools.prediction.pictures import Picture
from trained import TrainedNetwork, built_in

TITLES = ("image", "ground truth", "prediction")
LARGEST_PANEL = 1000
"""Pixels of the longer side that an image is scaled down to beside its ground truth."""


class Writer:
    """Writes the pictures of a prediction in the names and colours of the data set."""

    def __init__(self, trained: TrainedNetwork, out: Path, *, confidence: bool) -> None:
        spec = built_in(trained.dataset)
        self.out = out
        self.confidence = confidence
        self.label_of = np.array(trained.labels, np.uint8)
        self.class_of = np.array(spec.class_of if spec else range(256), np.uint8)
        self.palette = spec.palette if spec else voc_palette(256)
        names = (
            dict(enumerate(spec.class_names)) if spec else dict(zip(trained.labels, trained.class_names, strict=True))
        )
        self.names = [names.get(label, f"class {label}") for label in range(256)]

    def write(self, picture: Picture, image: np.ndarray, outputs: np.ndarray, confidence: np.ndarray) -> None:
        """All files of one picture: `image` uint8 (3,H,W), `outputs` uint8 and `confidence` float (H,W)."""
        labels = self.label_of[outputs]
        self._save(picture, "mask", colour_mask(labels, self.palette))
        self._save(picture, "overlay", draw_overlay(image, labels, self.palette, self.names))
        if picture.truth:
            truth = map_labels(read_mask(picture.truth), self.class_of)
            panels = [_reduced(panel) for panel in (image.transpose(1, 2, 0), truth, labels)]
            panels[0] = panels[0].transpose(2, 0, 1)
            self._save(
                picture,
                "compare",
                draw_samples([panels], ("image", "ground truth", "prediction"), self.palette, self.names),
            )
        if self.confidence:
            self._save(picture, "confidence", draw_confidence(confidence))

    def _save(self, picture: Picture, kind: str, drawn: Image.Image) -> None:
        save_picture(drawn, self.out / f"{picture.image.stem}_{kind}.png")


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """An image (H,W,3), or labels (H,W), no larger than a panel."""
    image = Image.fromarray(pixels)
    scale = min(1.0, LARGEST_PANEL / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS))
