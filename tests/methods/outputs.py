"""Methods as the parser makes them, and random outputs of networks to compute their losses of."""

import pytest
import torch
from torch import Tensor

from config import option_fields
from methods import METHODS, config_of, preset
from methods.base import Batch, Method
from segmentation_module import SegOutput
from tests.helpers import task_of
from tests.methods.spec_losses import IGNORED

FEATURES = {"layer1": (6, 9, 7), "layer2": (8, 5, 4), "layer3": (9, 3, 2), "layer4": (7, 3, 2), "pre_logits": (5, 3, 2)}


def make(name: str, dataset: str = "voc", task: str = "15-1", step: int = 1, **options: object) -> Method:
    """The method at a step, with the published values of the data set where `options` say nothing."""
    config = config_of(name, options.get("base"))
    names = {spec.name for spec in option_fields(config)}
    published = preset(config, dataset, task, options.get("pod", config.pod))
    of_method = {option: value for option, value in published.items() if option in names}
    return METHODS[name](config(**of_method | options), task_of(dataset, task).step(step))


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


def batch(y: Tensor) -> Batch:
    """A batch with the labels `y`; losses look at no image."""
    return Batch(torch.empty(len(y), 3, 0, 0), y)


def check(losses: dict[str, Tensor], expected: dict[str, float], rel: float = 1e-9) -> None:
    """The terms are those expected, to the last digits."""
    assert losses.keys() == expected.keys()
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=rel)
