"""The compiled package inplace-abn, where it is installed and serves; modules/norm.py does without it otherwise.

It keeps one activation where PyTorch keeps two, and memory is what GPUs are short of. On a CPU its single-threaded
backward pass makes training slower than PyTorch's own norm does, so that one runs there, with the same numbers.
"""

import torch
from torch import Tensor, nn

try:
    from inplace_abn import _backend  # noqa: F401  # the package imports without its compiled part
    from inplace_abn.functions import inplace_abn, inplace_abn_sync

    INSTALLED = True
except ImportError:
    INSTALLED = False


def knows(device_type: str, dtype: torch.dtype) -> bool:
    """Whether its kernels serve tensors of this kind: none know bfloat16."""
    return INSTALLED and device_type == "cuda" and dtype in (torch.float32, torch.float64, torch.float16)


def serves(x: Tensor) -> bool:
    """Whether it takes `x` (B, C, H, W): it wants contiguous memory, and more than one value a channel though other
    processes may hold more. Not under torch.compile, whose graph would break at each norm."""
    fits = x.is_contiguous() and x.numel() > x.shape[1]
    return fits and knows(x.device.type, x.dtype) and not torch.compiler.is_compiling()


def apply(norm: nn.Module, x: Tensor, over_processes: bool, eps: float, momentum: float, slope: float) -> Tensor:
    """Norm and activation of `norm` on `x`, in the memory of `x`."""
    activation = "leaky_relu" if norm.activation else "identity"
    statistics = (norm.running_mean, norm.running_var)
    arguments = (x, norm.weight, norm.bias, *statistics, norm.training, momentum, eps, activation, slope)
    if over_processes:
        # Its own default is the group of the time of import: none, and it would count one process silently.
        return inplace_abn_sync(*arguments, torch.distributed.group.WORLD)
    return inplace_abn(*arguments)
