"""The kernels of the pooled cube give what the form in PyTorch gives: through Triton's interpreter where no GPU is."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods import pooled_cube
from methods.pooled_cube import reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")
from methods import cube_kernel  # noqa: E402

WINDOWS = (4, 8, 12, 16, 20, 24)
Distances = Callable[[Tensor, Tensor, tuple[int, ...]], tuple[Tensor, Tensor]]


def outcome(distances: Distances, teacher: Tensor, student: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Both values, and the student's gradient of their weighted sum."""
    student = student.detach().requires_grad_()
    spatial, channel = distances(teacher, student, sizes)
    (gradient,) = torch.autograd.grad(2 * spatial + 3 * channel, student)
    return [spatial.detach(), channel.detach(), gradient]


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    teacher, student = (torch.randn(shape, generator=random).to(DEVICE, dtype) for _ in range(2))
    return teacher, student


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((2, 3, 10, 13), WINDOWS),  # the whole map at once
        ((1, 2, 32, 32), WINDOWS),
        ((1, 2, 33, 40), WINDOWS),  # tiles of windows, each of which reads the whole map
        ((1, 2, 64, 64), (24,)),
        ((1, 2, 70, 9), (4, 24, 25)),  # tiles with a halo
        ((2, 1, 5, 66), (1, 2, 3, 7)),
        ((1, 1, 9, 7), (3, 25)),  # one channel; a window larger than the map
    ],
    ids=str,
)
def test_value_and_gradient_are_those_of_the_reference(shape: tuple[int, ...], sizes: tuple[int, ...]):
    teacher, student = maps(*shape)
    found = outcome(cube_kernel.cube_distances, teacher, student, sizes)
    expected = outcome(reference, teacher.double(), student.double(), sizes)
    for made, exact in zip(found, expected, strict=True):
        assert made.dtype == torch.float32
        assert float((made - exact).norm() / exact.norm()) < 3e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype):
    teacher, student = maps(2, 3, 12, 9, dtype=dtype)
    spatial, channel, gradient = outcome(cube_kernel.cube_distances, teacher, student, WINDOWS)
    exact = outcome(reference, teacher.double(), student.double(), WINDOWS)
    assert float(spatial / exact[0] - 1) == pytest.approx(0, abs=3e-7)
    assert float(channel / exact[1] - 1) == pytest.approx(0, abs=3e-7)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, exact[2].float().to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_the_layout_changes_nothing():
    teacher, student = maps(2, 4, 10, 10)
    expected = outcome(cube_kernel.cube_distances, teacher, student, WINDOWS)
    teacher, student = (map_.contiguous(memory_format=torch.channels_last) for map_ in (teacher, student))
    found = outcome(cube_kernel.cube_distances, teacher, student, WINDOWS)
    assert all(map(torch.equal, found, expected))
    assert found[2].is_contiguous(memory_format=torch.channels_last)


def test_a_sample_without_difference_has_no_gradient():
    teacher, student = maps(2, 3, 8, 8)
    student[0] = teacher[0]
    gradient = outcome(cube_kernel.cube_distances, teacher, student, WINDOWS)[2]
    assert torch.count_nonzero(gradient[0]) == 0 and torch.count_nonzero(gradient[1]) == gradient[1].numel()


def test_it_is_tried_before_it_is_used():
    pooled_cube.require_right(cube_kernel.cube_distances, DEVICE, sides=(20,))
    pooled_cube.require_right(reference, DEVICE)
    for wrong in (
        lambda teacher, student, sizes: [1.001 * value for value in reference(teacher, student, sizes)],
        lambda teacher, student, sizes: reference(teacher, student.detach() * 0.5 + student * 0.5, sizes),
        lambda teacher, student, sizes: reference(teacher * torch.nan, student, sizes),
    ):
        with pytest.raises(ValueError, match="on maps of 20 x 20 it is off by"):
            pooled_cube.require_right(wrong, DEVICE)


@pytest.fixture
def fresh_choice():
    """Nothing is known of any device, before and after."""
    pooled_cube.kernel_for.cache_clear()
    yield
    pooled_cube.kernel_for.cache_clear()


def test_where_it_fails_the_slower_form_serves(
    fresh_choice: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(cube_kernel, "cube_distances", broken)
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr("methods.pooled_cube.require_right", lambda distances, _: distances())
        assert pooled_cube.kernel_for(torch.device("cuda")) is None
    assert "the pooled cube is computed without its kernel: RuntimeError: " in caplog.text


def test_old_cards_and_cpus_have_none(fresh_choice: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 5))
    assert pooled_cube.kernel_for(torch.device("cuda")) is None
    assert pooled_cube.kernel_for(torch.device("cpu")) is None


def test_which_maps_it_serves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("methods.pooled_cube.kernel_for", lambda _: lambda *arguments: "kernel")
    teacher, student = maps(1, 2, 6, 6)
    assert pooled_cube.cube_distances(teacher, student, (4, 25)) == "kernel"
    for made in (
        pooled_cube.cube_distances(teacher, student, (4, 26)),
        pooled_cube.cube_distances(teacher.double(), student.double(), (4,)),
    ):
        assert len(made) == 2 and all(value.shape == () for value in made)
