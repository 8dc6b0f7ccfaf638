"""Names go out and come back without loss, and are those that users hold (SPEC 3)."""

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor

from modules import norm as norm_module
from modules.public_names import body_from_pretrained, branch_form, from_public, heads_of, sizes_of, to_public
from modules.resnet import ResNet
from segmentation_module import SegmentationNet, build_network
from tests.helpers import largest_difference, randomise_, small_config, small_network
from utils.errors import UserError

FORMS = ("plain", "dual", "frozen", "merged")
NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")


def network_of(form: str, *, fill: bool = False) -> SegmentationNet:
    """A network of three steps in `form`; with `fill` every tensor is arbitrary."""
    network = small_network(branches=1 if form == "plain" else 2, classes_per_head=(4, 1, 2))
    if form in ("frozen", "merged"):
        network.to_form_(form)
    if fill:
        random = torch.Generator().manual_seed(7)
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=random))
    return network


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_weights_come_back_bit_for_bit(form, prefixed):
    state = network_of(form, fill=True).state_dict()
    public = to_public(state)
    assert all(name.startswith("module.") and not name.startswith("module.module.") for name in public)
    if not prefixed:
        public = {name.removeprefix("module."): tensor for name, tensor in public.items()}
    assert branch_form(public) == form
    assert heads_of(public) == (4, 1, 2)
    assert same(from_public(public), state)
    assert same(to_public(from_public(public)), to_public(state))


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
        if form in ("frozen", "merged"):
            network.to_form_(form)
        public = to_public(network.state_dict())
    expected = {f"module.{name}": shape for name, shape in spec_names((3, 4, 23, 3), 64, 256, heads, form)}
    assert {name: tuple(tensor.shape) for name, tensor in public.items()} == expected
    if form in ("plain", "dual"):
        learnt = sum(torch.Size(s).numel() for name, s in expected.items() if ".running_" not in name)
        assert sum(parameter.numel() for parameter in network.parameters()) == learnt


@pytest.mark.parametrize("form", ["frozen", "merged"])
def test_merged_convolutions_go_out_with_identity_norms(form):
    public = to_public(network_of(form, fill=True).state_dict())
    norms = [
        name.removesuffix(".weight") for name in public if name.endswith(("convs.bn2.weight", "head.map_bn.weight"))
    ]
    assert len(norms) == 8 + 1
    for norm in norms:
        for entry, value in zip(NORM_ENTRIES, (1.0, 0.0, 0.0, 1.0), strict=True):
            assert (public[f"{norm}.{entry}"] == value).all(), (norm, entry)


def test_the_norm_of_all_atrous_convolutions_is_one():
    """Channels of branch i are 16 i .. 16 i + 15 of map_bn (SPEC 4)."""
    state = network_of("dual", fill=True).state_dict()
    public = to_public(state)
    for theirs, ours in (("map_bn", "norm"), ("map_bn_new", "norm_new")):
        for entry in NORM_ENTRIES:
            joined = public[f"module.head.{theirs}.{entry}"]
            for i in range(4):
                assert torch.equal(joined[16 * i : 16 * i + 16], state[f"head.atrous.{i}.{ours}.{entry}"])


def test_counters_of_batch_norm_are_passed_over():
    state = network_of("dual", fill=True).state_dict()
    public = to_public(state)
    public["module.body.mod2.block1.convs.bn1.num_batches_tracked"] = torch.tensor(3)
    public["module.head.map_bn.num_batches_tracked"] = torch.tensor(3)
    assert same(from_public(public), state)


@pytest.mark.parametrize("norm", ["body.mod3.block2.convs.bn2", "head.map_bn"])
@pytest.mark.parametrize("entry", NORM_ENTRIES)
@pytest.mark.parametrize("form", ["frozen", "merged"])
def test_a_norm_after_a_merged_convolution_is_refused(form, entry, norm):
    public = to_public(network_of(form).state_dict())
    public[f"module.{norm}.{entry}"][-1] += 0.5
    with pytest.raises(UserError, match=norm):
        from_public(public)


@pytest.mark.parametrize("form", ["dual", "merged"])
@pytest.mark.parametrize(
    "name",
    ["body.mod2.block1.convs.conv4.weight", "head.aspp.weight", "ema.cls.0.weight", "x", "body.mod7.conv1.weight"],
)
def test_unknown_names_are_refused(name, form):
    public = to_public(network_of(form).state_dict()) | {f"module.{name}": torch.zeros(1)}
    with pytest.raises(UserError, match=name) as error:
        from_public(public)
    assert "\n" not in str(error.value)


