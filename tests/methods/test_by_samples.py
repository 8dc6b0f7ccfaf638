"""Losses that look at a few samples at a time: the same value and gradient, and less memory."""

import inspect

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.roofline import Trace
from methods import by_samples, losses

B, C, OLD, SIZE = 5, 6, 4, (3, 7)
NAMES = [name for name, value in vars(losses).items() if hasattr(value, "__wrapped__")]


def arguments(name: str) -> list[object]:
    """What the loss takes after the logits, by what its parameters are called."""
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(0, C, (B, *SIZE), generator=random)
    labels[0, 0] = 255
    known = {
        "labels": labels,
        "teacher_logits": torch.randn(B, OLD, *SIZE, dtype=torch.float64, generator=random),
        "factors": torch.rand(B, dtype=torch.float64, generator=random),
        "num_old": OLD,
        "pos_weight": 3.0,
        "alpha": 2.0,
    }
    wanted = inspect.signature(getattr(losses, name)).parameters.values()
    return [known[parameter.name] for parameter in wanted if parameter.name in known]


def value_and_gradient(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    logits = torch.randn(B, C, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = logits.to(dtype).requires_grad_()
    named = {"true_background": True} if name == "disjoint_binary_cross_entropy" else {}
    value = getattr(losses, name)(logits, *arguments(name), **named)
    return value, *torch.autograd.grad(3 * value, logits)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_all_samples_at_once(monkeypatch: pytest.MonkeyPatch, name: str, samples: int):
    expected = value_and_gradient(name)
    monkeypatch.setattr(by_samples, "MOST", samples * C * SIZE[0] * SIZE[1])
    calls = []
    with monkeypatch.context() as patch:
        apply = by_samples._BySamples.apply
        patch.setattr(by_samples._BySamples, "apply", lambda *a: calls.append(1) or apply(*a))
        assert_close(value_and_gradient(name), expected, rtol=1e-12, atol=1e-12)
    assert len(calls) == 1


def test_it_serves_most_losses_of_logits():
    assert {"cross_entropy", "unbiased_cross_entropy", "unbiased_distillation", "binary_cross_entropy"} <= {*NAMES}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype):
    """As without, and with a gradient that only a scale lifts out of what float16 cannot hold."""
    expected = value_and_gradient("unbiased_cross_entropy", dtype)
    monkeypatch.setattr(by_samples, "MOST", 1)
    found = value_and_gradient("unbiased_cross_entropy", dtype)
    assert [tensor.dtype for tensor in found] == [torch.float32, dtype]
    assert_close(found[0], expected[0])
    assert_close(found[1].float(), expected[1].float(), rtol=1e-2, atol=1e-3)
    logits = torch.randn(2, C, *SIZE).to(dtype).requires_grad_()
    value = losses.cross_entropy(logits, torch.zeros(2, *SIZE, dtype=torch.int64)) * 1e-7
    (value * 1e7).backward()
    assert logits.grad.float().norm() > 0.05


def test_it_keeps_less_memory(monkeypatch: pytest.MonkeyPatch):
    peaks = []
    for most in (2**40, 2**18):
        monkeypatch.setattr(by_samples, "MOST", most)
        logits = torch.empty(8, 150, 128, 128, device="meta", dtype=torch.bfloat16).requires_grad_()
        labels = torch.empty(8, 128, 128, device="meta", dtype=torch.int64)
        with Trace() as counted:
            counted.add(logits)
            losses.unbiased_cross_entropy(logits, labels, 100).backward()
        peaks.append(counted.peak / (4 * logits.numel()))
    assert peaks[1] < peaks[0] / 2, peaks
