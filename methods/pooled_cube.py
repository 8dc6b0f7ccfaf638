"""The distances of the pooled cube loss with their gradients, at a cost that does not grow with the window.

On a GPU methods/cube_kernel.py computes the same where it can; what follows serves everywhere, and is its reference.

Pooling is linear, so both distances start from one map d = teacher^2 - student^2. With P the pooling of a window, the
gradient of |P d| is P^T P d / |P d|: another pooling. It is made beside the value, and nothing pooled is kept for the
backward pass. All in the dtype of d, which is at least float32; autocast has no say here.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from utils.errors import one_line
from utils.log import log

LARGEST_WINDOW = 25
"""In pixels, that the kernel knows: a tile of its gradient is 16 of the 64 rows that it reads."""


def cube_distances(teacher: Tensor, student: Tensor, pool_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Both parts of the pooled cube loss for two maps (B, C, h, w), of which the student's has a gradient: spatial as
    `spatial_cube_distance`, and channel as `channel_cube_distance`."""
    fits = student.dtype != torch.float64 and max(pool_sizes) <= LARGEST_WINDOW
    if fits and (kernel := kernel_for(student.device)):
        return kernel(teacher, student, pool_sizes)
    return reference(teacher, student, pool_sizes)


def reference(teacher: Tensor, student: Tensor, pool_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`cube_distances` without a kernel."""
    difference = difference_of_squares(teacher, student)
    return spatial_cube_distance(difference, pool_sizes), channel_cube_distance(difference)


@lru_cache
def kernel_for(device: torch.device) -> Callable[[Tensor, Tensor, Sequence[int]], tuple[Tensor, Tensor]] | None:
    """`cube_distances` of methods/cube_kernel.py, if Triton is there, knows the device and computes there what it is to
    compute; this is tried once."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from methods.cube_kernel import cube_distances as kernel

        require_right(kernel, device)
    except Exception as error:  # Triton has many of its own, and without it nothing is lost but time
        log.warning(f"the pooled cube is computed without its kernel: {type(error).__name__}: {one_line(error)}")
        return None
    return kernel


@torch.enable_grad()
def require_right(distances: Callable, device: torch.device, sides: Sequence[int] = (20, 40, 70)) -> None:
    """ValueError where `distances` of small maps, or their gradient, are not those of the reference.

    Each of the `sides` is divided in another way by the kernel.
    """
    sizes = 4, 7, 24
    for side in sides:
        places = torch.arange(2 * 3 * side**2, dtype=torch.float32, device=device).view(2, 3, side, side)
        teacher, student = (1.3 * places).sin(), (0.7 * places).cos().requires_grad_()
        wanted = reference(teacher, student, sizes)
        for found, expected in zip(distances(teacher, student, sizes), wanted, strict=True):
            slopes = [torch.autograd.grad(value, student, retain_graph=True)[0] for value in (found, expected)]
            error = max(float(abs(found / expected - 1).detach()), float(torch.dist(*slopes) / slopes[1].norm()))
            if not error < 1e-4:
                raise ValueError(f"on maps of {side} x {side} it is off by {error:.1e}")


class _DifferenceOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, teacher: Tensor, student: Tensor) -> Tensor:
        ctx.save_for_backward(student)
        teacher, student = at_least_float32(teacher), at_least_float32(student)
        # Nothing where both are equal: a rounding error there would be a gradient of full size.
        return (teacher - student).mul_(teacher + student)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[None, Tensor]:
        (student,) = ctx.saved_tensors
        return None, gradient.mul(student).mul_(-2)


