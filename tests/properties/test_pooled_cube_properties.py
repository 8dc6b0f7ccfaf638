"""The pooled cube distances of any maps and windows: the formula of SPEC 5, and its slope."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from methods.losses import fold_new_into_background
from methods.pooled_cube import channel_cube_distance, difference_of_squares, spatial_cube_distance
from tests.methods import spec_losses as spec
from tests.properties.strategies import seeds


class Maps(NamedTuple):
    """A teacher's map and a student's, which may have more channels, in float64."""

    teacher: Tensor
    student: Tensor
    equal: list[bool]
    """Which samples are the same in both; only where the channels are as many."""
    pool_sizes: list[int]

    @property
    def num_old(self) -> int:
        return self.teacher.shape[1]

    def folded(self, student: Tensor) -> Tensor:
        """The student's map as it is compared."""
        more = student.shape[1] > self.num_old
        return fold_new_into_background(student, self.num_old) if more else student


@st.composite
def maps(draw: st.DrawFn) -> Maps:
    batch, channels, height, width = (draw(st.integers(1, most)) for most in (3, 6, 14, 14))
    more = draw(st.integers(0, 3))
    random = torch.Generator().manual_seed(draw(seeds))
    layouts = [draw(st.sampled_from([torch.contiguous_format, torch.channels_last])) for _ in range(2)]
    teacher, student = (
        torch.randn(batch, count, height, width, dtype=torch.float64, generator=random).contiguous(memory_format=layout)
        for count, layout in zip((channels, channels + more), layouts, strict=True)
    )
    equal = [more == 0 and draw(st.booleans()) for _ in range(batch)]
    for sample in range(batch):
        if equal[sample]:
            student[sample] = teacher[sample]
    return Maps(teacher, student, equal, draw(st.lists(st.integers(1, 30), min_size=1, max_size=6)))


Distance = Callable[[Maps, Tensor, Tensor], Tensor | float]
"""(maps, teacher, student) -> distance."""

DISTANCES: dict[str, tuple[Distance, Distance]] = {
    "spatial": (
        lambda at, a, b: spatial_cube_distance(difference_of_squares(a, at.folded(b)), at.pool_sizes),
        lambda at, a, b: spec.spatial(a, spec.folded(b, at.num_old), at.pool_sizes),
    ),
    "channel": (
        lambda at, a, b: channel_cube_distance(difference_of_squares(a, at.folded(b))),
        lambda at, a, b: spec.channel(a, spec.folded(b, at.num_old)),
    ),
}
every_distance = pytest.mark.parametrize(("distance", "naive"), DISTANCES.values(), ids=DISTANCES.keys())


@every_distance
@given(maps())
def test_the_distance_is_the_formula(distance: Distance, naive: Distance, at: Maps):
    expected = naive(at, at.teacher, at.student)
    assert float(distance(at, at.teacher, at.student)) == pytest.approx(expected, rel=1e-10, abs=1e-14)
    single = distance(at, at.teacher.float(), at.student.float())
    assert single.dtype == torch.float32 and float(single) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@every_distance
@given(maps(), seeds)
def test_the_gradient_is_the_slope_of_the_formula(distance: Distance, naive: Distance, at: Maps, seed: int):
    """In a random direction, by a central difference; a sample without a difference has no slope to compare with."""
    student = at.student.clone().requires_grad_()
    gradient = torch.autograd.grad(3 * distance(at, at.teacher, student), student)[0] / 3
    equal = torch.tensor(at.equal)
    assert torch.count_nonzero(gradient[equal]) == 0
    direction = torch.randn(student.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    direction[equal] = 0
    ahead, behind = (naive(at, at.teacher, at.student + step * direction) for step in (1e-6, -1e-6))
    assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-6)


@given(maps())
def test_folding_adds_the_new_classes_to_the_background(at: Maps):
    assert_close(fold_new_into_background(at.student, at.num_old), spec.folded(at.student, at.num_old))
