"""All norms equal the formula of SPEC 3, alone and over processes, in values, gradients and statistics."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.testing import assert_close

from modules import compiled_norm
from modules.norm import EPS, Norm
from tests.helpers import NORMS, randomise_, run_processes, small_network

C = 6
DOUBLE = {"atol": 1e-11, "rtol": 1e-11}


@pytest.fixture(autouse=True)
def in_plain_pytorch(monkeypatch):
    """The compiled form has its own tests."""
    monkeypatch.setattr(compiled_norm, "INSTALLED", False)


def build(kind: str, *, activation: bool = True, training: bool = True) -> Norm:
    return randomise_(Norm(C, kind=kind, activation=activation), 1).double().train(training)


def values(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.7


def by_formula(x: Tensor, norm: Norm, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Output, running mean and running variance, channel by channel as SPEC 3 writes them."""
    outputs, means, variances = [], [], []
    for c in range(C):
        channel, gamma, beta = x[:, c], norm.weight[c], norm.bias[c]
        mean, variance = norm.running_mean[c], norm.running_var[c]
        means.append(0.9 * mean + 0.1 * channel.mean())
        variances.append(0.9 * variance + 0.1 * ((channel - channel.mean()) ** 2).sum() / (channel.numel() - 1))
        if norm.training:
            mean = channel.mean()
            variance = ((channel - mean) ** 2).sum() / channel.numel()
        scale = gamma.abs() + 1e-5 if kind.startswith("iabn") else gamma
        y = (channel - mean) / (variance + 1e-5).sqrt() * scale + beta
        outputs.append(torch.where(y < 0, 0.01 * y, y) if norm.activation else y)
    return torch.stack(outputs, 1), torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize("kind", NORMS)
def test_equals_the_formula(kind):
    for activation, training in product([True, False], repeat=2):
        norm = build(kind, activation=activation, training=training)
        assert (norm.weight < 0).any()
        x, upstream = values(2, 3, C, 4, 5).requires_grad_(), values(3, 3, C, 4, 5)
        expected, mean, variance = by_formula(x, norm, kind)
        inputs = (x, norm.weight, norm.bias)
        gradients = torch.autograd.grad((expected * upstream).sum(), inputs)
        before = norm.running_mean.clone(), norm.running_var.clone()
        made = norm(x)
        assert_close(made, expected, **DOUBLE)
        assert_close(torch.autograd.grad((made * upstream).sum(), inputs), gradients, **DOUBLE)
        statistics = (mean, variance) if training else before
        assert_close((norm.running_mean, norm.running_var), tuple(s.detach() for s in statistics), **DOUBLE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["iabn", "abn"])
def test_gradients_equal_finite_differences(kind, training):
    norm = build(kind, training=training)
    leaves = [values(2, 2, C, 2, 3).requires_grad_(), norm.weight, norm.bias]

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(forward, leaves)


def test_a_scale_of_zero_can_grow():
    """|gamma| + eps has InPlaceABN's gradient 1 at gamma = 0."""
    norm = build("iabn", activation=False)
    torch.nn.init.zeros_(norm.weight)
    x = values(2, 3, C, 4, 5)
    upstream = values(3, 3, C, 4, 5)
    norm(x).backward(upstream)
    normalised = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + EPS).sqrt()
    assert_close(norm.weight.grad, (normalised * upstream).sum((0, 2, 3)), **DOUBLE)


@pytest.mark.parametrize("kind", NORMS)
def test_affine_is_the_eval_form(kind):
    norm = build(kind, activation=False, training=False)
    x = values(2, 3, C, 4, 5)
    factor, shift = norm.affine(torch.float64)
    assert_close(x * factor[:, None, None] + shift[:, None, None], norm(x), **DOUBLE)


