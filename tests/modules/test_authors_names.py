"""Names go out and come back without loss, and are those that users hold (SPEC 3)."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from modules.authors_names import authors_tensor, from_authors, to_authors
from segmentation_module import SegmentationNet, build_network
from tests.helpers import in_form_, small_config, small_network
from utils.errors import UserError

FORMS = ("plain", "dual", "frozen", "merged")
NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")


def network_of(form: str) -> SegmentationNet:
    """A network of three steps in `form`; every tensor is arbitrary."""
    network = small_network(branches=1 if form == "plain" else 2, classes_per_head=(4, 1, 2))
    in_form_(network, form)
    random = torch.Generator().manual_seed(7)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=random))
    return network


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_back_bit_for_bit(form):
    state = network_of(form).state_dict()
    authors = to_authors(state)
    assert all(name.startswith("module.") and not name.startswith("module.module.") for name in authors)
    bare = {name.removeprefix("module."): tensor for name, tensor in authors.items()}
    for file in (authors, bare):
        assert same(from_authors(file), state)
    assert same(to_authors(from_authors(authors)), authors)


def spec_names(
    blocks: tuple[int, ...], width: int, channels: int, heads: tuple[int, ...], form: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as SPEC 3 lists them, nothing taken from the code."""
    two, bias = form in ("dual", "frozen"), form in ("frozen", "merged")

    def norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((f"{name}.{entry}", (size,)) for entry in NORM_ENTRIES)

    yield "body.mod1.conv1.weight", (width, 3, 7, 7)
    yield from norm("body.mod1.bn1", width)
    before = width
    for stage, count in enumerate(blocks):
        inner, outer = width * 2**stage, 4 * width * 2**stage
        for index in range(count):
            block = f"body.mod{stage + 2}.block{index + 1}"
            yield f"{block}.convs.conv1.weight", (inner, before, 1, 1)
            yield from norm(f"{block}.convs.bn1", inner)
            for twin in ("", "_new") if two else ("",):
                yield f"{block}.convs.conv2{twin}.weight", (inner, inner, 3, 3)
                yield from norm(f"{block}.convs.bn2{twin}", inner)
            if bias:
                yield f"{block}.convs.conv2.bias", (inner,)
            yield f"{block}.convs.conv3.weight", (outer, inner, 1, 1)
            yield from norm(f"{block}.convs.bn3", outer)
            if index == 0:
                yield f"{block}.proj_conv.weight", (outer, before, 1, 1)
                yield from norm(f"{block}.proj_bn", outer)
            before = outer
    for twin in ("", "_new") if two else ("",):
        for i in range(4):
            side = 1 if i == 0 else 3
            yield f"head.map_convs{twin}.{i}.weight", (channels, before, side, side)
            if bias and not twin:
                yield f"head.map_convs.{i}.bias", (channels,)
        yield from norm(f"head.map_bn{twin}", 4 * channels)
    yield "head.global_pooling_conv.weight", (channels, before, 1, 1)
    yield from norm("head.global_pooling_bn", channels)
    yield "head.red_conv.weight", (channels, 4 * channels, 1, 1)
    yield "head.pool_red_conv.weight", (channels, channels, 1, 1)
    yield from norm("head.red_bn", channels)
    for step, classes in enumerate(heads):
        yield f"cls.{step}.weight", (classes, channels, 1, 1)
        yield f"cls.{step}.bias", (classes,)


@pytest.mark.parametrize("form", FORMS)
def test_names_and_shapes_are_those_of_the_spec(form):
    """ResNet-101, width 64, head 256, VOC 15-1 at step 2."""
    config = small_config(backbone="resnet101", width=64, head_channels=256)
    heads = (16, 1, 1)
    with torch.device("meta"):
        network = build_network(config, branches=1 if form == "plain" else 2, classes_per_head=heads)
        authors = to_authors(in_form_(network, form).state_dict())
    expected = {f"module.{name}": shape for name, shape in spec_names((3, 4, 23, 3), 64, 256, heads, form)}
    assert {name: tuple(tensor.shape) for name, tensor in authors.items()} == expected
    if form in ("plain", "dual"):
        learnt = sum(torch.Size(s).numel() for name, s in expected.items() if ".running_" not in name)
        assert sum(parameter.numel() for parameter in network.parameters()) == learnt


@pytest.mark.parametrize("form", ["frozen", "merged"])
def test_merged_convolutions_go_out_with_identity_norms(form):
    authors = to_authors(network_of(form).state_dict())
    norms = [
        name.removesuffix(".weight") for name in authors if name.endswith(("convs.bn2.weight", "head.map_bn.weight"))
    ]
    assert len(norms) == 8 + 1
    for norm in norms:
        for entry, value in zip(NORM_ENTRIES, (1.0, 0.0, 0.0, 1.0), strict=True):
            assert (authors[f"{norm}.{entry}"] == value).all(), (norm, entry)


def test_counters_of_batch_norm_are_passed_over():
    state = network_of("dual").state_dict()
    authors = to_authors(state)
    authors["module.body.mod2.block1.convs.bn1.num_batches_tracked"] = torch.tensor(3)
    authors["module.head.map_bn.num_batches_tracked"] = torch.tensor(3)
    assert same(from_authors(authors), state)


@pytest.mark.parametrize("form", ["frozen", "merged"])
def test_a_norm_after_a_merged_convolution_is_refused(form):
    authors = to_authors(network_of(form).state_dict())
    for norm, entry in product(("body.mod3.block2.convs.bn2", "head.map_bn"), NORM_ENTRIES):
        changed = authors[f"module.{norm}.{entry}"].clone()
        changed[-1] += 0.5
        with pytest.raises(UserError, match=norm):
            from_authors(authors | {f"module.{norm}.{entry}": changed})


@pytest.mark.parametrize(
    "name",
    ["body.mod2.block1.convs.conv4.weight", "head.aspp.weight", "ema.cls.0.weight", "x", "body.mod7.conv1.weight"],
)
def test_unknown_names_are_refused(name):
    for form in ("dual", "merged"):
        authors = to_authors(network_of(form).state_dict()) | {f"module.{name}": torch.zeros(1)}
        with pytest.raises(UserError, match=name) as error:
            from_authors(authors)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_body_that_the_authors_do_not_have_is_refused(form):
    network = small_network(backbone="resnet18", branches=1 if form == "plain" else 2)
    with pytest.raises(UserError, match=r"^the authors' code has no body of this kind, only ResNet-50, 101, 152 "):
        to_authors(in_form_(network, form).state_dict())


@pytest.mark.parametrize("form", FORMS)
def test_only_the_norms_after_the_atrous_convolutions_are_parts_of_one_tensor(form):
    """Channels of branch i are 16 i .. 16 i + 15 of map_bn (SPEC 4)."""
    state = network_of(form).state_dict()
    parts = Counter(authors_tensor(name) for name in state)
    joined = {name: count for name, count in parts.items() if count > 1}
    norms = {"plain": ["map_bn"], "dual": ["map_bn", "map_bn_new"], "frozen": ["map_bn_new"], "merged": []}[form]
    assert joined == {f"head.{norm}.{entry}": 4 for norm in norms for entry in NORM_ENTRIES}
    assert {name for name in state if authors_tensor(name) != name} == {
        f"head.atrous.{i}.{norm.replace('map_bn', 'norm')}.{entry}"
        for norm in norms
        for entry in NORM_ENTRIES
        for i in range(4)
    }
    authors = to_authors(state)
    for name in joined:
        of_it = [tensor for part, tensor in state.items() if authors_tensor(part) == name]
        assert torch.equal(authors[f"module.{name}"], torch.cat(of_it))
