"""The head: its formula, its image pooling, its start (SPEC 3)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from modules.deeplab import DROPOUT, HEADS, RATES, DeepLabHead
from modules.norm import Norm
from tests.helpers import randomise_

C_IN, C = 12, 8


def build(
    kind: str = "sum",
    *,
    branches: int = 2,
    pooling: int = 4,
    in_channels: int = C_IN,
    channels: int = C,
    norm: str = "abn",
) -> DeepLabHead:
    options = {"rates": (1, 2, 3), "norm": norm, "branches": branches, "drop_path": False}
    return HEADS[kind](in_channels, channels, pooling=pooling, **options).double()


def maps(height: int, width: int, batch: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(batch, C_IN, height, width, dtype=torch.float64, generator=random)


def explicit_pooling(x: Tensor, window: int) -> Tensor:
    """Mean of the window around each pixel that lies wholly on the map; the border repeats the nearest (SPEC 3).

    An even window has one pixel more below and to the right of its middle.
    """
    height, width = x.shape[-2:]
    window_height, window_width = min(window, height), min(window, width)
    made = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            top = min(max(i - (window_height - 1) // 2, 0), height - window_height)
            left = min(max(j - (window_width - 1) // 2, 0), width - window_width)
            made[..., i, j] = x[..., top : top + window_height, left : left + window_width].mean((-2, -1))
    return made


@pytest.mark.parametrize("pooling", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("height", "width"), [(9, 11), (8, 5), (4, 9), (3, 4)])
def test_eval_pooling_equals_explicit_windows(pooling, height, width):
    x = maps(height, width)
    made = build(pooling=pooling).eval()._pool(x)
    assert_close(made.expand_as(x), explicit_pooling(x, pooling), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("pooling", [1, 4, 5, 8])
@pytest.mark.parametrize(("height", "width"), [(9, 11), (8, 5), (3, 4)])
def test_pooling_of_an_exported_network_equals_explicit_windows(monkeypatch, pooling, height, width):
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)
    x = maps(height, width)
    assert_close(build(pooling=pooling).eval()._pool(x), explicit_pooling(x, pooling), atol=1e-12, rtol=1e-12)


def test_training_pools_the_whole_map():
    x = maps(9, 11)
    assert_close(build(pooling=4).train()._pool(x), x.mean((2, 3), keepdim=True))


def bn(x: Tensor, norm: nn.Module) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.01 * x, x)


@pytest.mark.parametrize("branches", [1, 2])
def test_the_head_is_the_formula_of_the_spec(branches):
    head = randomise_(build(branches=branches), 1).eval()
    x = maps(9, 11)

    def atrous(conv: str, norm: str) -> Tensor:
        outputs = []
        for site, (padding, dilation) in zip(head.atrous, ((0, 1), (1, 1), (2, 2), (3, 3)), strict=True):
            weight = getattr(site, conv).weight
            outputs.append(bn(F.conv2d(x, weight, padding=padding, dilation=dilation), getattr(site, norm)))
        return torch.cat(outputs, 1)

    mixed = atrous("conv", "norm")
    if branches == 2:
        mixed = mixed / 2 + atrous("conv_new", "norm_new") / 2
    local = F.conv2d(leaky(mixed), head.reduce.weight)
    context = leaky(bn(F.conv2d(explicit_pooling(x, 4), head.pool_conv.weight), head.pool_norm))
    expected = leaky(bn(local + F.conv2d(context, head.pool_reduce.weight), head.norm))
    before = x.clone()
    assert_close(head(x), expected, atol=1e-11, rtol=1e-11)
    assert torch.equal(x, before)


def test_published_rates():
    assert RATES == {16: (6, 12, 18), 8: (12, 24, 32)}
    head = DeepLabHead(C_IN, C, rates=RATES[16], pooling=32, norm="abn", branches=2, drop_path=True)
    for conv in ("conv", "conv_new"):
        sites = [getattr(site, conv) for site in head.atrous]
        assert [site.dilation for site in sites] == [(1, 1), (6, 6), (12, 12), (18, 18)]
        assert [site.kernel_size for site in sites] == [(1, 1), (3, 3), (3, 3), (3, 3)]


@pytest.mark.parametrize(("branches", "gain"), [(2, 1.0), (1, math.sqrt(2 / (1 + 0.01**2)))])
def test_convolutions_start_from_xavier(branches, gain):
    """Standard deviation gain * sqrt(2 / (fan_in + fan_out)); 4,096 weights or more, so within 5%."""
    torch.manual_seed(0)
    head = build(branches=branches, in_channels=64, channels=64)
    convs = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == (11 if branches == 2 else 7)
    for conv in convs:
        area = conv.kernel_size[0] * conv.kernel_size[1]
        expected = gain * math.sqrt(2 / (area * (conv.in_channels + conv.out_channels)))
        assert conv.bias is None
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("pooling", [4, 16])
def test_the_other_head_has_all_branches_side_by_side(pooling: int):
    """METHODS2 17."""
    head = randomise_(build("concat", branches=1, pooling=pooling), 1).eval()
    x = maps(9, 11)
    branches = [
        leaky(bn(F.conv2d(x, site.conv.weight, padding=padding, dilation=max(padding, 1)), site.norm))
        for site, padding in zip(head.atrous, (0, 1, 2, 3), strict=True)
    ]
    context = leaky(bn(F.conv2d(explicit_pooling(x, pooling), head.pool_conv.weight), head.pool_norm))
    reduced = bn(F.conv2d(torch.cat([*branches, context], 1), head.reduce.weight), head.norm).relu()
    expected = bn(F.conv2d(reduced, head.last.weight, padding=1), head.last_norm).relu()
    assert_close(head(x), expected, atol=1e-11, rtol=1e-11)


def test_the_other_head_starts_from_kaiming():
    torch.manual_seed(0)
    convs = [
        module for module in build("concat", in_channels=64, channels=64).modules() if isinstance(module, nn.Conv2d)
    ]
    assert len(convs) == 11
    for conv in convs:
        fan_in = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.bias is None and conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)


def test_dropout_goes_where_norms_are_frozen():
    head, x = build("concat", branches=1, channels=400).train(), maps(4, 4)
    seen = []
    head.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head(x), head(x)
    left_out = (seen[0] == 0) & (seen[1] > 0)
    assert left_out.sum() / (seen[1] > 0).sum() == pytest.approx(DROPOUT, rel=0.2)
    for norm in (module for module in head.modules() if isinstance(module, Norm)):
        norm.freeze_()
    assert torch.equal(head(x), head.eval()(x))


def test_each_step_has_its_last_convolution_in_the_head_of_ssul():
    """METHODS 13.2; the background has one for itself."""
    head = randomise_(build("steps", branches=1), 1).eval()
    plain = randomise_(build("concat", branches=1), 1).eval()
    plain.load_state_dict(head.state_dict(), strict=False)
    x, seen = maps(9, 11), []
    plain.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    plain(x)
    reduced = head(x)
    assert torch.equal(reduced, seen[0])
    for is_first, sizes in ((True, [1, 4]), (False, [5])):
        classifier = randomise_(head.classifier(5, is_first=is_first).double(), 2).eval()
        assert [part.last.out_channels for part in classifier.parts] == sizes
        outputs = [
            F.conv2d(
                bn(F.conv2d(reduced, part.conv.weight, padding=1), part.norm).relu(), part.last.weight, part.last.bias
            )
            for part in classifier.parts
        ]
        assert_close(classifier(reduced), torch.cat(outputs, 1), atol=1e-11, rtol=1e-11)
        assert classifier.weight.shape == (5, C, 1, 1) and classifier.bias.shape == (5,)
    for norm in (module for module in head.modules() if isinstance(module, Norm)):
        norm.freeze_()
    head.train()
    assert not torch.equal(head(x), head(x))  # dropout stays
