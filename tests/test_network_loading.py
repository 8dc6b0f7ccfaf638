"""Networks from files: checkpoints of a step, and ImageNet weights of a body (SPEC 3, 4)."""

import copy

import pytest
import torch
from torchvision.models.resnet import Bottleneck, ResNet

from segmentation_module import (
    build_first_student,
    find_pretrained,
    form_of,
    heads_of,
    load_network,
    sizes_of,
)
from tests.helpers import small_config, small_network
from utils.checkpoint import save_checkpoint
from utils.errors import UserError


@pytest.mark.parametrize("form", ["plain", "dual", "frozen", "merged"])
def test_weights_load_in_the_form_they_have(form):
    branches = 1 if form in ("plain", "merged") else 2
    network = small_network(branches=branches, classes_per_head=(4, 2))
    if form == "frozen":
        network.freeze_merged_(copy.deepcopy(network))
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if form == "merged":
        network = network.merged()
    state = network.state_dict()
    assert (form_of(state), heads_of(state)) == (form, (4, 2))
    loaded = load_network(small_config(), state, branches=branches, classes_per_head=(4, 2))
    assert loaded.form == form
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.eval()(x).logits, network.eval()(x).logits)
    if form != "merged":
        assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == trainable


def test_sizes_are_told_by_the_shapes_of_the_weights():
    for head in ("sum", "concat", "steps"):
        backbone, width = ("resnet34", 4) if head == "concat" else ("resnet26", 8)
        expected = {"backbone": backbone, "width": width, "head": head, "head_channels": 16}
        assert sizes_of(small_network(**expected).state_dict()) == expected
    weights = small_network().state_dict()
    for missing in ("body.stem.conv.", "head.reduce.", "classifiers.", "body.layer3.1."):
        of_others = {name: tensor for name, tensor in weights.items() if not name.startswith(missing)}
        with pytest.raises(UserError, match="not of a DeepLabV3 with a ResNet body"):
            sizes_of(of_others)


@pytest.mark.parametrize(
    ("fields", "branches", "words"),
    [
        ({"width": 16}, 2, ["--width", "(16", "(8"]),
        ({"head": "concat"}, 2, ["--head", "head.last.weight", "nothing"]),
        ({"head_channels": 32}, 2, ["--head_channels", "(3, 32, 1, 1)", "(3, 16, 1, 1)"]),
        ({"backbone": "resnet50"}, 2, ["--backbone", "nothing"]),
        ({}, 1, ["two-branch", "--branches is 1"]),
    ],
)
def test_other_networks_are_refused_in_one_line(fields, branches, words):
    with pytest.raises(UserError) as error:
        load_network(small_config(**fields), small_network().state_dict(), branches=branches, classes_per_head=(3,))
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_other_classes_are_refused():
    for heads in ((4,), (3, 1)):
        with pytest.raises(UserError, match="classifiers"):
            load_network(small_config(), small_network().state_dict(), branches=2, classes_per_head=heads)
    with pytest.raises(UserError, match="single-branch"):
        load_network(small_config(), small_network(branches=1).state_dict(), branches=2, classes_per_head=(3,))


def test_tensors_that_are_too_many_are_refused():
    for name in ("head.atrous.0.norm.gain", "body.layer1.0.conv2.norm.gain", "classifiers.7.gain"):
        weights = small_network().state_dict() | {name: torch.zeros(4)}
        with pytest.raises(UserError, match=f"first {name}: the file has .*, the network nothing") as error:
            load_network(small_config(), weights, branches=2, classes_per_head=(3,))
        assert "\n" not in str(error.value)


def test_the_first_student_starts_from_a_file(tmp_path):
    weights = ResNet(Bottleneck, [2, 2, 2, 2]).state_dict()
    path = tmp_path / "torchvision.pth"
    save_checkpoint(path, weights)
    config = small_config(width=64, no_pretrained=False, pretrained=path, norm_act="abn")
    student = build_first_student(config, branches=2, classes_per_head=(3,))
    for conv in (student.body.layer2[0].conv2.conv, student.body.layer2[0].conv2.conv_new):
        assert torch.equal(conv.weight, weights["layer2.0.conv2.weight"])
    for other, words in (({"width": 32}, "--width 32"), ({"backbone": "resnet50"}, "--backbone resnet50")):
        fields = {"no_pretrained": False, "pretrained": path} | other
        with pytest.raises(UserError, match=words) as error:
            build_first_student(small_config(**fields), branches=2, classes_per_head=(3,))
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    save_checkpoint(path, {"encoder.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"torchvision\.pth.*encoder\.weight"):
        build_first_student(config, branches=2, classes_per_head=(3,))


def test_pretrained_files_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small_config(backbone="resnet50", no_pretrained=False)
    with pytest.raises(UserError, match=r"resnet50_iabn_sync\.pth\.tar.*--no_pretrained"):
        find_pretrained(config)
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "resnet50w16.safetensors").touch()  # of another width
    own = f"resnet50w{config.width}.safetensors"
    for name in ("resnet50-11ad3fa6.pth", own, "resnet50_iabn_sync.pth.tar"):
        (folder / name).touch()
        assert find_pretrained(config).name == name
    with pytest.raises(UserError, match="nowhere"):
        find_pretrained(small_config(pretrained=tmp_path / "nowhere"))