class _Distance(torch.autograd.Function):
    """A number whose gradient is computed along with it: `compute` returns both."""

    @staticmethod
    def forward(ctx: FunctionCtx, difference: Tensor, compute: Callable, *arguments: object) -> Tensor:
        with torch.autocast(difference.device.type, enabled=False):
            value, gradient = compute(difference, *arguments, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        ctx.arguments = len(arguments)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (own,) = ctx.saved_tensors
        return own * gradient, None, *[None] * ctx.arguments


def spatial_cube_distance(difference: Tensor, pool_sizes: Sequence[int]) -> Tensor:
    """Spatial part of the pooled cube loss for one map (B, C, h, w) (RCIL, arXiv 2203.05402, section 3.3).

    For each k: average over k x k windows, stride 1, zero padding k // 2 counted in the average; Frobenius norm per
    sample; mean over the batch; then the mean over the k. Where a sample has no difference its gradient is zero.
    """
    return _Distance.apply(difference, _spatial, tuple(pool_sizes))


def channel_cube_distance(difference: Tensor) -> Tensor:
    """Channel part: as the spatial one, with windows of 3 neighbouring channels and zero padding 1."""
    return _Distance.apply(difference, _channel)


def difference_of_squares(teacher: Tensor, student: Tensor) -> Tensor:
    """teacher^2 - student^2, in float32 or more: what both parts pool. Only the student has a gradient."""
    return _DifferenceOfSquares.apply(teacher, student)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Norms and logarithms do not survive half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _spatial(difference: Tensor, pool_sizes: tuple[int, ...], *, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Value, and gradient (B, C, h, w), of the mean over windows and samples of |rows d columns^T| / k^2.

    Box sums are products with banded matrices of ones: as many operations for every window, and no sum is a small
    difference of two large ones.
    """
    maps = difference.movedim(1, 3).contiguous()
    batch, height, width, channels = maps.shape
    gradient = torch.zeros_like(maps) if with_gradient else None
    # Shared by all windows: fresh memory for each would cost as much as the products. Pooled maps may grow by one.
    room_rows = maps.new_empty(batch * (height + 1) * width * channels)
    room_both = maps.new_empty(batch * (height + 1) * (width + 1) * channels)
    distances = []
    for size in pool_sizes:
        rows, columns = (window_sums(length, size, maps.dtype, maps.device) for length in (height, width))
        new_height, new_width = len(rows), len(columns)
        half = room_rows[: batch * new_height * width * channels].view(batch, new_height, width * channels)
        half_per_row = half.view(batch * new_height, width, channels)
        pooled = room_both[: batch * new_height * new_width * channels].view(batch * new_height, new_width, channels)
        torch.bmm(rows.expand(batch, -1, -1), maps.view(batch, height, width * channels), out=half)
        torch.bmm(columns.expand(batch * new_height, -1, -1), half_per_row, out=pooled)
        norms = _norm_per_sample(pooled.view(batch, new_height, -1))
        distances.append(norms.mean() / size**2)
        if gradient is not None:
            torch.bmm(columns.T.expand(batch * new_height, -1, -1), pooled, out=half_per_row)
            weights = _inverse(norms) / (size**2 * len(pool_sizes) * batch)
            gradient.view(batch, height, width * channels).baddbmm_(rows.T * weights[:, None, None], half)
    value = torch.stack(distances).mean()
    if gradient is None:
        return value, None
    gradient = gradient.movedim(3, 1)
    # In the layout of the map, which all that follows is faster with.
    return value, gradient.contiguous() if difference.is_contiguous() else gradient


def _channel(difference: Tensor, *, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Value, and gradient (B, C, h, w), of the mean over samples of the norm of the channels pooled by three."""
    pooled = _sums_of_three_channels(difference)
    norms = _norm_per_sample(pooled.movedim(1, 3).flatten(2))
    value = norms.mean() / 3
    if not with_gradient:
        return value, None
    # The window is symmetric: its transpose is itself.
    weights = _inverse(norms) / (3 * len(norms))
    return value, _sums_of_three_channels(pooled).mul_(weights[:, None, None, None])


def _sums_of_three_channels(x: Tensor) -> Tensor:
    sums = x.clone()
    # Not +=, which copies the slice onto itself in the end.
    sums[:, 1:].add_(x[:, :-1])
    sums[:, :-1].add_(x[:, 1:])
    return sums


def _norm_per_sample(x: Tensor) -> Tensor:
    """(B, M, N) -> (B,) Frobenius norms. In two stages: summed in one go, millions of squares in float32 were seen to
    be off by 2e-4."""
    return torch.linalg.vector_norm(torch.linalg.vector_norm(x, dim=2), dim=1)


def _inverse(norms: Tensor) -> Tensor:
    """1 / norm, and 0 where a sample has no difference: there the gradient is zero."""
    return torch.where(norms > 0, 1 / norms, 0)


@lru_cache(maxsize=256)
def window_sums(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix of ones and zeros whose row i sums the window that starts at i - size // 2 of `length` numbers, with zeros
    beyond the ends. The same object each time: not to be changed."""
    starts = torch.arange(length + 2 * (size // 2) - size + 1, device=device)[:, None] - size // 2
    positions = torch.arange(length, device=device)
    return ((positions >= starts) & (positions < starts + size)).to(dtype)
