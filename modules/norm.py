"""Batch normalisation in the four kinds of the field, compiled or in plain PyTorch, with the same numbers.

`iabn_sync` and `iabn` scale by |gamma| + eps as InPlaceABN does, `abn` and `std` by gamma (SPEC 3).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from modules import compiled_norm
from modules.synced_norm import SyncedNorm
from utils.distributed import differentiable_sum, world_size

EPS = 1e-5
MOMENTUM = 0.1
LEAKY_SLOPE = 0.01


_momentum = MOMENTUM  # of all norms; not of a thread, for a GPU's backward pass has one of its own


@contextmanager
def statistics_kept() -> Iterator[None]:
    """Within it no norm changes its running statistics: where a forward pass is done a second time."""
    global _momentum
    before, _momentum = _momentum, 0.0
    try:
        yield
    finally:
        _momentum = before


def leaky_relu_(x: Tensor) -> Tensor:
    """The activation of the whole network, in place: only for tensors that nothing else holds."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace=True)


def before_leaky_relu(y: Tensor) -> Tensor:
    """What `leaky_relu_` was given, from what it returned: it can be undone, gradient included."""
    return F.leaky_relu(y, 1 / LEAKY_SLOPE)


class _AbsoluteScale(torch.autograd.Function):
    """|weight| + eps, with InPlaceABN's gradient at 0, which is 1: a dead channel can wake up."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight.abs().add_(EPS)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        return torch.where(weight < 0, -gradient, gradient)


class Norm(nn.Module):
    """Batch norm over (B, C, H, W), followed by leaky ReLU where `activation` is set.

    The input must be the fresh output of a convolution: the compiled form overwrites it, and keeps its output for
    the backward pass, so that nothing may overwrite that.
    `kind`: iabn_sync (statistics over all processes), iabn, abn, std.
    """

    def __init__(self, channels: int, *, kind: str, activation: bool) -> None:
        super().__init__()
        self.absolute = kind in ("iabn_sync", "iabn")
        self.synchronised = kind == "iabn_sync"
        self.activation = activation
        self.frozen = False
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale(self) -> Tensor:
        """(C,) factor on the normalised input."""
        return _AbsoluteScale.apply(self.weight) if self.absolute else self.weight

    def affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The norm in eval mode as x * s + shift, both (C,): s = scale / sqrt(var + eps), shift = beta - mean * s."""
        factor = self.scale().to(dtype) / torch.sqrt(self.running_var.to(dtype) + EPS)
        return factor, self.bias.to(dtype) - self.running_mean.to(dtype) * factor

    def memory_format(self, device_type: str, dtype: torch.dtype) -> torch.memory_format:
        """The layout that suits this norm in activations of `dtype`: channels last, as convolutions like it, unless
        the compiled norm is to serve, which wants contiguous memory."""
        serves = self.absolute and compiled_norm.knows(device_type, dtype)
        return torch.contiguous_format if serves else torch.channels_last

    def freeze_(self) -> "Norm":
        """No gradient and no new statistics from now on, whatever `train()` is called with."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "Norm":
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        over_processes = self.synchronised and self.training and world_size() > 1
        if self.absolute and compiled_norm.serves(x):
            return compiled_norm.apply(self, x, over_processes, EPS, _momentum, LEAKY_SLOPE)
        if over_processes:
            y = self._forward_over_processes(x)
        else:
            y = F.batch_norm(
                x, self.running_mean, self.running_var, self.scale(), self.bias, self.training, _momentum, EPS
            )
        return leaky_relu_(y) if self.activation else y

    def _forward_over_processes(self, x: Tensor) -> Tensor:
        """Training forward with the statistics of all processes; gradients flow through them."""
        if x.is_cuda:
            tensors = (x, self.scale(), self.bias, self.running_mean, self.running_var)
            return SyncedNorm.apply(*tensors, EPS, _momentum)
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = x.new_tensor([x.numel() / x.shape[1]], dtype=values.dtype)
        total = differentiable_sum(torch.cat([values.sum((0, 2, 3)), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        var = differentiable_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, _momentum)
            self.running_var.lerp_(var * count / (count - 1), _momentum)
        factor = self.scale() * torch.rsqrt(var + EPS)
        return torch.addcmul(self.bias[:, None, None], centred, factor[:, None, None]).to(x.dtype)


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: Norm | None) -> tuple[Tensor, Tensor]:
    """conv followed by norm in eval mode, or a bare conv with bias, as one weight and bias in float64 (SPEC 4)."""
    weight = conv.weight.double()
    if norm is None:
        return weight, conv.bias.double()
    factor, shift = norm.affine(torch.float64)
    return weight * factor[:, None, None, None], shift


def set_kernel_(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Give `conv` this weight and bias, in its own dtype; it gets a bias if it had none."""
    if conv.bias is None:
        zeros = conv.weight.new_zeros(conv.out_channels)
        conv.bias = nn.Parameter(zeros, requires_grad=conv.weight.requires_grad)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
