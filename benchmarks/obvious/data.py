"""Reading, augmenting and label mapping as older code does it: PIL images, one Python call a pixel (SPEC 2)."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.datasets.folder import default_loader
from torchvision.transforms import functional


def map_labels(mask: np.ndarray, order: Sequence[int], visible: Sequence[int]) -> np.ndarray:
    """Labels (H, W) uint8 as a step sees them: a visible class becomes its position in `order`, 255 stays, else 0."""
    return np.vectorize(
        lambda label: order.index(label) if label in visible else 255 if label == 255 else 0, otypes=[np.uint8]
    )(mask)


def load_sample(
    image_path: Path, mask_path: Path, crop_size: int, order: Sequence[int], visible: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Normalised image float32 (3, H, W) and labels int64 (H, W) of a random crop."""
    image, mask = Image.open(image_path).convert("RGB"), Image.open(mask_path)
    area = transforms.RandomResizedCrop.get_params(image, scale=(0.5, 2.0), ratio=(3 / 4, 4 / 3))
    size = (crop_size, crop_size)
    image = functional.resized_crop(image, *area, size, transforms.InterpolationMode.BILINEAR)
    mask = functional.resized_crop(mask, *area, size, transforms.InterpolationMode.NEAREST)
    if random.random() < 0.5:
        image, mask = functional.hflip(image), functional.hflip(mask)
    tensor = functional.normalize(functional.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return tensor, torch.from_numpy(map_labels(np.array(mask), order, visible).astype(np.int64))


def image_transform(crop_size: int) -> transforms.Compose:
    """torchvision's recipe for the training of classification, on a PIL image: normalised float32 (3, S, S)."""
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    crop = transforms.RandomResizedCrop(crop_size)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise])


def load_image(path: Path, transform: transforms.Compose) -> Tensor:
    """An image as torchvision's ImageFolder gives it."""
    return transform(default_loader(str(path)))
