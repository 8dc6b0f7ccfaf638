"""Checkpoints of tiny networks that nobody trained, of any task."""

from pathlib import Path

import torch

from argparser import parse
from dataset import scenario_of
from modules.public_names import to_public
from segmentation_module import SegmentationNet, build_network
from tests.helpers import randomise_
from utils.checkpoint import save_checkpoint
from utils.identity import identity_of

TINY = "--backbone resnet26 --width 8 --head_channels 16"


def save_network(path: Path, line: str, step: int) -> SegmentationNet:
    """Write the checkpoint of a finished `step` of the run that `line` describes; its network, merged.

    Random weights and statistics; the outputs are centred, so that each of them is the largest somewhere.
    """
    parsed = parse(f"{TINY} {line}".split())
    config, task = parsed.config, parsed.task
    heads = task.classes_per_head(step)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(config.model, branches=config.method.branches, classes_per_head=heads)
        randomise_(network.eval(), seed=0)
        logits = network(torch.randn(8, 3, 64, 64)).features["logits_small"].movedim(1, 0).flatten(1)
        parts = zip(network.classifiers, logits.mean(1).split(heads), logits.std(1).split(heads), strict=True)
        for classifier, mean, deviation in parts:
            classifier.weight /= deviation[:, None, None, None]
            classifier.bias.copy_((classifier.bias - mean) / deviation)
    names = [parsed.spec.class_names[label] for label in task.order(step)]
    scenario = scenario_of(config.data, parsed.spec)
    identity = identity_of(config, task, step, scenario=scenario, class_names=names)
    state = {"identity": identity, "finished": True}
    save_checkpoint(path, {"model_state": to_public(network.state_dict()), "epoch": 1, "trainer_state": state})
    return network.merged()
