"""Convolutions that leave out, on a CPU, products whose result is known to be 0."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 16
"""Output channels that the kernels of a CPU compute together."""
LEAST = 128
"""Output channels from which on it is faster to compute some of them: of fewer, gathering costs too much."""


class LeanConv(nn.Conv2d):
    """nn.Conv2d with "same" padding and no bias; on a CPU its gradients leave out two kinds of products with 0.

    Output channels that nobody uses: `used` (K,) are the indices of the others. What the output is worth to the loss
    must be 0 in all that are left out, as it is behind a norm, too.
    Padding, in the gradient of the weight, at stride 1: at a dilation of half the map and more, a tap beside the centre
    sees half of the map or less. PyTorch's kernel multiplies the padding too (benchmarks/README.md); products tap by
    tap do not.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor, used: Tensor | None = None) -> Tensor:
        trains = torch.is_grad_enabled() and self.weight.requires_grad and self.bias is None
        lean = trains and x.device.type == "cpu"
        # Sizes are looked at last, and in training alone: a network that is exported takes any.
        by_tap = lean and self._is_wide and 2 * self.dilation[0] >= min(x.shape[2:])
        if not lean or (used is None and not by_tap):
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        return _LeanConv.apply(x, weight, used, self.stride[0], self.dilation[0], by_tap)

    def only(self, x: Tensor, used: Tensor) -> Tensor:
        """The channels `used` (K,) of the output, (B, K, H', W'); nothing of the others is computed."""
        bias = None if self.bias is None else self.bias[used]
        return self._conv_forward(x, _rows(self.weight, used), bias)

    @property
    def _is_wide(self) -> bool:
        return self.kernel_size[0] > 1 and self.stride[0] == 1


def leaves_out(weights: Tensor, x: Tensor) -> bool:
    """Whether it is faster to leave out channels, by their weights, after a convolution of `x`. Not on a GPU, which
    would wait to know which they are."""
    on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_cpu and weights.numel() >= LEAST and x.is_contiguous(memory_format=torch.channels_last)


def used_channels(weights: Tensor) -> Tensor | None:
    """Indices of the channels whose weight is not 0, ascending, and of some more: BLOCK divides their number.

    None where these are all.
    """
    unused = weights.flatten() == 0
    count = -(-int((~unused).count_nonzero()) // BLOCK) * BLOCK
    return None if count >= len(unused) else unused.to(torch.uint8).argsort(stable=True)[:count].sort().values


def take_channels(x: Tensor, channels: Tensor) -> Tensor:
    """x[:, channels], (B, K, H, W) in channels last. Faster there than indexing."""
    pixels = x.permute(0, 2, 3, 1)
    return pixels.flatten(0, 2).index_select(1, channels).view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def _rows(weight: Tensor, rows: Tensor) -> Tensor:
    """weight[rows], in the layout of channels last."""
    return weight.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


class _LeanConv(torch.autograd.Function):
    """F.conv2d with "same" padding; see LeanConv for the gradients."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, used: Tensor | None, stride: int, dilation: int, by_tap: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight, used)
        ctx.stride, ctx.dilation, ctx.by_tap = stride, dilation, by_tap
        return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, whole, used = ctx.saved_tensors
        weight = whole if used is None else _rows(whole, used)
        gradient = gradient if used is None else take_channels(gradient, used)
        stride, dilation = ctx.stride, ctx.dilation
        places = ([stride] * 2, [dilation * (weight.shape[-1] // 2)] * 2, [dilation] * 2, False, [0, 0], 1)
        needed = [ctx.needs_input_grad[0], not ctx.by_tap, False]
        of_input, of_weight, _ = torch.ops.aten.convolution_backward(gradient, x, weight, None, *places, needed)
        if ctx.by_tap:
            of_weight = _by_tap(x, weight, gradient, dilation)
        if used is not None:
            # In the layout of the weight, which AccumulateGrad would otherwise copy it into.
            of_weight = torch.zeros_like(whole).index_copy_(0, used, of_weight)
        return of_input, of_weight, None, None, None, None


def _by_tap(x: Tensor, weight: Tensor, gradient: Tensor, dilation: int) -> Tensor:
    """The gradient of the weight as one product of matrices per tap, in the layout of the weight."""
    size = weight.shape[-1]
    of_weight = torch.zeros_like(weight)
    inputs, outputs = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    for i in range(size):
        out_rows, in_rows = _overlap(x.shape[2], (i - size // 2) * dilation)
        for j in range(size):
            out_columns, in_columns = _overlap(x.shape[3], (j - size // 2) * dilation)
            seen = inputs[:, in_rows, in_columns].flatten(0, 2)
            by = outputs[:, out_rows, out_columns].flatten(0, 2)
            of_weight[:, :, i, j] = by.T @ seen
    return of_weight


def _overlap(length: int, offset: int) -> tuple[slice, slice]:
    """The positions p for which p and p + offset both lie in 0..length-1, and the p + offset; both may be empty."""
    count = max(0, length - abs(offset))
    return slice(max(0, -offset), max(0, -offset) + count), slice(max(0, offset), max(0, offset) + count)
