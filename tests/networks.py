"""Checkpoints of tiny networks that nobody trained, of any task."""

from pathlib import Path

import torch
from torch.nn import Conv2d

from argparser import parse
from checkpoints import SCHEMA, identity_of
from methods import METHODS
from segmentation_module import SegmentationNet, build_network
from tests.helpers import randomise_
from utils.checkpoint import save_checkpoint

TINY = "--backbone resnet14 --width 8 --head_channels 16"


def save_network(path: Path, line: str, step: int) -> SegmentationNet:
    """Write the checkpoint of a finished `step` of the run that `line` describes; its network, merged.

    Random weights and statistics; the outputs are centred, so that each of them is the largest somewhere.
    """
    parsed = parse(f"{TINY} {line}".split())
    config = parsed.config
    heads = parsed.task.step(step).classes_per_head
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(config.model, branches=config.method.branches, classes_per_head=heads)
        METHODS[config.method_name](config.method, parsed.task.step(0)).shape(network, None)
        randomise_(network.eval(), seed=0)
        logits = network(torch.randn(8, 3, 64, 64)).features["logits_small"].movedim(1, 0).flatten(1)
        layers = [
            module for module in network.classifiers.modules() if isinstance(module, Conv2d) and module.bias is not None
        ]
        sizes = [layer.out_channels for layer in layers]
        for classifier, mean, deviation in zip(
            layers, logits.mean(1).split(sizes), logits.std(1).split(sizes), strict=True
        ):
            classifier.weight /= deviation[:, None, None, None]
            classifier.bias.copy_((classifier.bias - mean) / deviation)
    state = {"identity": identity_of(config, parsed.spec, parsed.task.step(step)), "finished": True}
    entries = {"schema": SCHEMA, "model_state": network.state_dict(), "method_state": {}, "trainer_state": state}
    save_checkpoint(path, entries | {"epoch": 1})
    return network.merged()
