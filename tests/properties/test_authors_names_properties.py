"""Weights of any small network go to the authors' names and come back bit for bit."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modules.authors_names import PREFIX, WRAPPERS, from_authors, to_authors
from segmentation_module import SegmentationNet, form_of, heads_of, load_network
from tests.helpers import in_form_, small_config, small_network
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
    in_form_(network, form)
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
@given(networks(), st.lists(st.sampled_from(WRAPPERS), max_size=3), st.randoms(use_true_random=False))
def test_any_network_comes_back_bit_for_bit(drawn, wrappers: list[str], random):
    """Whatever wrapped it when it was saved."""
    network, fields = drawn
    state = network.state_dict()
    authors = to_authors(state)
    assert all(name.startswith(PREFIX) and not name.startswith(2 * PREFIX) for name in authors)
    items = list(authors.items())
    random.shuffle(items)
    file = {"".join(wrappers) + name.removeprefix(PREFIX): tensor for name, tensor in items}
    heads = tuple(classifier.out_channels for classifier in network.classifiers)
    assert same(from_authors(file), state)
    assert same(to_authors(from_authors(file)), authors)
    assert form_of(from_authors(file)) == network.form and heads_of(from_authors(file)) == heads
    branches = 2 if network.form in ("dual", "frozen") else 1
    loaded = load_network(small_config(**fields), from_authors(file), branches=branches, classes_per_head=heads)
    assert loaded.form == network.form and same(loaded.state_dict(), state)
