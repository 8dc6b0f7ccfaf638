"""Merging keeps the function of any convolution, and of any network (SPEC 4)."""

import copy
from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from modules.norm import leaky_relu_
from modules.parallel_conv import ParallelConv
from segmentation_module import SegmentationNet
from tests.helpers import NORMS, largest_difference, randomise_, small_network
from tests.properties.strategies import seeds, with_networks

norms = st.sampled_from(NORMS)
sides = st.integers(16, 48)


def next_step_(module: ParallelConv | SegmentationNet, seed: int) -> None:
    """Freeze what was learnt, and change what a step of training changes: the other branches, and the norms."""
    module.freeze_merged_(copy.deepcopy(module))
    random = torch.Generator().manual_seed(seed)
    randomise_(module, seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("conv_new.weight"):
                parameter += 0.1 * torch.randn(parameter.shape, generator=random)


class Site(NamedTuple):
    """A convolution in float32 and eval mode, and an input for it."""

    conv: ParallelConv
    x: Tensor


@st.composite
def sites(draw: st.DrawFn, min_branches: int = 1) -> Site:
    """Any geometry; with two branches after up to three steps."""
    channels, height, width = (draw(st.integers(1, most)) for most in (6, 12, 12))
    branches, seed = draw(st.integers(min_branches, 2)), draw(seeds)
    torch.manual_seed(seed)
    conv = ParallelConv(
        channels,
        draw(st.integers(1, 6)),
        draw(st.sampled_from([1, 3, 5])),
        stride=draw(st.integers(1, 3)),
        dilation=draw(st.integers(1, 6)),
        norm=draw(norms),
        branches=branches,
        drop_path=draw(st.booleans()),
        activation=draw(st.booleans()),
    )
    randomise_(conv, seed)
    for step in range(draw(st.integers(0, 3)) if branches == 2 else 0):
        next_step_(conv, seed + step + 1)
    return Site(conv.eval(), torch.randn(draw(st.integers(1, 3)), channels, height, width))


def in_both_precisions(site: Site) -> list[tuple[ParallelConv, Tensor, float]]:
    """Copies, and the difference that rounding may make: values here are of the order of 1."""
    return [
        (copy.deepcopy(site.conv).to(dtype), site.x.to(dtype), 200 * torch.finfo(dtype).eps)
        for dtype in (torch.float64, torch.float32)
    ]


@given(sites())
def test_merging_a_convolution_keeps_its_outputs(site: Site):
    for conv, x, rounding in in_both_precisions(site):
        expected = conv(x)
        conv.merge_()
        assert conv.form == "merged" and list(conv.state_dict()) == ["conv.weight", "conv.bias"]
        assert_close(conv(x), expected, rtol=rounding, atol=rounding)


@given(sites(min_branches=2))
def test_the_frozen_branch_alone_is_what_was_merged(site: Site):
    for conv, x, rounding in in_both_precisions(site):
        expected, new = conv(x), copy.deepcopy(conv.conv_new.state_dict())
        conv.freeze_merged_(copy.deepcopy(conv))
        bare = conv.conv(x)
        assert_close(leaky_relu_(bare) if conv.activation else bare, expected, rtol=rounding, atol=rounding)
        assert_close(conv.conv_new.state_dict(), new, rtol=0, atol=0)


@st.composite
def networks(draw: st.DrawFn) -> SegmentationNet:
    """A small network of any kind in eval mode, after up to two steps."""
    branches, seed = draw(st.integers(1, 2)), draw(seeds)
    torch.manual_seed(seed)
    network = small_network(
        branches=branches,
        classes_per_head=tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))),
        backbone=draw(st.sampled_from(["resnet18", "resnet26"])),
        norm_act=draw(norms),
        output_stride=draw(st.sampled_from([8, 16])),
        width=draw(st.integers(4, 8)),
        head_channels=draw(st.integers(4, 12)),
        pooling=draw(st.integers(1, 40)),
    )
    for step in range(draw(st.integers(0, 2)) if branches == 2 else 0):
        next_step_(network, seed + step + 1)
    return network.eval()


@with_networks
@given(networks(), st.sampled_from([(torch.float64, 1e-9), (torch.float32, 1e-3)]), sides, sides)
def test_merging_a_network_keeps_its_outputs(
    network: SegmentationNet, precision: tuple[torch.dtype, float], height: int, width: int
):
    dtype, allowed = precision
    network, images = network.to(dtype), torch.randn(2, 3, height, width, dtype=dtype)
    expected = network(images)
    for merged in (network.merged(), network.for_inference()):
        made = merged(images)
        assert merged.form == "merged"
        assert largest_difference(made.logits, expected.logits) < allowed
        for name, feature in expected.features.items():
            assert largest_difference(made.features[name], feature) < allowed, name
