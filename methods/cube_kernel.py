"""The pooled cube on a GPU: two kernels that look at the maps once for the value and once for the gradient.

A program has one tile of one channel. It makes all box sums of the tile as products with banded matrices of whole
numbers, on the tensor cores, and writes neither differences nor pooled maps to memory. A float32 number is three
bfloat16 numbers, each of which a tensor core multiplies exactly: the sums are float32 sums. methods/pooled_cube.py is
the same in PyTorch, says what is computed, and serves where this does not.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

INTERPRETED = triton.knobs.runtime.interpret
"""Triton's interpreter, which runs the kernels on a CPU, multiplies no bfloat16 numbers: they are float32 there."""


@triton.jit
def _difference(teacher, student, channel_map, rows, columns, height, width, is_there):
    """teacher^2 - student^2 of one channel at rows x columns, in float32; zero beyond its borders."""
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    inside = (inside & is_there) != 0  # compiled, this is nothing; the interpreter of Triton 3.9 makes it int32 before
    places = (channel_map * height + rows[:, None]) * width + columns[None, :]
    known = tl.load(teacher + places, mask=inside, other=0).to(tl.float32)
    seen = tl.load(student + places, mask=inside, other=0).to(tl.float32)
    return (known - seen) * (known + seen)


@triton.jit
def _read(first, INPUT: tl.constexpr, HALO: tl.constexpr):
    """The rows or columns that a tile reads which starts at `first`: the whole map where it needs no halo."""
    return tl.arange(0, INPUT) + (first - HALO if HALO else 0)


@triton.jit
def _both_sides(left, x, right, PART: tl.constexpr):
    """left @ x @ right, to float32; left and right hold whole numbers up to 256."""
    left, right = left.to(PART), right.to(PART)
    high = x.to(tl.bfloat16).to(tl.float32)
    middle = (x - high).to(tl.bfloat16).to(tl.float32)
    half = tl.dot(left, (x - high - middle).to(PART))
    half = tl.dot(left, middle.to(PART), half)
    half = tl.dot(left, high.to(PART), half)
    high = half.to(tl.bfloat16).to(tl.float32)
    middle = (half - high).to(tl.bfloat16).to(tl.float32)
    whole = tl.dot((half - high - middle).to(PART), right)
    whole = tl.dot(middle.to(PART), right, whole)
    return tl.dot(high.to(PART), right, whole)


@triton.jit
def _in_window(window, place, size):
    """1 where `place` is in the window of number `window`, else 0."""
    start = window - size // 2
    return ((place >= start) & (place < start + size)).to(tl.float32)


@triton.jit
def _shared_windows(a, b, length, size):
    """How many windows of `length` numbers have both places in them."""
    half = size // 2
    first = tl.maximum(tl.maximum(a, b) - size + 1, -half)
    last = tl.minimum(tl.minimum(a, b), length + half - size)
    return tl.maximum(last - first + 1, 0).to(tl.float32)


