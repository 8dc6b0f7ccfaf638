"""Nothing notices whether the compiled norm runs or the one in plain PyTorch.

It serves GPUs only. The tests make its CPU build serve too, which computes the same.
"""

from copy import deepcopy
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from modules import compiled_norm
from modules.norm import EPS, LEAKY_SLOPE, MOMENTUM, Norm
from tests.helpers import largest_difference, randomise_, small_network

pytest.importorskip("inplace_abn._backend", exc_type=ImportError)

C = 6


def results(norm: Norm, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Output, gradients of input, weight and bias, running mean and variance of one pass."""
    x = x.detach().clone().requires_grad_()
    norm.zero_grad()
    made = norm(x * 1)  # as the fresh output of a convolution, which the compiled form overwrites
    made.backward(upstream)
    return [made.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def choose(monkeypatch: pytest.MonkeyPatch, *, compiled: bool) -> None:
    """Let the compiled norm serve wherever its kernels can, or nowhere."""
    dtypes = (torch.float32, torch.float64) if compiled else ()
    monkeypatch.setattr(compiled_norm, "knows", lambda device_type, dtype: dtype in dtypes)


def both(monkeypatch, kind: str, *, activation: bool, training: bool, dtype: torch.dtype, device: str = "cpu"):
    """`results` of the compiled norm and of the plain one."""
    random = torch.Generator().manual_seed(2)
    x, upstream = (torch.randn(3, C, 5, 7, generator=random).to(device, dtype) for _ in range(2))
    made = []
    for compiled in (True, False):
        choose(monkeypatch, compiled=compiled)
        assert compiled_norm.serves(x) == compiled
        norm = randomise_(Norm(C, kind=kind, activation=activation), 1).to(device, dtype).train(training)
        with torch.no_grad():
            norm.weight[0] = 0.0
        assert (norm.weight < 0).any()
        made.append(results(norm, x, upstream))
    return made


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_same_numbers(monkeypatch, dtype):
    for kind, activation, training in product(["iabn", "iabn_sync"], [True, False], [True, False]):
        compiled, plain = both(monkeypatch, kind, activation=activation, training=training, dtype=dtype)
        # InPlaceABN finds the normalised input of channel 0 back from a value scaled by eps = 1e-5 only.
        dead = slice(1, None) if dtype == torch.float32 else slice(None)
        compiled[2], plain[2] = compiled[2][dead], plain[2][dead]
        for made, expected in zip(plain, compiled, strict=True):
            assert largest_difference(made, expected) < 1e-6


@pytest.mark.parametrize("kind", ["abn", "std"])
def test_norms_with_plain_scale_are_never_compiled(monkeypatch, kind):
    choose(monkeypatch, compiled=True)
    norm = randomise_(Norm(C, kind=kind, activation=True), 1)
    x = torch.randn(2, C, 3, 3)
    before = x.clone()
    norm(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("installed", [True, False])
def test_its_kernels_know_these_numbers(monkeypatch, installed):
    monkeypatch.setattr(compiled_norm, "INSTALLED", installed)
    for dtype in (torch.float64, torch.float32, torch.float16):
        assert compiled_norm.knows("cuda", dtype) == installed
        assert not compiled_norm.knows("cpu", dtype)
    assert not compiled_norm.knows("cuda", torch.bfloat16)


def test_serves_what_it_can(monkeypatch):
    choose(monkeypatch, compiled=True)
    x = torch.randn(2, C, 3, 3)
    assert compiled_norm.serves(x)
    assert not compiled_norm.serves(x.bfloat16())
    assert not compiled_norm.serves(x.to(memory_format=torch.channels_last))
    assert not compiled_norm.serves(torch.randn(1, C, 1, 1))
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert not compiled_norm.serves(x)


@pytest.mark.parametrize(("kind", "wanted"), [("iabn", True), ("iabn_sync", True), ("abn", False), ("std", False)])
def test_layout_is_contiguous_only_where_it_serves(monkeypatch, kind, wanted):
    network, images = small_network(norm_act=kind), torch.randn(2, 3, 64, 64)
    for compiled in (True, False):
        choose(monkeypatch, compiled=compiled)
        # Mixed precision in bfloat16 is what its kernels do not know.
        for dtype, serves in ((torch.float32, wanted and compiled), (torch.bfloat16, False)):
            network.place_(torch.device("cpu"), dtype)
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                features = network(images).features
            for name in ("layer1", "layer4"):
                assert features[name].is_contiguous() == serves, name
            assert network.body.layer1[0].conv2.conv.weight.is_contiguous() == serves


def train_network(form: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Logits of one training pass; gradients of images and parameters, and statistics after it."""
    torch.manual_seed(3)
    network = small_network(branches=1 if form == "plain" else 2, norm_act="iabn").to(dtype)
    if form == "frozen":
        network.freeze_merged_(deepcopy(network))
    network.place_(torch.device("cpu"), dtype)
    served = compiled_norm.knows("cpu", dtype)
    images = torch.randn(2, 3, 64, 64, dtype=dtype).requires_grad_()
    made, features, *_ = network(images)
    assert features["layer4"].is_contiguous() == served, "the compiled norm is not in use, or should not be"
    made.backward(torch.randn(made.shape, dtype=dtype))
    gradients = [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
    return made.detach(), [images.grad, *gradients, *network.buffers()]


@pytest.mark.parametrize("form", ["plain", "dual", "frozen"])
def test_a_network_does_not_notice(monkeypatch, form):
    choose(monkeypatch, compiled=True)
    compiled, expected = train_network(form, torch.float64)
    choose(monkeypatch, compiled=False)
    plain, made = train_network(form, torch.float64)
    assert largest_difference(plain, compiled) < 1e-7
    assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["plain", "dual", "frozen"])
def test_a_network_in_single_precision_hardly_notices(monkeypatch, form):
    """Logits only: rounding tips a sign or a maximum now and then, which moves gradients by per cents."""
    choose(monkeypatch, compiled=True)
    compiled, _ = train_network(form, torch.float32)
    choose(monkeypatch, compiled=False)
    plain, _ = train_network(form, torch.float32)
    assert largest_difference(plain, compiled) < 3e-4


def test_statistics_of_all_processes_are_asked_for(tmp_path):
    """Its CPU build cannot gather them and fails, where statistics of one process would not be noticed."""
    norm = Norm(C, kind="iabn_sync", activation=True)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        with pytest.raises((AttributeError, RuntimeError), match=r"reduce_statistics|CUDA"):
            compiled_norm.apply(norm, torch.randn(2, C, 3, 3), True, EPS, MOMENTUM, LEAKY_SLOPE)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_same_numbers_on_a_gpu(monkeypatch, training, activation):
    made = both(monkeypatch, "iabn", activation=activation, training=training, dtype=torch.float64, device="cuda")
    for compiled, plain in zip(*made, strict=True):
        assert largest_difference(plain, compiled) < 1e-6
