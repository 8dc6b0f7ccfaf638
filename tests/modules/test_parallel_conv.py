"""Two branches and what becomes of them: mixing, merging, freezing (SPEC 3, 4)."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from modules import parallel_conv
from modules.lean_conv import used_channels
from modules.norm import Norm
from modules.parallel_conv import ParallelConv, draw_shares
from tests.helpers import NORMS, randomise_

C_IN, C_OUT = 5, 8


def build(form: str = "dual", **options: Any) -> ParallelConv:
    """A float64 site with arbitrary norms; a frozen one has been through two transitions."""
    branches = 1 if form == "plain" else 2
    settings = {"kernel_size": 3, "norm": "iabn", "branches": branches, "drop_path": True} | options
    site = randomise_(ParallelConv(C_IN, C_OUT, **settings), 1).double()
    for seed in (2, 3) if form == "frozen" else ():
        site.freeze_merged_(copy.deepcopy(site))
        randomise_(site, seed)
    if form == "merged":
        site.merge_()
    assert site.form == form
    return site


def batch(seed: int = 0) -> Tensor:
    return torch.randn(3, C_IN, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def leaky(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.01 * x, x)


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same_state(module: torch.nn.Module, state: dict[str, Tensor]) -> bool:
    now = module.state_dict()
    return now.keys() == state.keys() and all(torch.equal(now[name], state[name]) for name in state)


@pytest.mark.parametrize("form", ["dual", "frozen"])
@pytest.mark.parametrize("norm", NORMS)
def test_kernel_is_that_of_the_spec(norm, form):
    site = build(form, norm=norm)

    def folded(conv: torch.nn.Conv2d, of: Norm) -> tuple[Tensor, Tensor]:
        gamma = of.weight.abs() + 1e-5 if norm.startswith("iabn") else of.weight
        scale = gamma / (of.running_var + 1e-5).sqrt()
        weight = torch.stack([scale[c] * conv.weight[c] for c in range(C_OUT)])
        return weight, of.bias - of.running_mean * scale

    one = (site.conv.weight, site.conv.bias) if form == "frozen" else folded(site.conv, site.norm)
    two = folded(site.conv_new, site.norm_new)
    expected = tuple((0.5 * a + 0.5 * b).detach() for a, b in zip(one, two, strict=True))
    assert_close(site.merged_kernel(), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("form", ["plain", "dual", "frozen", "merged"])
def test_computing_the_kernel_changes_nothing(form):
    site = build(form).float()
    state = state_of(site)
    weight, bias = site.merged_kernel()
    assert weight.dtype == bias.dtype == torch.float64 and not weight.requires_grad and not bias.requires_grad
    assert site.form == form and same_state(site, state)


def test_merging_or_freezing_again_changes_nothing():
    previous = build()
    for become in (ParallelConv.merge_, lambda site: site.freeze_merged_(previous)):
        site = build()
        become(site)
        state, form = state_of(site), site.form
        become(site)
        assert same_state(site, state) and site.form == form


def test_freezing_takes_what_the_step_before_learnt_and_leaves_the_new_branch():
    previous, site = build(), randomise_(build(), 5).train()
    before, (weight, bias) = state_of(previous), previous.merged_kernel()
    new = state_of(site.conv_new), state_of(site.norm_new)
    site.freeze_merged_(previous)
    site.train()
    assert site.form == "frozen" and site.norm is None
    assert previous.form == "dual" and same_state(previous, before)
    assert_close((site.conv.weight.data, site.conv.bias.data), (weight, bias))
    assert same_state(site.conv_new, new[0]) and same_state(site.norm_new, new[1])
    trainable = {name for name, parameter in site.named_parameters() if parameter.requires_grad}
    assert trainable == {"conv_new.weight", "norm_new.weight", "norm_new.bias"}
    assert site.norm_new.training


def test_eval_output_after_freezing_is_half_merged_half_new():
    """SPEC 12: the student does not start as the teacher's function."""
    before = build().eval()
    after = copy.deepcopy(before)
    after.freeze_merged_(before)
    x = batch()
    one, two = before.norm(before.conv(x)), before.norm_new(before.conv_new(x))
    assert_close(before(x), leaky((one + two) / 2))
    assert_close(after(x), leaky(((one + two) / 2 + two) / 2))


@pytest.mark.parametrize(
    ("form", "target"),
    [("plain", "dual"), ("plain", "frozen"), ("dual", "plain"), ("frozen", "dual"), ("merged", "plain")],
)
def test_there_is_no_way_back(form, target):
    site = build(form)
    state = state_of(site)
    with pytest.raises(ValueError, match=f"{form} .* {target}"):
        site.to_form_(target)
    assert site.form == form and same_state(site, state)


def test_a_single_branch_cannot_be_frozen():
    site = build("plain")
    with pytest.raises(ValueError, match="plain"):
        site.freeze_merged_(build("plain"))
    assert site.form == "plain"


