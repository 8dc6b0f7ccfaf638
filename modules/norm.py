"""Batch normalisation in the four kinds of the field, compiled or in plain PyTorch, with the same numbers.

`iabn_sync` and `iabn` scale by |gamma| + eps as InPlaceABN does, `abn` and `std` by gamma (SPEC 3).
"""

import torch
import torch.distributed.nn.functional as differentiable
import torch.nn.functional as F
from torch import Tensor, nn

from modules import compiled_norm
from utils.distributed import world_size

EPS = 1e-5
MOMENTUM = 0.1
LEAKY_SLOPE = 0.01


def leaky_relu_(x: Tensor) -> Tensor:
    """The activation of the whole network, in place: only for tensors that nothing else holds."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace=True)


class Norm(nn.Module):
    """Batch norm over (B, C, H, W), followed by leaky ReLU where `activation` is set.

    The input must be the fresh output of a convolution: the compiled form overwrites it.
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
        return self.weight.abs() + EPS if self.absolute else self.weight

    def affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The norm in eval mode as x * s + shift, both (C,): s = scale / sqrt(var + eps), shift = beta - mean * s."""
        factor = self.scale().to(dtype) / torch.sqrt(self.running_var.to(dtype) + EPS)
        return factor, self.bias.to(dtype) - self.running_mean.to(dtype) * factor

    def freeze_(self) -> "Norm":
        """No gradient and no new statistics from now on, whatever `train()` is called with."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "Norm":
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        over_processes = self.synchronised and self.training and world_size() > 1
        if self.absolute and compiled_norm.serves(x, over_processes):
            return compiled_norm.apply(self, x, over_processes, EPS, MOMENTUM, LEAKY_SLOPE)
        if over_processes:
            y = self._forward_over_processes(x)
        else:
            y = F.batch_norm(
                x, self.running_mean, self.running_var, self.scale(), self.bias, self.training, MOMENTUM, EPS
            )
        return leaky_relu_(y) if self.activation else y

    def _forward_over_processes(self, x: Tensor) -> Tensor:
        """Training forward with the statistics of all processes; gradients flow through them."""
        if x.is_cuda:
            # Torch's own kernels; the module around them cannot take |gamma| + eps.
            from torch.nn.modules._functions import SyncBatchNorm

            group = torch.distributed.group.WORLD
            tensors = (x, self.scale(), self.bias, self.running_mean, self.running_var)
            return SyncBatchNorm.apply(*tensors, EPS, MOMENTUM, group, world_size())
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = x.new_tensor([x.numel() / x.shape[1]], dtype=values.dtype)
        total = differentiable.all_reduce(torch.cat([values.sum((0, 2, 3)), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        var = differentiable.all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(var * count / (count - 1), MOMENTUM)
        factor = self.scale() * torch.rsqrt(var + EPS)
        return torch.addcmul(self.bias[:, None, None], centred, factor[:, None, None]).to(x.dtype)