def body_of(backbone: str, *, branches: int, norm: str, width: int = 64) -> ResNet:
    options = {"norm": norm, "drop_path": True, "stem_activation": True}
    return ResNet(backbone, output_stride=16, width=width, branches=branches, **options).eval()


@pytest.mark.parametrize("branches", [1, 2])
def test_a_body_of_inplace_abn_fits(branches):
    """Keys of pretrained/resnet101_iabn_sync.pth.tar: module., then mod1 .. mod5, and a classifier to leave out."""
    body = body_of("resnet26", branches=branches, norm="iabn_sync", width=8)
    random = torch.Generator().manual_seed(7)
    file = {}
    for name, shape in spec_names((2, 2, 2, 2), 8, 16, (), "plain"):
        if name.startswith("body."):
            file[name.replace("body.", "module.")] = torch.randn(shape, generator=random)
    assert "module.mod3.block1.proj_conv.weight" in file
    classifier = {"module.classifier.fc.weight": torch.zeros(5, 256), "module.classifier.fc.bias": torch.zeros(5)}
    body.load_state_dict(body_from_pretrained(file | classifier, absolute=True, branches=branches))
    state = body.state_dict()
    assert torch.equal(state["layer2.0.shortcut.conv.weight"], file["module.mod3.block1.proj_conv.weight"])
    assert torch.equal(state["stem.norm.running_var"], file["module.mod1.bn1.running_var"])
    assert torch.equal(state["layer4.1.conv2.norm.weight"], file["module.mod5.block2.convs.bn2.weight"])
    if branches == 2:
        for name in [name for name in state if ".conv2.conv_new." in name or ".conv2.norm_new." in name]:
            assert torch.equal(state[name], state[name.replace("_new.", ".")])


@pytest.fixture(scope="module")
def torchvision_body() -> torchvision.models.ResNet:
    """ResNet-50 with arbitrary norms, dilated as ours: in torchvision the first block of a stage is not."""
    model = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
    model.layer4[0].conv2.dilation = model.layer4[0].conv2.padding = (2, 2)
    return randomise_(model, 3).eval()


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("norm", ["abn", "iabn"])
def test_a_body_of_torchvision_is_the_same_function(monkeypatch, torchvision_body, norm, branches):
    monkeypatch.setattr(norm_module, "LEAKY_SLOPE", 0.0)  # torchvision's activation is ReLU
    weights = torchvision_body.state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    assert (weights["layer1.0.bn2.weight"] < 0).any()
    body = body_of("resnet50", branches=branches, norm=norm)
    body.load_state_dict(body_from_pretrained(weights, absolute=norm == "iabn", branches=branches))
    assert same(weights, before)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    theirs = torchvision_body
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for name, made in body(x).items():
            expected = getattr(theirs, name)(expected)
            assert largest_difference(made, expected) < 1e-4, name


def test_a_scale_of_zero_stays_next_to_nothing(torchvision_body):
    """|gamma| + eps cannot be less than eps; torchvision's scales often are."""
    weights = torchvision_body.state_dict()
    weights = weights | {"layer1.0.bn3.weight": torch.zeros_like(weights["layer1.0.bn3.weight"])}
    state = body_from_pretrained(weights, absolute=True, branches=1)
    assert (state["layer1.0.conv3.norm.weight"] == 0).all()
    assert torch.equal(state["layer1.0.conv3.conv.weight"], weights["layer1.0.conv3.weight"])


@pytest.mark.parametrize("name", ["layer1.0.se.fc1.weight", "layer1.0.se.fc1.num", "head.weight"])
def test_unknown_names_of_torchvision_are_refused(torchvision_body, name):
    with pytest.raises(UserError, match=name):
        body_from_pretrained(torchvision_body.state_dict() | {name: torch.zeros(1)}, absolute=False, branches=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backbone", ["resnet26", "resnet50", "resnet101", "resnet152"])
def test_sizes_are_read_off_the_weights(backbone: str, form: str):
    branches = 1 if form == "plain" else 2
    config = small_config(backbone=backbone, width=4, head_channels=6)
    with torch.device("meta"):
        network = build_network(config, branches=branches, classes_per_head=(3,))
        if form in ("frozen", "merged"):
            network.to_form_(form)
        public = to_public(network.state_dict())
    assert sizes_of(public) == {"backbone": backbone, "width": 4, "head_channels": 6}


@pytest.mark.parametrize("part", ["body.mod3.block2", "cls", "head.red_conv", "body.mod1.conv1", "body"])
def test_weights_of_no_such_network_have_no_sizes(part: str):
    public = to_public(network_of("plain").state_dict())
    with pytest.raises(UserError, match="not of a DeepLabV3"):
        sizes_of({name: tensor for name, tensor in public.items() if not name.startswith(f"module.{part}.")})