@triton.jit
def _squares_kernel(
    teacher, student, squares, sizes, count, channels, height, width, across,
    TILE: tl.constexpr, INPUT: tl.constexpr, HALO: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Writes for a tile of TILE x TILE windows the sum of the squares of what each size pools, and of the channels."""
    channel_map, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    top, left = tile // across * TILE, tile % across * TILE
    rows, columns = _read(top, INPUT, HALO), _read(left, INPUT, HALO)
    difference = _difference(teacher, student, channel_map, rows, columns, height, width, True)
    i, j = top + tl.arange(0, TILE), left + tl.arange(0, TILE)
    place = squares + (channel_map * tl.num_programs(1) + tile) * (count + 1)
    for k in range(count):
        size = tl.load(sizes + k)
        down = _in_window(i[:, None], rows[None, :], size)
        along = _in_window(j[None, :], columns[:, None], size)
        pooled = _both_sides(down, difference, along, PART)
        more = size // 2 * 2 - size + 1
        exists = (i < height + more)[:, None] & (j < width + more)[None, :]
        tl.store(place + k, tl.sum(tl.where(exists, pooled * pooled, 0.0)))
    channel = channel_map % channels
    pooled = tl.zeros((TILE, TILE), tl.float32)
    for shift in tl.static_range(-1, 2):
        is_there = (channel + shift >= 0) & (channel + shift < channels)
        pooled += _difference(teacher, student, channel_map + shift, i, j, height, width, is_there)
    exists = (i < height)[:, None] & (j < width)[None, :]
    tl.store(place + count, tl.sum(tl.where(exists, pooled * pooled, 0.0)))


@triton.jit
def _gradient_kernel(
    teacher, student, gradient, weights, sizes, count, channels, height, width, across,
    TILE: tl.constexpr, INPUT: tl.constexpr, HALO: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Writes for a tile of TILE x TILE pixels the gradient of the student's map: the sum over all sizes and the
    channels of weight * pooling^T pooling (teacher^2 - student^2), times -2 student."""
    channel_map, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    top, left = tile // across * TILE, tile % across * TILE
    rows, columns = _read(top, INPUT, HALO), _read(left, INPUT, HALO)
    difference = _difference(teacher, student, channel_map, rows, columns, height, width, True)
    i, j = top + tl.arange(0, TILE), left + tl.arange(0, TILE)
    weights += channel_map // channels * (count + 1)
    total = tl.zeros((TILE, TILE), tl.float32)
    for k in range(count):
        size = tl.load(sizes + k)
        down = _shared_windows(i[:, None], rows[None, :], height, size)
        along = _shared_windows(j[None, :], columns[:, None], width, size)
        total += tl.load(weights + k) * _both_sides(down, difference, along, PART)
    channel = channel_map % channels
    weight = tl.load(weights + count)
    for shift in tl.static_range(-2, 3):
        other = channel + shift
        first = tl.maximum(tl.maximum(channel, other) - 1, 0)
        count = tl.maximum(tl.minimum(tl.minimum(channel, other) + 1, channels - 1) - first + 1, 0)
        is_there = (other >= 0) & (other < channels)
        near = _difference(teacher, student, channel_map + shift, i, j, height, width, is_there)
        total += weight * count.to(tl.float32) * near
    places = (channel_map * height + i[:, None]) * width + j[None, :]
    exists = (i < height)[:, None] & (j < width)[None, :]
    seen = tl.load(student + places, mask=exists, other=0).to(tl.float32)
    tl.store(gradient + places, (-2 * seen * total).to(gradient.dtype.element_ty), mask=exists)


class Tile(NamedTuple):
    """Pixels a side: of the tile, of what is read for it, and of that before it; 0 where the whole map is read."""

    size: int
    read: int
    halo: int = 0


Grid = tuple[int, int]
"""Tiles down and across."""


def squares_tiles(height: int, width: int) -> tuple[Tile, Grid]:
    """How `cube_squares` divides the windows of a map, which are one more than its rows where they are of even size."""
    longest = max(height, width)
    if longest <= 32:
        tile = Tile(_power_of_two(longest + 1), _power_of_two(longest))
    else:
        tile = Tile(32, 64, 0 if longest <= 64 else 16)
    return tile, (triton.cdiv(height + 1, tile.size), triton.cdiv(width + 1, tile.size))


def gradient_tiles(height: int, width: int) -> tuple[Tile, Grid]:
    """How `cube_gradient` divides a map."""
    read = _power_of_two(max(height, width))
    tile = Tile(min(read, 32), read) if read <= 64 else Tile(16, 64, 24)
    return tile, (triton.cdiv(height, tile.size), triton.cdiv(width, tile.size))


@torch.library.custom_op("rcil::cube_squares", mutates_args=())
def cube_squares(teacher: Tensor, student: Tensor, sizes: Sequence[int]) -> Tensor:
    """(B, C, h, w) twice -> (B, len(sizes) + 1): by sample the sums of the squares that each window pools, not divided
    by its area, and of those of three channels. All maps are contiguous."""
    batch, channels, height, width = student.shape
    tile, grid = squares_tiles(height, width)
    squares = student.new_empty(batch, channels * math.prod(grid), len(sizes) + 1, dtype=torch.float32)
    _launch(_squares_kernel, teacher, student, squares, sizes=sizes, grid=grid, tile=tile)
    return squares.sum(1, dtype=torch.float64).float()


@cube_squares.register_fake
def _(teacher: Tensor, student: Tensor, sizes: Sequence[int]) -> Tensor:
    return student.new_empty(len(student), len(sizes) + 1, dtype=torch.float32)


@torch.library.custom_op("rcil::cube_gradient", mutates_args=())
def cube_gradient(teacher: Tensor, student: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient of the student (B, C, h, w) where the square of `cube_squares` number k of sample b has the gradient
    `weights`[b, k] / 2. All maps are contiguous."""
    tile, grid = gradient_tiles(*student.shape[2:])
    gradient = torch.empty_like(student)
    _launch(_gradient_kernel, teacher, student, gradient, weights, sizes=sizes, grid=grid, tile=tile)
    return gradient


@cube_gradient.register_fake
def _(teacher: Tensor, student: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.empty_like(student)


class _CubeDistances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, teacher: Tensor, student: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        norms = cube_squares(teacher.contiguous(), student.contiguous(), sizes).sqrt()
        areas = _on(norms.device, (*(size**2 for size in sizes), 3))
        ctx.save_for_backward(teacher, student, norms, areas)
        ctx.sizes = sizes
        of_all = (norms / areas).mean(0)
        return of_all[:-1].mean(), of_all[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, spatial: Tensor, channel: Tensor) -> tuple[None, Tensor, None]:
        teacher, student, norms, areas = ctx.saved_tensors
        count = len(ctx.sizes)
        from_above = torch.cat([(spatial / count).expand(count), channel.view(1)])
        # Zero where a sample has no difference.
        weights = torch.where(norms > 0, from_above / (norms * areas * len(norms)), 0)
        gradient = cube_gradient(teacher.contiguous(), student.contiguous(), weights, ctx.sizes)
        return None, gradient.contiguous(memory_format=_layout(student)), None


def cube_distances(teacher: Tensor, student: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Spatial and channel distance of two maps (B, C, h, w) in float32, float16 or bfloat16; only the student has a
    gradient. No window is larger than LARGEST_WINDOW of methods/pooled_cube.py."""
    return _CubeDistances.apply(teacher, student, tuple(sizes))


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.contiguous_format if tensor.is_contiguous() else torch.channels_last


def _power_of_two(number: int) -> int:
    return max(16, triton.next_power_of_2(number))


def _launch(kernel: Callable, *tensors: Tensor, sizes: Sequence[int], grid: Grid, tile: Tile) -> None:
    student = tensors[1]
    batch, channels, height, width = student.shape
    numbers = _on(student.device, tuple(sizes)), len(sizes), channels, height, width, grid[1]
    part = tl.float32 if INTERPRETED else tl.bfloat16
    kernel[(batch * channels, math.prod(grid))](*tensors, *numbers, *tile, part, num_warps=warps(tile))


def warps(tile: Tile) -> int:
    """Of a program: so many that nothing spills (`python -m benchmarks.kernel_resources`)."""
    return 8 if tile.size == 64 else 4


@lru_cache
def _on(device: torch.device, sizes: tuple[int, ...]) -> Tensor:
    """Once, since the host waits for such a copy."""
    return torch.tensor(sizes, dtype=torch.int32, device=device)
