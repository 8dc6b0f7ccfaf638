"""The ResNets: strides, dilations and activations as SPEC 3 gives them. What any body promises: test_backbones.py."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from modules.backbones import BACKBONES
from modules.resnet import BasicBlock, Bottleneck
from tests.helpers import body_of, randomise_, small_network

DEPTHS = {name: body.build.args for name, body in BACKBONES.items()}

DILATIONS = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
STRIDES = {16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}


def geometry(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Size, stride, dilation and padding; the same in both directions."""
    pairs = conv.kernel_size, conv.stride, conv.dilation, conv.padding
    assert all(rows == columns for rows, columns in pairs)
    return tuple(rows for rows, _ in pairs)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("backbone", DEPTHS)
def test_every_3x3_has_dilation_and_the_first_of_a_stage_its_stride(backbone: str, output_stride: int):
    kind, depths = DEPTHS[backbone]
    with torch.device("meta"):
        body = body_of(backbone, output_stride=output_stride, branches=2)
    for stage, count in enumerate(depths):
        layer, dilation = getattr(body, f"layer{stage + 1}"), DILATIONS[output_stride][stage]
        assert len(layer) == count and all(type(block) is kind for block in layer)
        for index, block in enumerate(layer):
            stride = STRIDES[output_stride][stage] if index == 0 else 1
            first, second = (block.conv2, None) if kind is Bottleneck else (block.conv1, block.conv2)
            for conv in (first.conv, first.conv_new):
                assert geometry(conv) == (3, stride, dilation, dilation)
            for conv in (second.conv, second.conv_new) if second else ():
                assert geometry(conv) == (3, 1, dilation, dilation)
            for conv in (block.conv1.conv, block.conv3.conv) if kind is Bottleneck else ():
                assert geometry(conv) == (1, 1, 1, 0)
            # Where the shape changes, and so not in the first stage of basic blocks.
            if index == 0 and (stage > 0 or kind is Bottleneck):
                assert geometry(block.shortcut.conv) == (1, stride, 1, 0)
            else:
                assert isinstance(block.shortcut, nn.Identity)
    assert geometry(body.stem.conv) == (7, 2, 1, 3)


def test_depths_are_those_of_the_papers():
    assert {name: depths for name, (_, depths) in DEPTHS.items()} == {
        "resnet18": (2, 2, 2, 2),
        "resnet34": (3, 4, 6, 3),
        "resnet14": (1, 1, 1, 1),
        "resnet26": (2, 2, 2, 2),
        "resnet50": (3, 4, 6, 3),
        "resnet101": (3, 4, 23, 3),
        "resnet152": (3, 8, 36, 3),
    }
    assert {name for name, (kind, _) in DEPTHS.items() if kind is BasicBlock} == {"resnet18", "resnet34"}


def leaky(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.01 * x, x)


def bn(x: Tensor, norm: nn.Module) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize("kind", [Bottleneck, BasicBlock])
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("branches", [1, 2])
def test_a_block_is_the_formula_of_the_spec(kind: type, branches: int, shortcut: bool):
    """Bottleneck: u = leaky(bn1(conv1 x)); z = mixed branches; out = leaky(bn3(conv3(leaky z)) + shortcut(x)).

    Basic: u = mixed branches of x; z = mixed branches of leaky(u); out = leaky(z + shortcut(x)).
    """
    stride = 2 if shortcut else 1
    options = {"norm": "abn", "branches": branches, "drop_path": True, "dilation": 2, "stride": stride}
    block = randomise_(kind(16, 16 // kind.expansion, **options), 1).double().eval()
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def mixed(x: Tensor, site: nn.Module, stride: int) -> Tensor:
        convs = {"stride": stride, "padding": 2, "dilation": 2}
        z = bn(F.conv2d(x, site.conv.weight, **convs), site.norm)
        return z if branches == 1 else z / 2 + bn(F.conv2d(x, site.conv_new.weight, **convs), site.norm_new) / 2

    before = x.clone()
    if kind is Bottleneck:
        u = leaky(bn(F.conv2d(x, block.conv1.conv.weight), block.conv1.norm))
        z = leaky(mixed(u, block.conv2, stride))
        out = bn(F.conv2d(z, block.conv3.conv.weight), block.conv3.norm)
    else:
        out = mixed(leaky(mixed(x, block.conv1, stride)), block.conv2, 1)
    beside = x
    if shortcut:
        beside = bn(F.conv2d(x, block.shortcut.conv.weight, stride=2), block.shortcut.norm)
    assert_close(block(x), leaky(out + beside), atol=1e-12, rtol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("branches", "asked", "expected"), [(1, None, True), (2, None, False), (1, False, False), (2, True, True)]
)
def test_only_plain_networks_activate_the_stem(branches, asked, expected):
    """SPEC 12; `--stem_activation` says otherwise."""
    body = small_network(branches=branches, stem_activation=asked).eval().body
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    bare = F.conv2d(x, body.stem.conv.weight, stride=2, padding=3)
    factor, shift = body.stem.norm.affine(torch.float32)
    bare = bare * factor[:, None, None] + shift[:, None, None]
    assert (bare < -0.1).any()
    assert_close(body.stem(x), leaky(bare) if expected else bare, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet26", "resnet18"])
def test_features_are_what_the_next_stage_read(backbone: str):
    """After their last activation, and not overwritten by the stages above."""
    body = small_network(backbone=backbone).eval().body
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = body(x)
    before = F.max_pool2d(body.stem(x), 3, stride=2, padding=1)
    for name, made in features.items():
        before = getattr(body, name)(before.clone())
        assert_close(made, before, atol=0, rtol=0)
        assert (made < 0).any() and made.min() > -0.05 * made.max()


@pytest.mark.parametrize("branches", [1, 2])
def test_blocks_that_are_computed_twice_change_nothing_and_keep_less(branches: int):
    """Random channel weights are drawn once, and running statistics move once."""
    first = randomise_(body_of("resnet26", branches=branches, width=16), 1).train()
    images, results = torch.randn(2, 3, 64, 64), []
    for twice in (False, True):
        body, kept = copy.deepcopy(first), []
        body.checkpoint_blocks = twice
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.nbytes) or x, lambda x: x):
            loss = sum(features.square().mean() for features in body(images).values())
        held = sum(kept)
        loss.backward()
        gradients = [parameter.grad for parameter in body.parameters() if parameter.grad is not None]
        results.append((held, [loss.detach(), *gradients, *body.buffers(), torch.rand(3)]))
    (held, expected), (held_twice, found) = results
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))
    assert not torch.equal(first.stem.norm.running_mean, body.stem.norm.running_mean)
    assert held_twice < held / 2
