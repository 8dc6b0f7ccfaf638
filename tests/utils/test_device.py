"""Which device a process gets, and how it computes there."""

from pathlib import Path

import pytest
import torch

from methods.losses import adaptive_cross_entropy, cross_entropy, unbiased_cross_entropy
from utils.distributed import find_device, init_distributed
from utils.errors import UserError
from utils.optim import in_fp32

ALONE = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@ALONE
@pytest.mark.skipif(not torch.version.cuda, reason="needs a torch for CUDA")
def test_a_gpu_that_torch_cannot_use_is_no_silent_run_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_device(0, tmp_path).type == "cpu"
    (tmp_path / "nvidia0").touch()
    with pytest.raises(
        UserError, match=r"has a GPU that torch .* cannot use: .*; install the torch that fits"
    ) as caught:
        find_device(0, tmp_path)
    assert "\n" not in str(caught.value)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert find_device(0, tmp_path).type == "cpu"


@ALONE
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_losses_are_the_same_ones(deterministic: bool):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=random, requires_grad=True)
    labels = torch.randint(5, (2, 6, 7), generator=random).masked_fill(torch.rand(2, 6, 7, generator=random) < 0.2, 255)

    def losses() -> list[torch.Tensor]:
        of_all = cross_entropy(logits, labels), unbiased_cross_entropy(logits, labels, 3)
        found = [*of_all, adaptive_cross_entropy(logits, labels, torch.tensor([0.3, 2.0]))]
        return [*found, *torch.autograd.grad(sum(found), logits)]

    expected = losses()
    try:
        init_distributed(deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (not deterministic, False)
        torch.testing.assert_close(losses(), expected, rtol=1e-6, atol=1e-7)
    finally:
        init_distributed()


def test_evaluation_is_in_fp32_and_repeatable():
    @in_fp32
    def flags() -> tuple[bool, ...]:
        cudnn = torch.backends.cudnn
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.is_inference_mode_enabled()

    init_distributed()
    assert flags() == (False, True, False, True) and torch.backends.cudnn.benchmark
