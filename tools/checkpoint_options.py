"""The options of the tools that load a network from a checkpoint alone: which file, and what it does not say itself."""

import argparse
from pathlib import Path

from argparser import add_switch
from config import ModelConfig
from trained import BUILT_IN, Foreign, TrainedNetwork, load_trained
from utils.errors import UserError


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Give `parser` what `load_named` reads."""
    usual = ModelConfig()
    parser.add_argument("--ckpt", required=True, type=Path, metavar="FILE", help="checkpoint of a step")
    text = "window of the image pooling, as the run had it [%(default)s]"
    parser.add_argument("--pooling", type=int, default=usual.pooling, metavar="N", help=text)
    group = parser.add_argument_group("checkpoints of another code base", "which do not say themselves what they are")
    group.add_argument("--dataset", choices=BUILT_IN, help="data set")
    group.add_argument("--task", metavar="T", help="task as for run.py")
    group.add_argument("--output_stride", type=int, metavar="N", help=f"[{usual.output_stride}]")
    group.add_argument("--norm_act", metavar="NORM", help=f"[{usual.norm_act}]")
    add_switch(group, "stem_activation", "leaky ReLU after the stem norm [in single-branch networks only]")


def load_named(options: argparse.Namespace, *, finished: bool = False) -> TrainedNetwork:
    """The network that the options name. UserError as `load_trained`, and unless its step is `finished`, if it must."""
    names = ("output_stride", "norm_act", "stem_activation")
    model = {name: value for name in names if (value := getattr(options, name)) is not None}
    foreign = None
    if options.dataset and options.task:
        foreign = Foreign(options.dataset, options.task, model)
    elif options.dataset or options.task or model:
        raise UserError(
            "--dataset, --task and options of the network are for checkpoints of another code base: give both "
            "--dataset and --task, or none of them"
        )
    trained = load_trained(options.ckpt, pooling=options.pooling, foreign=foreign)
    if finished and not trained.finished:
        raise UserError(f"{options.ckpt} is a half-done step {trained.step}: resume it first")
    return trained
