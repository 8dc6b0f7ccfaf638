"""The dilated convolutions of the head, whose wide steps mostly meet padding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class AtrousConv(nn.Conv2d):
    """nn.Conv2d, stride 1 and "same" padding; in training on a CPU with a weight gradient that skips the padding.

    At a dilation of half the map and more, a tap beside the centre sees half of it or less. PyTorch's CPU kernel for
    the gradient multiplies the padding too (benchmarks/README.md); products tap by tap give the same numbers without.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        trains = torch.is_grad_enabled() and self.weight.requires_grad and self.bias is None
        wide = trains and x.device.type == "cpu" and self.kernel_size[0] > 1
        # Sizes are looked at last, and in training alone: a network that is exported takes any.
        if not (wide and 2 * self.dilation[0] >= min(x.shape[2:])):
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        return _TapByTap.apply(x, weight, self.dilation[0])


class _TapByTap(torch.autograd.Function):
    """F.conv2d with "same" padding; the gradient of the weight is one product of matrices per tap."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        dilation, size = ctx.dilation, weight.shape[-1]
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = nn.grad.conv2d_input(
                x.shape, weight, gradient, padding=dilation * (size // 2), dilation=dilation
            )
        # In the layout of the weight, which AccumulateGrad would otherwise copy it into.
        of_weight = torch.zeros_like(weight)
        inputs, outputs = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        for i in range(size):
            out_rows, in_rows = _overlap(x.shape[2], (i - size // 2) * dilation)
            for j in range(size):
                out_columns, in_columns = _overlap(x.shape[3], (j - size // 2) * dilation)
                seen = inputs[:, in_rows, in_columns].flatten(0, 2)
                by = outputs[:, out_rows, out_columns].flatten(0, 2)
                of_weight[:, :, i, j] = by.T @ seen
        return of_input, of_weight, None


def _overlap(length: int, offset: int) -> tuple[slice, slice]:
    """The positions p for which p and p + offset both lie in 0..length-1, and the p + offset; both may be empty."""
    count = max(0, length - abs(offset))
    return slice(max(0, -offset), max(0, -offset) + count), slice(max(0, offset), max(0, offset) + count)