def test_shares_are_thirds():
    torch.manual_seed(0)
    shares = draw_shares(60_000, torch.device("cpu"))
    assert shares.shape == (1, 60_000, 1, 1)
    frequencies = {value: float((shares == value).double().mean()) for value in (1.0, 0.0, 0.5)}
    # r < 0.33 -> (2, 0), r < 0.66 -> (0, 2), else (1, 1); standard deviation of a frequency: 0.002
    assert frequencies == pytest.approx({1.0: 0.33, 0.0: 0.33, 0.5: 0.34}, abs=0.01)
    assert sum(frequencies.values()) == 1.0


def branches_of(site: ParallelConv, x: Tensor) -> tuple[Tensor, Tensor]:
    """Training outputs of both branches, on a copy so that the statistics stay."""
    site = copy.deepcopy(site)
    kept = site.conv(x) if site.norm is None else site.norm(site.conv(x))
    return kept, site.norm_new(site.conv_new(x))


@pytest.mark.parametrize("form", ["dual", "frozen"])
def test_mixing_equals_the_formula(monkeypatch, form):
    """z = w1 kept / 2 + w2 new / 2 with (w1, w2) = (2, 0), (0, 2) or (1, 1), from the very draw."""
    site, x = build(form).train(), batch()
    kept, new = branches_of(site, x)
    drawn = []
    monkeypatch.setattr(parallel_conv, "draw_shares", lambda *a: drawn.append(draw_shares(*a)) or drawn[-1])
    for _ in range(3):
        made = site(x)
        w1 = 2 * drawn[-1].flatten()
        w2 = torch.tensor([{2.0: 0.0, 0.0: 2.0, 1.0: 1.0}[w] for w in w1.tolist()], dtype=torch.float64)
        mixed = torch.stack([w1[c] * kept[:, c] / 2 + w2[c] * new[:, c] / 2 for c in range(C_OUT)], 1)
        assert_close(made, leaky(mixed), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("form", ["dual", "frozen"])
def test_each_training_pass_draws_anew_per_channel(form):
    torch.manual_seed(0)
    site, x = build(form).train(), batch()
    kept, new = branches_of(site, x)
    seen = []
    for _ in range(12):
        made = site(x)
        choices = [leaky(kept), leaky(new), leaky((kept + new) / 2)]
        near = torch.stack([torch.isclose(made, choice).all(0).all(-1).all(-1) for choice in choices])
        assert (near.sum(0) == 1).all()  # each channel is one of the three, the same in the whole batch
        seen.append(tuple(near.int().argmax(0).tolist()))
    assert len(set(seen)) == 12
    assert {choice for draw in seen for choice in draw} == {0, 1, 2}


def everything(site: ParallelConv, y: Tensor, x: Tensor) -> list[Tensor]:
    """Output, gradients of the input and of all that trains, and statistics."""
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    trained = [parameter for parameter in site.parameters() if parameter.requires_grad]
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *trained]), *site.buffers()]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", ["dual", "frozen"])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 6}, {"activation": False}], ids=str)
def test_channels_that_nobody_uses_are_left_out_of_products_and_not_of_results(monkeypatch, options, form, norm):
    settings = {"norm": norm, "branches": 2, "drop_path": True} | options
    site = randomise_(ParallelConv(20, 128, 3, **settings), 1).double()
    if form == "frozen":
        site.freeze_merged_(copy.deepcopy(site))
    site.to(memory_format=torch.channels_last).train()
    x = torch.randn(3, 20, 9, 11, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    plain = copy.deepcopy(site)
    torch.manual_seed(0)
    share = draw_shares(128, x.device)
    assert used_channels(share) is not None and used_channels(1 - share) is not None
    monkeypatch.setattr(parallel_conv, "draw_shares", lambda *_: share)
    kept = plain.conv(x) if plain.norm is None else plain.norm(plain.conv(x))
    expected = share * kept + (1 - share) * plain.norm_new(plain.conv_new(x))
    expected = leaky(expected) if site.activation else expected
    for ours, wanted in zip(everything(site, site(x), x), everything(plain, expected, x), strict=True):
        assert_close(ours, wanted, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("training", "drop_path"), [(False, True), (False, False), (True, False)])
def test_averages_without_random_weights(training, drop_path):
    site, x = build(drop_path=drop_path).train(training), batch()
    kept, new = branches_of(site, x)
    torch.manual_seed(0)
    random = torch.get_rng_state()
    for _ in range(2):
        assert_close(site(x), leaky((kept + new) / 2), atol=1e-12, rtol=1e-12)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("form", ["plain", "merged"])
def test_one_branch_draws_nothing(form):
    site, x = build(form).train(), batch()
    random = torch.get_rng_state()
    conv = F.conv2d(x, site.conv.weight, site.conv.bias, padding=1)
    expected = conv if site.norm is None else copy.deepcopy(site.norm)(conv)
    assert_close(site(x), leaky(expected) if form == "merged" else expected)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_draws_on_the_device():
    assert draw_shares(8, torch.device("cuda")).is_cuda
