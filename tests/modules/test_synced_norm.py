"""The norm over processes that GPUs take: what its five kernels do is written out here, so that two processes on a CPU
show that it hands them the right tensors, and that it equals torch.nn.SyncBatchNorm, which calls the same kernels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm
from torch.testing import assert_close

from modules.synced_norm import SyncedNorm
from tests.helpers import run_processes

C, EPS, MOMENTUM = 5, 1e-5, 0.1
SHARES = {"even": (slice(0, 2), slice(2, 4)), "uneven": (slice(0, 3), slice(3, 4))}


def wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, torch.rsqrt(var + eps)


def gather(
    x: Tensor, means: Tensor, invstds: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    share, total = counts[:, None] / counts.sum(), counts.sum()
    mean = (share * means).sum(0)
    var = (share * (invstds**-2 - eps + (means - mean) ** 2)).sum(0)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * total / (total - 1), momentum)
    return mean, torch.rsqrt(var + eps)


def elemt(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    return (x - wide(mean)) * wide(invstd * scale) + wide(bias)


def reduce(
    dy: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, scale: Tensor, *needed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dims = (0, 2, 3)
    sum_dy, sum_dy_xmu = dy.sum(dims), (dy * (x - wide(mean))).sum(dims)
    return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd, sum_dy


def backward_elemt(
    dy: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, scale: Tensor, sum_dy: Tensor, sum_dy_xmu: Tensor,
    counts: Tensor,
) -> Tensor:  # fmt: skip
    total = counts.sum()
    centred = dy - wide(sum_dy / total) - (x - wide(mean)) * wide(invstd**2 * sum_dy_xmu / total)
    return centred * wide(invstd * scale)


KERNELS = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather,
    "batch_norm_elemt": elemt,
    "batch_norm_backward_reduce": reduce,
    "batch_norm_backward_elemt": backward_elemt,
}


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def train(kind: str, part: slice = slice(None)) -> dict[str, Any]:
    """Output, gradients and statistics of one pass over `part` of a batch of 4, its gradient in another layout."""
    x = (values(1, 4, C, 3, 6) * 3 + 2)[part].requires_grad_()
    scale, bias = values(2, C).requires_grad_(), values(3, C).requires_grad_()
    statistics = [values(4, C), values(5, C).square()]
    if kind == "formula":
        y = torch.nn.functional.batch_norm(x, *statistics, scale, bias, True, MOMENTUM, EPS)
    elif kind == "torch":
        y = SyncBatchNorm.apply(x, scale, bias, *statistics, EPS, MOMENTUM, torch.distributed.group.WORLD, 2)
    else:
        y = SyncedNorm.apply(x, scale, bias, *statistics, EPS, MOMENTUM)
    y.backward(values(6, 4, C, 6, 3).transpose(2, 3)[part])
    return {"y": y.detach(), "x": x.grad, "weights": [scale.grad, bias.grad], "statistics": statistics}


def in_two(rank: int, folder: Path) -> dict[str, Any]:
    for name, kernel in KERNELS.items():
        setattr(torch, name, kernel)
    return {(kind, name): train(kind, parts[rank]) for kind in ("ours", "torch") for name, parts in SHARES.items()}


def test_two_processes_equal_the_formula_and_torch(tmp_path):
    expected, both = train("formula"), run_processes(in_two, tmp_path)
    for name in SHARES:
        for kind in ("ours", "torch"):
            first, second = (made[kind, name] for made in both)
            for key in ("y", "x"):
                assert_close(torch.cat([first[key], second[key]]), expected[key], atol=1e-10, rtol=1e-10)
            gradients = [a + b for a, b in zip(first["weights"], second["weights"], strict=True)]
            assert_close(gradients, expected["weights"], atol=1e-10, rtol=1e-10)
            for made in (first, second):
                assert_close(made["statistics"], expected["statistics"], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_what_needs_a_gradient_gets_one(monkeypatch, frozen):
    for name, kernel in KERNELS.items():
        monkeypatch.setattr(torch, name, kernel, raising=False)
    tensors = [values(1, 2, C, 3, 3), values(2, C), values(3, C)]
    for number, tensor in enumerate(tensors):
        tensor.requires_grad_(number != frozen)
    SyncedNorm.apply(*tensors, torch.zeros(C).double(), torch.ones(C).double(), EPS, MOMENTUM).square().sum().backward()
    assert [tensor.grad is None for tensor in tensors] == [number == frozen for number in range(3)]
