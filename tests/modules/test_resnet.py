"""The body: strides, dilations, sizes and activations as SPEC 3 gives them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from modules.resnet import BLOCKS, Bottleneck, ResNet
from tests.helpers import randomise_, small_network

SIZES = {16: (4, 8, 16, 16), 8: (4, 8, 8, 8)}
DILATIONS = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
STRIDES = {16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}


def build(backbone: str = "resnet26", *, output_stride: int = 16, width: int = 8, branches: int = 2) -> ResNet:
    options = {"norm": "iabn", "branches": branches, "drop_path": True, "stem_activation": branches == 1}
    return ResNet(backbone, output_stride=output_stride, width=width, **options)


@pytest.mark.parametrize("side", [64, 65])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_features_have_the_sizes_of_the_spec(output_stride, side):
    features = build(output_stride=output_stride).eval()(torch.zeros(2, 3, side, side))
    assert list(features) == ["layer1", "layer2", "layer3", "layer4"]
    for (name, made), stride, channels in zip(features.items(), SIZES[output_stride], (32, 64, 128, 256), strict=True):
        assert made.shape == (2, channels, -(-side // stride), -(-side // stride)), name


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(("backbone", "blocks"), BLOCKS.items())
def test_every_3x3_carries_stride_and_dilation(backbone, blocks, output_stride):
    with torch.device("meta"):
        body = build(backbone, output_stride=output_stride)
    for stage, count in enumerate(blocks):
        layer = getattr(body, f"layer{stage + 1}")
        assert len(layer) == count
        for index, block in enumerate(layer):
            stride = STRIDES[output_stride][stage] if index == 0 else 1
            dilation = DILATIONS[output_stride][stage]
            for conv in (block.conv2.conv, block.conv2.conv_new):
                geometry = conv.kernel_size, conv.stride, conv.dilation, conv.padding
                assert geometry == ((3, 3), (stride, stride), (dilation, dilation), (dilation, dilation))
            for conv in (block.conv1.conv, block.conv3.conv):
                assert (conv.kernel_size, conv.stride) == ((1, 1), (1, 1))
            if index == 0:
                assert block.shortcut.conv.stride == (stride, stride)
            else:
                assert isinstance(block.shortcut, nn.Identity)
    assert body.stem.conv.kernel_size == (7, 7) and body.stem.conv.stride == (2, 2)


def test_depths_are_those_of_the_spec():
    assert BLOCKS["resnet50"] == (3, 4, 6, 3)
    assert BLOCKS["resnet101"] == (3, 4, 23, 3)
    assert BLOCKS["resnet152"] == (3, 8, 36, 3)
    assert BLOCKS["resnet26"] == (2, 2, 2, 2)


def leaky(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 0, 0.01 * x, x)


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("branches", [1, 2])
def test_a_block_is_the_formula_of_the_spec(branches, shortcut):
    """u = leaky(bn1(conv1 x)); z = mixed branches; out = leaky(bn3(conv3(leaky z)) + shortcut(x))."""
    options = {"norm": "abn", "branches": branches, "drop_path": True, "dilation": 2, "stride": 2 if shortcut else 1}
    block = randomise_(Bottleneck(16, 4, shortcut=shortcut, **options), 1).double().eval()
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def bn(x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def conv2(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
        return F.conv2d(x, conv.weight, stride=options["stride"], padding=2, dilation=2)

    before = x.clone()
    u = leaky(bn(F.conv2d(x, block.conv1.conv.weight), block.conv1.norm))
    z = bn(conv2(u, block.conv2.conv), block.conv2.norm)
    if branches == 2:
        z = z / 2 + bn(conv2(u, block.conv2.conv_new), block.conv2.norm_new) / 2
    out = bn(F.conv2d(leaky(z), block.conv3.conv.weight), block.conv3.norm)
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


def test_features_are_what_the_next_stage_read():
    """After their last activation, and not overwritten by the stages above."""
    body = small_network().eval().body
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = body(x)
    before = F.max_pool2d(body.stem(x), 3, stride=2, padding=1)
    for name, made in features.items():
        before = getattr(body, name)(before.clone())
        assert_close(made, before, atol=0, rtol=0)
        assert (made < 0).any() and made.min() > -0.05 * made.max()
