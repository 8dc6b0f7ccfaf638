"""How the pooled cube distances are computed; that they are right is tested with the losses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from methods.pooled_cube import channel_cube_distance, difference_of_squares, spatial_cube_distance, window_sums
from tests.methods.spec_losses import POOL_SIZES

Distance = Callable[[Tensor], Tensor]


def spatial(difference: Tensor) -> Tensor:
    return spatial_cube_distance(difference, POOL_SIZES)


every_distance = pytest.mark.parametrize("distance", [spatial, channel_cube_distance])


def map_of(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def loss(distance: Distance, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Value, and gradient of the student."""
    student = student.detach().requires_grad_()
    value = distance(difference_of_squares(teacher, student))
    return value.detach(), torch.autograd.grad(3 * value, student)[0]


@every_distance
def test_the_layout_changes_nothing(distance: Distance):
    teacher, student = map_of(2, 6, 10, 13, seed=1), map_of(2, 6, 10, 13, seed=2)
    expected = loss(distance, teacher, student)
    for layouts in ((torch.channels_last,) * 2, (torch.channels_last, torch.contiguous_format)):
        maps = [map_.contiguous(memory_format=layout) for map_, layout in zip((teacher, student), layouts, strict=True)]
        for made, wanted in zip(loss(distance, *maps), expected, strict=True):
            assert_close(made, wanted, rtol=1e-12, atol=1e-12)


@every_distance
def test_gradients_hold_against_finite_differences(distance: Distance):
    teacher, student = map_of(2, 3, 4, 5, seed=1), map_of(2, 3, 4, 5, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distance(difference_of_squares(teacher, x)), student)


@every_distance
def test_float32_is_right_to_the_last_digits_on_large_maps(distance: Distance):
    """A norm summed in one go is off by 1e-4 here."""
    teacher, student = (map_of(1, 256, 128, 128, seed=seed, dtype=torch.float32).relu() for seed in (1, 2))
    exact = distance(difference_of_squares(teacher.double(), student.double()))
    assert abs(float(distance(difference_of_squares(teacher, student)) / exact) - 1) < 2e-6


@every_distance
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_pooled_is_kept(distance: Distance, dtype: torch.dtype):
    """Beside the student's map, which the network keeps as well, one map of the size of the difference."""
    teacher, student = (map_of(2, 4, 12, 12, seed=seed, dtype=torch.float32).to(dtype) for seed in (1, 2))
    student.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        distance(difference_of_squares(teacher, student))
    own = [tensor for tensor in kept if tensor.data_ptr() != student.data_ptr()]
    assert [tensor.shape for tensor in own] == [student.shape] and len(kept) == 2


@every_distance
def test_without_gradient_none_is_computed(distance: Distance):
    teacher, student = map_of(1, 3, 5, 5, seed=1), map_of(1, 3, 5, 5, seed=2)
    value = distance(difference_of_squares(teacher, student))
    assert not value.requires_grad
    assert_close(value, loss(distance, teacher, student)[0], rtol=1e-12, atol=0)


def test_equal_maps_differ_by_nothing():
    student = map_of(2, 3, 5, 5, seed=1, dtype=torch.float32).requires_grad_()
    difference = difference_of_squares(student.detach(), student)
    assert torch.count_nonzero(difference) == 0


@pytest.mark.parametrize(("length", "size"), [(5, 1), (5, 2), (5, 3), (5, 4), (2, 24), (1, 3)])
def test_window_sums(length: int, size: int):
    x = torch.arange(1.0, length + 1)
    padded = [0.0] * (size // 2) + x.tolist() + [0.0] * (size // 2)
    expected = [sum(padded[start : start + size]) for start in range(len(padded) - size + 1)]
    assert (window_sums(length, size, x.dtype, x.device) @ x).tolist() == expected
