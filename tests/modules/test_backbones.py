"""The table of bodies: what each of them promises, and that a body of one's own takes a file and a line."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modules.backbones import BACKBONES
from modules.parallel_conv import ParallelConv
from segmentation_module import build_network, sizes_of
from tests.helpers import body_of, in_form_, largest_difference, randomise_, small_config, small_network
from tests.networks import save_network
from tests.worked_example import copy_of_the_tree
from tests.workplace import Workplace, assert_same, load, run_in
from trained import load_trained
from utils.checkpoint import save_checkpoint
from utils.errors import UserError

CHANNELS = {"resnet18": (64, 128, 256, 512), "resnet34": (64, 128, 256, 512)}
BOTTLENECKS = (256, 512, 1024, 2048)
NUM_SITES = {
    "resnet18": 16,
    "resnet34": 32,
    "resnet14": 4,
    "resnet26": 8,
    "resnet50": 16,
    "resnet101": 33,
    "resnet152": 50,
}


def test_the_table_has_these_bodies():
    assert BACKBONES.keys() == NUM_SITES.keys()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("branches", [1, 2])
def test_a_body_gives_four_features_of_the_promised_sizes(backbone: str, branches: int):
    for output_stride, strides in ((16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))):
        with torch.device("meta"):
            body = body_of(backbone, branches=branches, output_stride=output_stride, width=64)
            features = body.eval()(torch.zeros(2, 3, 64, 97))
        assert list(features) == ["layer1", "layer2", "layer3", "layer4"]
        for made, channels, stride in zip(features.values(), CHANNELS.get(backbone, BOTTLENECKS), strides, strict=True):
            assert made.shape == (2, channels, 64 // stride, -(-97 // stride))
        assert body.out_channels == features["layer4"].shape[1]
        sites = [module for module in body.modules() if isinstance(module, ParallelConv)]
        assert [site.form for site in sites] == ["plain" if branches == 1 else "dual"] * NUM_SITES[backbone]


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize("form", ["plain", "dual", "frozen"])
def test_merging_a_network_of_basic_blocks_keeps_its_outputs(backbone: str, form: str):
    network = small_network(backbone=backbone, branches=1 if form == "plain" else 2).double().eval()
    if form == "frozen":
        network.freeze_merged_(randomise_(small_network(backbone=backbone).double(), seed=1))
    assert network.form == form
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = network(images)
    for merged in (network.merged(), network.for_inference()):
        made = merged(images)
        assert merged.form == "merged" and largest_difference(made.logits, expected.logits) < 1e-9
        for name, feature in expected.features.items():
            assert largest_difference(made.features[name], feature) < 1e-9, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_sizes_are_told_by_the_weights_in_every_form(backbone: str):
    config = small_config(backbone=backbone, width=4, head_channels=6)
    for form in ("plain", "dual", "frozen", "merged"):
        with torch.device("meta"):
            network = build_network(config, branches=1 if form == "plain" else 2, classes_per_head=(3,))
        weights = in_form_(network, form).state_dict()
        assert sizes_of(weights) == {"backbone": backbone, "head": "sum", "width": 4, "head_channels": 6}


@pytest.mark.parametrize("part", ["body.layer2.1", "classifiers", "head.reduce", "body.stem.conv", "body"])
def test_weights_of_no_such_network_have_no_sizes(part: str):
    weights = small_network(branches=1).state_dict()
    with pytest.raises(UserError, match="not of a DeepLabV3"):
        sizes_of({name: tensor for name, tensor in weights.items() if not name.startswith(f"{part}.")})


def test_a_checkpoint_of_a_body_that_is_not_in_the_table_is_refused(tmp_path: Path):
    path = tmp_path / "0.pth"
    save_network(path, "--task offline", 0)
    changed = load(path)
    changed["trainer_state"]["identity"]["backbone"] = "sketch"
    save_checkpoint(path, changed)
    with pytest.raises(UserError, match=rf"^{path}: --backbone sketch: choose from resnet18, .*resnet152$"):
        load_trained(path, pooling=32)


SKETCH = '''"""A body of four convolutions, for a test."""

from torch import Tensor, nn

from modules.parallel_conv import ParallelConv


class Sketch(nn.Module):
    """One convolution a stage."""

    def __init__(self, *, output_stride: int, width: int, stem_activation: bool, **parallel: object) -> None:
        super().__init__()
        strides, channels = (4, 2, 2 if output_stride == 16 else 1, 1), (3, width, width, 2 * width, 2 * width)
        self.stages = nn.ModuleList(
            ParallelConv(channels[i], channels[i + 1], 5, stride=strides[i], **parallel) for i in range(4)
        )
        self.out_channels = channels[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = {}
        for number, stage in enumerate(self.stages, 1):
            x = features[f"layer{number}"] = stage(x)
        return features
'''


def whole_and_resumed(words: list[str]) -> int:
    import run
    from train import Trainer

    assert run.main([*words, "--name", "whole"]) == 0
    plain = Trainer.train_epoch

    def train_epoch(self: Trainer) -> Iterator[dict[str, float]]:
        for losses in plain(self):
            if (self.step.number, self.updates) == (1, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            yield losses

    Trainer.train_epoch = train_epoch
    assert run.main(words) == 128 + signal.SIGTERM
    Trainer.train_epoch = plain
    assert run.main(words) == 0
    return run.main([*words, "--test"])


def test_a_body_of_one_s_own_is_a_file_and_a_line(tmp_path: Path, shapes: Path):
    """RCIL trains two steps with it, is stopped and resumed, and tested."""
    table = copy_of_the_tree(tmp_path, "modules") / "modules" / "backbones.py"
    (tmp_path / "modules" / "sketch.py").write_text(SKETCH)
    start = "BACKBONES: dict[str, Backbone] = {\n"
    before, after = table.read_text().split(start)
    table.write_text(f'{before}from modules.sketch import Sketch\n{start}    "sketch": Backbone(Sketch),\n{after}')
    workplace = Workplace(tmp_path, shapes)
    words = workplace.options("--backbone", "sketch", "--step", "0", "1", "--epochs", 1, "--no_visualize")
    said = run_in(tmp_path, whole_and_resumed, *words)
    assert "step 0 is finished" in said and "resumes at epoch 1, iteration 1" in said
    assert said.count("step 1: test IoU in percent") == 3
    whole, resumed = (load(workplace.checkpoint(1, name=name)) for name in ("whole", "tiny"))
    assert_same(resumed["model_state"], whole["model_state"])
    assert {name for name in resumed["model_state"] if name.startswith("body.stages.3.")} == {
        f"body.stages.3.{entry}" for entry in ("conv.weight", "conv.bias", "conv_new.weight")
    } | {f"body.stages.3.norm_new.{entry}" for entry in ("weight", "bias", "running_mean", "running_var")}
    assert workplace.results().read_text() == workplace.results(name="whole").read_text()
