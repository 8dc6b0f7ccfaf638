"""Augmentation of image and mask together, on uint8; then, on the device, the normalisation (SPEC 2)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from config import DataConfig
from utils.constants import IMAGENET_MEAN, IMAGENET_STD

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Image uint8 (3,H,W) and mask uint8 (H,W), or several (N,H,W), in, the same out, of another size."""

AREA_SCALE = (0.5, 2.0)
ASPECT_RATIO = (3 / 4, 4 / 3)
USUAL_RESIZE = 256 / 224
"""Shorter side over crop in the evaluation of whole images."""


def transforms() -> ModuleType:
    """torchvision's. They take as long to import as all else together, and who asks for help, or mistypes an option,
    need not wait for them."""
    from torchvision.transforms import v2

    return v2


class JointTransform:
    """torchvision transforms applied to image (bilinear) and mask (nearest) with the same random numbers."""

    def __init__(self, *steps: Callable) -> None:
        from torchvision.tv_tensors import Image, Mask

        self.steps, self.kinds = transforms().Compose(steps), (Image, Mask)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        image, mask = self.steps(*(kind(part) for kind, part in zip(self.kinds, (image, mask), strict=True)))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


class ImageTransform:
    """torchvision transforms applied to an image whose label is that of the whole."""

    def __init__(self, *steps: Callable) -> None:
        self.steps = transforms().Compose(steps)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.steps(image), mask


def crop_and_scale(config: DataConfig) -> Transform:
    """In training: random resized crop to a square of `crop_size` pixels, mirrored half of the time."""
    v2 = transforms()
    # An area above the image's own cannot be had; after ten attempts torchvision takes a centre crop.
    crop = v2.RandomResizedCrop((config.crop_size, config.crop_size), scale=AREA_SCALE, ratio=ASPECT_RATIO)
    return JointTransform(crop, v2.RandomHorizontalFlip())


def centre_or_whole(config: DataConfig) -> Transform:
    """In evaluation: the shorter side to `crop_size` pixels, then the centre square of that side; or image and mask as
    they are, without `crop_val`."""
    if not config.crop_val:
        return whole_image
    v2 = transforms()
    return JointTransform(v2.Resize(config.crop_size), v2.CenterCrop(config.crop_size))


def whole_image(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Image and mask as they are."""
    return image, mask


def crop_image(config: DataConfig) -> Transform:
    """In the training of whole images: random resized crop of torchvision's recipe, mirrored half of the time."""
    v2 = transforms()
    return ImageTransform(v2.RandomResizedCrop((config.crop_size, config.crop_size)), v2.RandomHorizontalFlip())


def centre_image(config: DataConfig) -> Transform:
    """In the evaluation of whole images: the shorter side to `resize_size` pixels, then the centre square."""
    v2, resize = transforms(), config.resize_size or round(config.crop_size * USUAL_RESIZE)
    return ImageTransform(v2.Resize(resize), v2.CenterCrop(config.crop_size))


def normalise(images: Tensor) -> Tensor:
    """uint8 (B,3,H,W) on any device to float32 of ImageNet mean 0 and standard deviation 1."""
    result = images.to(torch.float32).div_(255)
    # Numbers, not tensors of three: those would be copied to the device, and waited for, at every call.
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        result[:, channel].sub_(mean).div_(std)
    return result


@contextmanager
def fixed_randomness(seed: int) -> Iterator[None]:
    """Random numbers of the CPU start from `seed` inside the block; outside it is as if it had not been."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the CUDA generators, too
        yield