def test_frozen_stays_frozen():
    norm = build("iabn").freeze_()
    state = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    torch.nn.Sequential(norm).train()
    x = values(2, 3, C, 4, 5)
    made = norm(x)
    assert not norm.training and not made.requires_grad
    assert_close(made, by_formula(x, norm, "iabn")[0], **DOUBLE)
    assert all(torch.equal(tensor, state[name]) for name, tensor in norm.state_dict().items())


SHARES = {"even": (slice(0, 2), slice(2, 4)), "uneven": (slice(0, 3), slice(3, 4))}


def _train_norm(part: slice = slice(None)) -> dict[str, Any]:
    """Values, gradients and statistics after one training pass over `part` of a batch of 4."""
    norm = build("iabn_sync")
    x = values(2, 4, C, 3, 5)[part].requires_grad_()
    made = norm(x)
    made.backward(values(3, 4, C, 3, 5)[part])
    return {
        "output": made.detach(),
        "x": x.grad,
        "weights": [norm.weight.grad, norm.bias.grad],
        "statistics": [norm.running_mean, norm.running_var],
        "half": build("iabn_sync").float()(x.detach().bfloat16()).detach(),
    }


def _train_network(part: slice = slice(None)) -> dict[str, Any]:
    network = small_network(norm_act="iabn_sync", drop_path=False).double()
    images = values(4, 4, 3, 64, 64)[part].requires_grad_()
    made = network(images).logits
    made.backward(values(5, 4, 3, 64, 64)[part])
    return {
        "output": made.detach(),
        "x": images.grad,
        "weights": [parameter.grad for parameter in network.parameters()],
        "statistics": list(network.buffers()),
    }


def _in_two(rank: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    made = {name: _train_norm(parts[rank]) for name, parts in SHARES.items()}
    return made | {"network": _train_network(SHARES["even"][rank])}


@pytest.mark.filterwarnings("error::FutureWarning")
def test_two_processes_equal_one(tmp_path):
    torch.manual_seed(0)
    alone = {"even": _train_norm(), "uneven": _train_norm(), "network": _train_network()}
    both = run_processes(_in_two, tmp_path)
    for name, expected in alone.items():
        first, second = (made[name] for made in both)
        for key in ("output", "x"):
            assert_close(torch.cat([first[key], second[key]]), expected[key], atol=1e-9, rtol=1e-9)
        # Each process has its share of a weight's gradient; DistributedDataParallel brings them together.
        gradients = [a + b for a, b in zip(first["weights"], second["weights"], strict=True)]
        assert_close(gradients, expected["weights"], atol=1e-9, rtol=1e-9)
        for made in (first, second):
            assert_close(made["statistics"], expected["statistics"], **DOUBLE)
        if name != "network":
            halves = torch.cat([first["half"], second["half"]])
            assert halves.dtype == torch.bfloat16
            assert_close(halves.double(), expected["output"], atol=0.05, rtol=0.02)


def _on_gpu(rank: int, folder: Path) -> dict[str, Any]:
    norm = build("iabn_sync").float().cuda()
    x = values(2, 4, C, 3, 5)[SHARES["even"][rank]].float().cuda().requires_grad_()
    made = norm(x * 1)
    made.backward(values(3, 4, C, 3, 5)[SHARES["even"][rank]].float().cuda())
    return {"output": made.detach().cpu(), "x": x.grad.cpu(), "statistics": [b.cpu() for b in norm.buffers()]}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_processes_on_a_gpu_equal_one_on_the_cpu(tmp_path):
    """In whichever form the children find: they import the package anew."""
    expected = _train_norm()
    first, second = run_processes(_on_gpu, tmp_path, gpu=True)
    for key in ("output", "x"):
        made = torch.cat([first[key], second[key]]).double()
        assert_close(made, expected[key], atol=1e-4, rtol=1e-4)
    for made in (first, second):
        statistics = [tensor.double() for tensor in made["statistics"]]
        assert_close(statistics, expected["statistics"], atol=1e-5, rtol=1e-5)
