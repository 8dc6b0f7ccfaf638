"""The network as a whole, and how a step's student and teacher come from the step before (SPEC 3, 4, 6)."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import OptimConfig
from methods.base import Method, MethodConfig
from modules.norm import Norm
from segmentation_module import SegmentationNet, build_student, freeze_parts_
from tests.helpers import NORMS, largest_difference, small_network, task_of
from utils.optim import Group, build_optimizer

FORMS = ("plain", "dual", "frozen")


def build(form: str = "dual", **options: object) -> SegmentationNet:
    network = small_network(branches=1 if form == "plain" else 2, **options)
    if form == "frozen":
        network.freeze_merged_(copy.deepcopy(network))
    return network


def groups(network: SegmentationNet) -> dict[str, Group]:
    """All that trains, in the groups of any method."""
    return Method(MethodConfig(), task_of("voc", "15-1").step(0)).groups(network)


def images(batch: int = 2, side: int = 64) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", FORMS)
def test_the_merged_network_and_that_for_inference_equal_the_network(form, norm):
    for other in ({}, {"output_stride": 8}, {"backbone": "resnet18"}) if norm == "iabn_sync" else ({},):
        network = build(form, norm_act=norm, stem_activation=form == "plain", **other).eval()
        before = copy_state(network)
        for dtype, allowed in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            network, x = network.to(dtype), images(1).to(dtype)
            expected = network(x)
            for made in (network.merged()(x), network.for_inference()(x)):
                assert largest_difference(made.logits, expected.logits) < allowed
                for name, feature in expected.features.items():
                    assert largest_difference(made.features[name], feature) < allowed, name
        assert network.form == form and same(copy_state(network), before)
    merged, inference = network.merged(), network.for_inference()
    assert not any(isinstance(module, Norm) for module in inference.body.modules())
    for made in (merged, inference):
        assert made.form == "merged" and not made.training
        assert not any(parameter.requires_grad for parameter in made.parameters())
    assert same(copy_state(inference.for_inference()), copy_state(inference))
    assert network.for_inference_() is network and same(copy_state(network), copy_state(inference))


def storages(network: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}


def test_a_teacher_shares_the_frozen_convolutions_of_its_student():
    previous = build("dual")
    student = build_student(previous, new_classes=2)
    student.freeze_merged_(previous)
    student.place_(torch.device("cpu"), torch.float32)
    teacher = previous.for_inference()
    expected = teacher(images()).logits
    teacher.share_frozen_(student)
    frozen = storages(nn.ModuleList(site.conv for site in student.sites()))
    assert storages(teacher) & storages(student) == frozen and len(frozen) == 2 * 12
    assert torch.equal(teacher(images()).logits, expected)


def test_a_teacher_of_another_network_keeps_its_own():
    student, teacher = build("frozen"), build("dual").for_inference()
    with torch.no_grad():
        for site in student.sites():
            site.conv.bias[0] += 1
    teacher.share_frozen_(student)
    assert not storages(teacher) & storages(student)


@pytest.mark.parametrize("form", FORMS)
def test_weights_and_their_gradients_lie_channels_last(form):
    """The fused optimiser takes it for granted that both lie alike, and is wrong without a word where they do not."""
    network = build(form).place_(torch.device("cpu"), torch.float32)
    output = network(images())
    assert all(feature.is_contiguous(memory_format=torch.channels_last) for feature in output.features.values())
    output.logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last), name
        if parameter.requires_grad:
            assert parameter.grad.stride() == parameter.stride(), name


@pytest.mark.parametrize("form", FORMS)
def test_every_site_alone_equals_its_merged_form(form):
    network = build(form).double().eval()
    merged = network.merged()
    for site, single in zip(network.sites(), merged.sites(), strict=True):
        random = torch.Generator().manual_seed(0)
        x = torch.randn(1, site.conv.in_channels, 9, 9, dtype=torch.float64, generator=random)
        assert largest_difference(single(x), site(x)) < 1e-9
    assert len(network.sites()) == 8 + 4


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_merging_costs_nothing_at_inference():
    """Per site of c outputs a plain network has gamma and beta, 2c, and a merged one a bias, c."""
    plain, merged = build("plain"), build("dual").merged()
    assert plain.training and not merged.training
    outputs = [8 * 2**stage for stage in range(4) for _ in range(2)] + 4 * [16]
    assert [site.conv.out_channels for site in merged.sites()] == outputs
    biases, norms = sum(outputs), 2 * sum(outputs)
    assert count(merged) == count(plain) + biases - norms
    assert count(merged) == count(plain.merged()) == count(build("frozen").merged())
    assert {type(module) for module in merged.modules()} == {type(module) for module in plain.modules()}


def test_frozen_branches_survive_training():
    """Not a bit of them moves, with momentum and heavy weight decay; all else moves."""
    torch.manual_seed(0)
    network = build("frozen").train()
    before = copy_state(network)
    optimizer = build_optimizer(groups(network), OptimConfig(weight_decay=0.1), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        network(images()).logits.square().mean().backward()
        optimizer.step()
    fixed = {name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])}
    branches = {"body.layer{}.{}.conv2.conv".format(*at) for at in ((i, j) for i in range(1, 5) for j in range(2))}
    branches |= {f"head.atrous.{i}.conv" for i in range(4)}
    assert fixed == {f"{branch}.{entry}" for branch in branches for entry in ("weight", "bias")}


@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_named_and_of_the_right_size(training):
    network = build(classes_per_head=(4, 1, 2)).train(training)
    made = network(images(2, 96))
    assert made.logits.shape == (2, 7, 96, 96)
    assert list(made.features) == ["layer1", "layer2", "layer3", "layer4", "pre_logits", "logits_small"]
    assert made.features["pre_logits"].shape == (2, 16, 6, 6)
    pre_logits = made.features["pre_logits"]
    small = torch.cat([classifier(pre_logits) for classifier in network.classifiers], dim=1)
    assert torch.equal(made.features["logits_small"], small)
    upsampled = F.interpolate(small, (96, 96), mode="bilinear", align_corners=False)
    assert torch.equal(made.logits, upsampled)


@pytest.mark.parametrize("new_classes", [3, 0])
def test_a_student_is_a_copy_of_the_network_before_with_a_classifier_for_new_classes(new_classes):
    previous = build(classes_per_head=(4, 2))
    student, before = build_student(previous, new_classes=new_classes), copy_state(previous)
    heads = [classifier.out_channels for classifier in student.classifiers]
    assert heads == [4, 2, *[new_classes] * bool(new_classes)]
    assert same({name: tensor for name, tensor in copy_state(student).items() if name in before}, before)
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not storages(student) & storages(previous)


@pytest.mark.parametrize(("body", "norms"), [(True, False), (False, True), (True, True), (False, False)])
def test_frozen_parts_survive_training(body, norms):
    torch.manual_seed(0)
    network = build()
    freeze_parts_(network, body=body, norms=norms)
    network.train()
    before = copy_state(network)
    optimizer = build_optimizer(groups(network), OptimConfig(weight_decay=0.1), lr=0.01)
    network(images()).logits.square().mean().backward()
    optimizer.step()
    of_norms = {
        f"{path}.{entry}"
        for path, module in network.named_modules()
        if isinstance(module, Norm)
        for entry in module.state_dict()
    }
    for name, tensor in network.state_dict().items():
        fixed = (body and name.startswith("body.")) or (norms and name in of_norms)
        assert torch.equal(tensor, before[name]) == fixed, name
