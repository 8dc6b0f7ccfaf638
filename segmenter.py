"""A trained network to use in a notebook or in another program; hubconf.py hands it out."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor, nn

from dataset.reading import read_image
from dataset.transform import normalise
from metrics.pictures import colour_mask, draw_confidence, draw_overlay
from tiles import predict, tiles_of
from trained import TrainedNetwork, load_trained
from utils.errors import UserError

Picture = str | os.PathLike | Image.Image | ArrayLike
"""A file, a PIL image, or uint8 (H,W,3)."""


@dataclass(frozen=True)
class Labelled:
    """What a network sees in an image of H x W pixels; a notebook shows it as the image with the classes on it."""

    image: np.ndarray  # uint8 (3,H,W)
    labels: np.ndarray  # uint8 (H,W), class ids of the data set
    confidence: np.ndarray  # float32 (H,W), the largest softmax probability
    palette: tuple[tuple[int, int, int], ...]
    names: tuple[str, ...]  # by class id

    @property
    def mask(self) -> Image.Image:
        """The class ids, with the palette of the data set."""
        return colour_mask(self.labels, self.palette)

    @property
    def overlay(self) -> Image.Image:
        """The image with the colours of the classes on it, and their names."""
        return draw_overlay(self.image, self.labels, self.palette, self.names)

    @property
    def confidence_map(self) -> Image.Image:
        """The confidence, with the scale of its colours."""
        return draw_confidence(self.confidence)

    def _repr_png_(self) -> bytes:
        return self.overlay._repr_png_()


class Segmenter(nn.Module):
    """The merged network of a checkpoint, ready for inference.

    `class_names`, `labels`: name, and class id in the data set, of each output; `names` and `palette` go by class id.
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.network = trained.network
        self.dataset, self.step = trained.dataset, trained.step
        self.class_names, self.labels = trained.class_names, trained.labels
        self.names, self.palette = trained.names, trained.palette
        self.eval()

    def transform(self, picture: Picture) -> Tensor:
        """A picture of H x W pixels to what `forward` takes: float32 (1,3,H,W), normalised, on the device of the
        network."""
        return normalise(self._pixels(picture)[None].to(self._device))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B,3,H,W), normalised -> logits (B,C,H,W)."""
        return self.network(images).logits

    def predict(self, picture: Picture, *, tile: int | None = None, overlap: int | None = None) -> Labelled:
        """Label a picture, in its own size; large ones in tiles of `tile` pixels, which share `overlap` or more.

        Raises UserError where a file is no image, or tile and overlap do not go together.
        """
        tile, overlap = tiles_of(tile, overlap)
        image = self._pixels(picture)
        found = predict(lambda x: self(normalise(x.to(self._device))), image[None], tile=tile, overlap=overlap)
        labels = np.array(self.labels, np.uint8)[found.outputs[0].numpy()]
        return Labelled(image.numpy(), labels, found.confidence[0].numpy(), self.palette, self.names)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @staticmethod
    def _pixels(picture: Picture) -> Tensor:
        """uint8 (3,H,W). UserError where it is none."""
        if isinstance(picture, str | os.PathLike):
            return read_image(Path(picture))
        array = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise UserError(f"a picture is a file, a PIL image or uint8 (H,W,3), not {array.dtype} {array.shape}")
        return torch.tensor(array).permute(2, 0, 1).contiguous()


def load_segmenter(checkpoint: str | os.PathLike, *, pooling: int | None = None) -> Segmenter:
    """The network in the file of a step, a checkpoint or what tools/export.py made of one.

    `pooling`: window of the image pooling in evaluation, as the run had it; None: as an exported file says, else 32.

    UserError as `load_trained`, or where it classifies whole images.
    """
    trained = load_trained(Path(checkpoint), pooling=pooling)
    if trained.identity["head"] == "pool":
        raise UserError(f"{checkpoint} classifies whole images: use tools/predict.py")
    return Segmenter(trained)
