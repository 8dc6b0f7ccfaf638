"""Weights of any small network go to the authors' names and come back bit for bit."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modules.public_names import PREFIX, branch_form, from_public, heads_of, to_public
from segmentation_module import SegmentationNet, load_network
from tests.helpers import small_config, small_network
from tests.properties.strategies import seeds, with_networks


@st.composite
def networks(draw: st.DrawFn) -> tuple[SegmentationNet, dict[str, int]]:
    """A network in any form, every tensor of it random bits, and the fields of its configuration."""
    form = draw(st.sampled_from(["plain", "dual", "frozen", "merged"]))
    # With eleven and more, names are no longer in the order of their numbers.
    steps = st.integers(1, 4) | st.integers(11, 12)
    heads = draw(steps.flatmap(lambda count: st.tuples(*[st.integers(1, 5)] * count)))
    fields = {"width": draw(st.integers(4, 6)), "head_channels": draw(st.integers(4, 12))}
    network = small_network(branches=1 if form == "plain" else 2, classes_per_head=heads, **fields)
    network.to_form_(form)
    random = torch.Generator().manual_seed(draw(seeds))
    for tensor in network.state_dict().values():
        bits(tensor).random_(-(2**31), 2**31, generator=random)
    return network, fields


def bits(tensor: Tensor) -> Tensor:
    """Integers in place of floats: -0 is not 0 there, and NaN equals itself."""
    return tensor.view(torch.int32)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(bits(a[name]), bits(b[name])) for name in a)


@with_networks
@given(networks(), st.booleans(), st.randoms(use_true_random=False))
def test_any_network_comes_back_bit_for_bit(drawn, prefixed: bool, random):
    network, fields = drawn
    state = network.state_dict()
    public = to_public(state)
    assert all(name.startswith(PREFIX) and not name.startswith(2 * PREFIX) for name in public)
    items = list(public.items())
    random.shuffle(items)
    file = {name if prefixed else name.removeprefix(PREFIX): tensor for name, tensor in items}
    heads = tuple(classifier.out_channels for classifier in network.classifiers)
    assert branch_form(file) == network.form and heads_of(file) == heads
    assert same(from_public(file), state)
    assert same(to_public(from_public(file)), public)
    branches = 2 if network.form in ("dual", "frozen") else 1
    loaded = load_network(small_config(**fields), file, branches=branches, classes_per_head=heads)
    assert loaded.form == network.form and same(loaded.state_dict(), state)
