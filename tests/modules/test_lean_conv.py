"""Convolutions that leave products with 0 out: the gradients are those of PyTorch's own."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from modules.lean_conv import BLOCK, LeanConv, take_channels, used_channels

C_IN, C_OUT = 5, 4
# Map and dilation: taps that meet some padding, mostly padding, and nothing else; also in one direction alone.
CASES = [
    ((9, 11), 1),
    ((9, 11), 3),
    ((9, 11), 5),
    ((9, 11), 8),
    ((9, 11), 10),
    ((9, 11), 30),
    ((6, 20), 6),
    ((1, 1), 2),
]


def pair(dilation: int, *, kernel_size: int = 3) -> tuple[LeanConv, nn.Conv2d]:
    """Ours, and the stock one with the same weights, in float64."""
    torch.manual_seed(0)
    ours = LeanConv(C_IN, C_OUT, kernel_size, dilation=dilation).double()
    padding = dilation * (kernel_size // 2)
    stock = nn.Conv2d(C_IN, C_OUT, kernel_size, padding=padding, dilation=dilation, bias=False).double()
    stock.load_state_dict(ours.state_dict())
    return ours, stock


def batch(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, C_IN, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def run(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients of input and weight."""
    y = conv(x)
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    return y, *torch.autograd.grad((y * weights).sum(), (x, conv.weight))


def tap_by_tap(y: Tensor) -> bool:
    return "LeanConv" in type(y.grad_fn).__name__


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_are_those_of_the_stock_convolution(layout):
    for (size, dilation), kernel_size in product(CASES, (1, 3, 5)):
        ours, stock = pair(dilation, kernel_size=kernel_size)
        x = batch(size).detach().contiguous(memory_format=layout).requires_grad_()
        for made, expected in zip(run(ours, x), run(stock, x), strict=True):
            assert_close(made, expected, rtol=1e-12, atol=1e-12)


def test_it_goes_tap_by_tap_where_that_pays():
    for dilation, pays in ((3, False), (5, True)):
        assert tap_by_tap(pair(dilation)[0](batch((10, 12)))) == pays
    ours, _ = pair(5)
    ours.requires_grad_(False)
    assert not tap_by_tap(ours(batch((10, 12))))
    assert not tap_by_tap(pair(5, kernel_size=1)[0](batch((10, 12))))


def test_the_gradient_lies_as_the_weight_does():
    ours = pair(5)[0].to(memory_format=torch.channels_last)
    # Not what backward() leaves: it would copy another layout, which takes as long as the product.
    (gradient,) = torch.autograd.grad(ours(batch((9, 9))).sum(), ours.weight)
    assert gradient.stride() == ours.weight.stride()
    assert ours.weight.is_contiguous(memory_format=torch.channels_last)


def test_mixed_precision_is_that_of_the_stock_convolution():
    ours, stock = (conv.float() for conv in pair(6))
    x = batch((9, 9)).detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        results = [run(conv, x) for conv in (ours, stock)]
    assert tap_by_tap(results[0][0]) and results[0][0].dtype == torch.bfloat16
    for made, expected in zip(*results, strict=True):
        assert made.dtype == expected.dtype
        assert_close(made.float(), expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 6])
def test_gradients_of_the_channels_that_are_used(stride, dilation):
    torch.manual_seed(0)
    ours = LeanConv(C_IN, 40, 3, stride=stride, dilation=dilation).double()
    x, used = batch((9, 11)), torch.arange(3, 19)
    y = ours(x, used)
    weights = torch.zeros_like(y)
    weights[:, used] = torch.randn_like(weights[:, used])
    expected = F.conv2d(x, ours.weight, None, stride, dilation, dilation)
    assert torch.equal(y, expected)
    found = torch.autograd.grad((y * weights).sum(), (x, ours.weight))
    for made, wanted in zip(found, torch.autograd.grad((expected * weights).sum(), (x, ours.weight)), strict=True):
        assert_close(made, wanted, rtol=1e-12, atol=1e-12)
    assert_close(ours.only(x, used), expected[:, used], rtol=1e-12, atol=1e-12)


def test_which_channels_are_used():
    weights = torch.zeros(1, 64, 1, 1)
    weights[0, [5, 17, 63]] = torch.tensor([1.0, 0.5, 0.5])[:, None, None]
    used = used_channels(weights)
    assert len(used) == BLOCK and {5, 17, 63} <= set(used.tolist()) and used.tolist() == sorted(set(used.tolist()))
    weights[0, :49] = 1
    assert used_channels(weights) is None  # 50 of 64 are all of four blocks
    assert used_channels(torch.zeros(64)).numel() == 0


def test_taking_channels():
    x = torch.randn(2, 6, 3, 5)
    for layout in (torch.contiguous_format, torch.channels_last):
        taken = take_channels(x.contiguous(memory_format=layout), torch.tensor([1, 4]))
        assert torch.equal(taken, x[:, [1, 4]]) and taken.is_contiguous(memory_format=torch.channels_last)
