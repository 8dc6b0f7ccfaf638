"""Batch norm with the statistics of all processes, from PyTorch's own kernels for GPUs.

As torch.nn.SyncBatchNorm, which looks for processes without images, and for that waits for the GPU, twice a norm. Here
every process has some. Equal to it to rounding, and usable where the scale is not the weight of a module.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from utils.distributed import all_gather, all_reduce_sum


class SyncedNorm(torch.autograd.Function):
    """(x (B, C, H, W), scale (C,), bias (C,), running mean and variance (C,), eps, momentum) -> (B, C, H, W).

    Gradients of scale and bias are those of this process's images: DistributedDataParallel adds them up.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        eps: float,
        momentum: float,
    ) -> Tensor:
        x, channels = _laid_out(x), x.shape[1]
        mean, invstd = torch.batch_norm_stats(x, eps)
        count = mean.new_full((1,), x.numel() // channels)
        means, invstds, counts = all_gather(torch.cat([mean, invstd, count])).split([channels, channels, 1], dim=1)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            x, means, invstds, running_mean, running_var, momentum, eps, counts.flatten().to(running_mean.dtype)
        )
        ctx.save_for_backward(x, scale, mean, invstd, counts.to(torch.int32))
        return torch.batch_norm_elemt(x, scale, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = _laid_out(gradient)
        x, scale, mean, invstd, counts = ctx.saved_tensors
        needed = ctx.needs_input_grad
        sum_dy, sum_dy_xmu, of_scale, of_bias = torch.batch_norm_backward_reduce(
            gradient, x, mean, invstd, scale, *needed[:3]
        )
        of_x = None
        if needed[0]:
            sums = all_reduce_sum(torch.cat([sum_dy, sum_dy_xmu])).chunk(2)
            of_x = torch.batch_norm_backward_elemt(gradient, x, mean, invstd, scale.to(mean.dtype), *sums, counts)
        return of_x, of_scale if needed[1] else None, of_bias if needed[2] else None, None, None, None, None


def _laid_out(x: Tensor) -> Tensor:
    """`x` in one of the two layouts that the kernels read."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
