"""Image and mask stay together, random numbers are those of the seed, normalisation is torchvision's."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from config import DataConfig
from dataset.transform import centre_or_whole, crop_and_scale, fixed_randomness, normalise, whole_image
from utils.constants import IMAGENET_MEAN, IMAGENET_STD


def halves(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left half black and labelled 3, right half white and labelled 255."""
    mask = torch.full((height, width), 3, dtype=torch.uint8)
    mask[:, width // 2 :] = 255
    return ((mask == 255) * 255).to(torch.uint8).expand(3, -1, -1), mask


@pytest.mark.parametrize(("height", "width"), [(60, 80), (90, 50), (20, 20), (33, 200)])
def test_training_crops_move_image_and_mask_together(height: int, width: int):
    transform = crop_and_scale(DataConfig(crop_size=48))
    sides = set()
    for seed in range(20):
        with fixed_randomness(seed):
            image, mask = transform(*halves(height, width))
        assert (image.shape, mask.shape) == ((3, 48, 48), (48, 48))
        assert (image.dtype, mask.dtype) == (torch.uint8, torch.uint8)
        assert type(image) is type(mask) is torch.Tensor
        # Nearest for the mask: no label is made up between 3 and 255.
        assert set(mask.unique().tolist()) <= {3, 255}
        # Bilinear for the image: it differs from the mask only in a few columns at the edge.
        wrong = ((image[0] > 127) != (mask == 255)).float().mean()
        assert wrong < 0.1
        sides.add((int(mask[0, 0]), int(mask[0, -1])))
    # Some are mirrored, some are not.
    assert {(3, 255), (255, 3)} <= sides


def test_evaluation_resizes_the_shorter_side_and_takes_the_centre():
    image = torch.arange(40 * 100, dtype=torch.float32).reshape(40, 100).div(16).to(torch.uint8).expand(3, -1, -1)
    mask = image[0].clone()
    cropped, labels = centre_or_whole(DataConfig(crop_size=40))(image, mask)
    # The shorter side has the size already, so the centre is all that happens.
    assert torch.equal(cropped, image[:, :, 30:70]) and torch.equal(labels, mask[:, 30:70])
    cropped, labels = centre_or_whole(DataConfig(crop_size=64))(image, mask)
    assert cropped.shape == (3, 64, 64) and labels.shape == (64, 64)
    nearest = torch.nn.functional.interpolate(mask[None, None].float(), (64, 160), mode="nearest")[0, 0]
    assert torch.equal(labels.float(), nearest[:, 48:112])


def test_whole_images_stay_as_they_are():
    image, mask = halves(17, 31)
    assert whole_image(image, mask) == (image, mask)


def test_normalise_is_torchvisions():
    images = torch.randint(0, 256, (2, 3, 8, 9), dtype=torch.uint8)
    before = images.clone()
    expected = v2.functional.normalize(
        v2.functional.to_dtype(images, torch.float32, scale=True), IMAGENET_MEAN, IMAGENET_STD
    )
    result = normalise(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected)
    assert torch.equal(images, before)


def test_randomness_inside_follows_the_seed_and_outside_goes_on():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    first = torch.rand(2)
    with fixed_randomness(1):
        one = torch.rand(3)
    with fixed_randomness(1):
        again = torch.rand(3)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)
    assert torch.equal(one, again)


def test_transforms_draw_from_torch_alone():
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].copy()
    crop_and_scale(DataConfig(crop_size=48))(*halves(60, 60))
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
