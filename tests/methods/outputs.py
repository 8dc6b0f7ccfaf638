"""Random outputs of networks, to compute losses of."""

import torch
from torch import Tensor

from segmentation_module import SegOutput
from tests.methods.spec_losses import IGNORED

FEATURES = {"layer1": (6, 9, 7), "layer2": (8, 5, 4), "layer3": (9, 3, 2), "layer4": (7, 3, 2), "pre_logits": (5, 3, 2)}


def output(num_classes: int, *, seed: int) -> SegOutput:
    """A network's output of random numbers for two images."""
    torch.manual_seed(seed)
    features = {name: torch.randn(2, *shape, dtype=torch.float64) for name, shape in FEATURES.items()}
    features["logits_small"] = torch.randn(2, num_classes, 3, 2, dtype=torch.float64)
    return SegOutput(torch.randn(2, num_classes, 12, 8, dtype=torch.float64), features)


def labels(num_classes: int) -> Tensor:
    """Some pixels of each class and some ignored ones."""
    y = torch.arange(2 * 12 * 8).reshape(2, 12, 8) % (num_classes + 2)
    return torch.where(y < num_classes, y, IGNORED)
