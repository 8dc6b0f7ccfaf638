"""The compiled package inplace-abn, where it is installed and works; modules/norm.py does without it otherwise."""

import torch
from torch import Tensor, nn

try:
    from inplace_abn import _backend  # noqa: F401  # the package imports without its compiled part
    from inplace_abn.functions import inplace_abn, inplace_abn_sync

    INSTALLED = True
except ImportError:
    INSTALLED = False


def serves(x: Tensor, over_processes: bool) -> bool:
    """Whether the compiled norm takes `x` (B, C, H, W): its kernels know no bfloat16 and only contiguous memory, and
    its CPU build neither float16 nor statistics over processes."""
    if not INSTALLED or not x.is_contiguous():
        return False
    if x.is_cuda:
        return x.dtype in (torch.float32, torch.float64, torch.float16)
    return x.dtype in (torch.float32, torch.float64) and not over_processes


def apply(norm: nn.Module, x: Tensor, over_processes: bool, eps: float, momentum: float, slope: float) -> Tensor:
    """Norm and activation of `norm` on `x`, in the memory of `x`."""
    function = inplace_abn_sync if over_processes else inplace_abn
    activation = "leaky_relu" if norm.activation else "identity"
    tensors = (x, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return function(*tensors, norm.training, momentum, eps, activation, slope)
