"""ImageNet weights into a body: every tensor arrives and is counted, and what does not fit ends in one line."""

import hashlib
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights, resnet

from config import ModelConfig
from metrics.results import read_journal
from modules import norm as norm_module
from modules.authors_names import to_authors
from modules.backbones import BACKBONES
from modules.imagenet import body_from_imagenet, load_imagenet_
from modules.norm import EPS, Norm
from modules.parallel_conv import ParallelConv
from segmentation_module import build_first_student, find_pretrained
from tests.helpers import body_of, largest_difference, randomise_, small_config, small_network
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.log import log

State = dict[str, torch.Tensor]
PRETRAINED = Path(__file__).parents[1] / "pretrained"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, logger=log.name)
    return caplog


def iabn_file(body: nn.Module, *, classifier: bool = True) -> dict[str, State]:
    """As InPlace-ABN's authors save: prefix module., no body., and a classifier; the rest of the checkpoint around."""
    network = small_network(branches=1)
    network.body = body
    names = to_authors(network.state_dict())
    weights = {name.replace("body.", ""): t for name, t in names.items() if name.startswith("module.body.")}
    if classifier:
        weights |= {"module.classifier.fc.weight": torch.zeros(5, 256), "module.classifier.fc.bias": torch.zeros(5)}
    return {"epoch": 90, "state_dict": weights}


def load(body: nn.Module, path: Path) -> None:
    load_imagenet_(body, path, backbone="resnet26", width=8)


@pytest.mark.parametrize("branches", [1, 2])
def test_a_file_of_inplace_abn_arrives_whole(tmp_path: Path, said: pytest.LogCaptureFixture, branches: int):
    source = randomise_(body_of(), 1)
    path = tmp_path / "weights.pth.tar"
    save_checkpoint(path, iabn_file(source))
    body = body_of(branches=branches)
    load(body, path)
    loaded = body.state_dict()
    for name, tensor in source.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    assert all(torch.equal(t, loaded[name.replace("_new.", ".")]) for name, t in loaded.items())
    count = len(source.state_dict())
    assert count == 5 * (1 + 3 * 8 + 4)
    assert said.messages == [
        f"body: {count} of {count} tensors from {path} (named as InPlace-ABN's, "
        "norms scale by |gamma| + eps), classifier left out"
    ]


def test_a_file_without_a_classifier_leaves_none_out(tmp_path: Path, said: pytest.LogCaptureFixture):
    save_checkpoint(tmp_path / "weights", iabn_file(body_of(), classifier=False))
    load(body_of(), tmp_path / "weights")
    assert said.messages[0].endswith("norms scale by |gamma| + eps)")


def test_inplace_abn_into_a_plain_norm_is_the_same_function(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = randomise_(body_of(), 1).eval()
    assert (source.stem.norm.weight < 0).any()
    save_checkpoint(tmp_path / "weights", iabn_file(source))
    body = body_of(norm="std").eval()
    load(body, tmp_path / "weights")
    assert torch.equal(body.stem.norm.weight, source.stem.norm.weight.abs() + EPS)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(body(images)["layer4"], source(images)["layer4"], rtol=1e-4, atol=1e-4)
    assert ", converted to scale by gamma, the function unchanged, classifier left out" in said.messages[0]


def at_output_stride_16(model: torchvision.models.ResNet) -> torchvision.models.ResNet:
    """Dilated as ours: torchvision does not do so in the first block of a stage, nor in basic blocks at all."""
    for conv in model.layer4.modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (2, 2)
    return model


def model_of(backbone: str) -> resnet.ResNet:
    """torchvision's, without weights; it has no ResNet-26, and timm has."""
    if backbone == "resnet26":
        return resnet.ResNet(resnet.Bottleneck, [2, 2, 2, 2])
    return getattr(torchvision.models, backbone)(weights=None)


@pytest.mark.parametrize(
    ("backbone", "count"), [("resnet18", 100), ("resnet26", 145), ("resnet34", 180), ("resnet50", 265)]
)
def test_a_file_of_torchvision_or_timm_arrives_whole_and_is_the_same_function(
    tmp_path: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, backbone: str, count: int
):
    monkeypatch.setattr(norm_module, "LEAKY_SLOPE", 0.0)  # torchvision's activation is ReLU
    source = randomise_(at_output_stride_16(model_of(backbone)), 3).eval()
    weights = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    assert (weights["layer1.0.bn2.weight"] < 0).any()
    if backbone == "resnet26":  # as timm keeps its weights
        path = tmp_path / "model.safetensors"
        save_file(weights, path, {"format": "pt"})
    else:
        path = tmp_path / f"{backbone}-00000000.pth"
        save_checkpoint(path, weights)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, x = {}, source.maxpool(source.relu(source.bn1(source.conv1(images))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = features[name] = getattr(source, name)(x)
    last = f"layer4.{1 if backbone in ('resnet18', 'resnet26') else 2}.bn2"
    for norm, branches in (("abn", 2), ("iabn_sync", 1)):
        usual = {"backbone": backbone, "width": 64, "stem_activation": True, "norm_act": norm}
        config = small_config(no_pretrained=False, pretrained=path, **usual)
        body = build_first_student(config, branches=branches, classes_per_head=(3,)).body.eval()
        converted = ", converted to scale by |gamma| + eps, the function unchanged" if norm.startswith("iabn") else ""
        assert said.messages[-1] == (
            f"body: {count} of {count} tensors from {path} (named as torchvision's, norms scale by gamma)"
            f"{converted}, classifier left out"
        )
        norms = [module for module in body.modules() if isinstance(module, Norm)]
        assert not converted or all((module.weight >= 0).all() for module in norms)
        site = body.layer4[-1].conv2
        for of_it in (site.norm, site.norm_new)[:branches]:
            scale = weights[f"{last}.weight"]
            torch.testing.assert_close(of_it.scale(), scale.abs() if converted else scale)
            assert torch.equal(of_it.running_var, weights[f"{last}.running_var"])
        with torch.no_grad():
            for name, made in body(images).items():
                assert largest_difference(made, features[name]) < 1e-4, name
    assert len(said.messages) == 2


def test_weights_that_torchvision_names_are_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchvision_weights: State, said: pytest.LogCaptureFixture
):
    """By torchvision itself, from where it says they are: here a file. What has another checksum is not kept."""
    save_checkpoint(tmp_path / "made.pth", torchvision_weights)
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()
    weight, cache = ResNet18_Weights.IMAGENET1K_V1, tmp_path / "home" / "hub" / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    config = small_config(
        backbone="resnet18",
        width=64,
        no_pretrained=False,
        pretrained=Path("torchvision:ResNet18_Weights.IMAGENET1K_V1"),
    )
    for source in (tmp_path / "resnet18-00000000.pth", tmp_path / f"resnet18-{digest[:8]}.pth"):
        os.link(tmp_path / "made.pth", source)
        monkeypatch.setattr(weight, "_value_", replace(weight.value, url=source.as_uri()))
        if "0000" in source.name:
            with pytest.raises(UserError, match=r"cannot be fetched \(invalid hash.*; save file:.* as /") as error:
                find_pretrained(config)
            assert "\n" not in str(error.value) and not [*cache.glob("*.pth*[!k]")]
    assert find_pretrained(config) == cache / source.name
    source.unlink()
    body = build_first_student(config, branches=1, classes_per_head=(3,)).body
    assert f"tensors from {cache / source.name} (named as torchvision's" in said.messages[-1]
    assert torch.equal(body.layer1[0].conv2.norm.running_var, torchvision_weights["layer1.0.bn2.running_var"])
    # From an address where nobody listens.
    monkeypatch.setattr(weight, "_value_", replace(weight.value, url="http://127.0.0.1:9/resnet18-00000000.pth"))
    with pytest.raises(UserError, match=r"cannot be fetched \(.*refused.*; save http:.* as /"):
        find_pretrained(config)


@pytest.mark.parametrize(
    ("backbone", "name", "says"),
    [
        ("resnet26", "ResNet50_Weights.IMAGENET1K_V2", "there are none for --backbone resnet26; name a file"),
        (
            "resnet101",
            "ResNet50_Weights.IMAGENET1K_V2",
            r"for --backbone resnet101 choose from ResNet101_Weights\..*_V2$",
        ),
        ("resnet50", "IMAGENET1K", r"for --backbone resnet50 choose from ResNet50_Weights\."),
    ],
)
def test_weights_of_torchvision_for_another_body_are_refused(backbone: str, name: str, says: str):
    path = Path(f"torchvision:{name}")
    with pytest.raises(UserError, match=f"^--pretrained {path}: {says}"):
        find_pretrained(small_config(backbone=backbone, width=64, no_pretrained=False, pretrained=path))


@pytest.fixture(scope="module")
def torchvision_weights() -> State:
    return torchvision.models.resnet18(weights=None).state_dict()


def test_a_scale_of_zero_stays_next_to_nothing(torchvision_weights: State):
    """|gamma| + eps cannot be less than eps; torchvision's scales often are."""
    weights = torchvision_weights | {"layer1.0.bn2.weight": torch.zeros(64)}
    state = body_from_imagenet(weights, absolute=True)
    assert (state["layer1.0.conv2.norm.weight"] == 0).all()
    assert torch.equal(state["layer1.0.conv2.conv.weight"], weights["layer1.0.conv2.weight"])
    assert weights.keys() == torchvision_weights.keys() | {"layer1.0.bn2.weight"}


@pytest.mark.parametrize("name", ["layer1.0.se.fc1.weight", "layer1.0.se.fc1.num", "head.weight"])
def test_unknown_names_of_torchvision_are_refused(torchvision_weights: State, name: str):
    with pytest.raises(UserError, match=name):
        body_from_imagenet(torchvision_weights | {name: torch.zeros(1)}, absolute=False)


def test_torchvision_files_of_other_nets_are_refused(tmp_path: Path):
    wanted = "name a file with --pretrained, or train from scratch with --no_pretrained"
    with torch.device("meta"):
        bodies = {name: body_of(name, width=64) for name in ("resnet34", "resnet50", "resnet101")}
        others = {
            name: {
                n: torch.empty(t.shape) for n, t in getattr(torchvision.models, name)(weights=None).state_dict().items()
            }
            for name in ("resnet18", "wide_resnet50_2", "resnext50_32x4d", "resnet50")
        }
    path = tmp_path / "weights.pth"
    for name, backbone, says in (
        (
            "resnet18",
            "resnet50",
            r"resnet18 with 2\+2\+2\+2 blocks of width 64; \d+ of the 265 tensors needed are missing",
        ),
        ("resnet18", "resnet34", r"resnet18 with .*; 80 of the 180 tensors needed are missing"),
        (
            "wide_resnet50_2",
            "resnet50",
            r"\d+ have another shape, first layer1.0.conv1.conv.weight: \(128, 64, 1, 1\), not ",
        ),
        ("resnext50_32x4d", "resnet50", r"\d+ have another shape"),
        (
            "resnet50",
            "resnet101",
            r"resnet50 with 3\+4\+6\+3 blocks of width 64; 255 of the 520 tensors needed are missing",
        ),
    ):
        # Shapes alone matter: bytes make a small file of them.
        save_checkpoint(path, {n: torch.zeros(t.shape, dtype=torch.uint8) for n, t in others[name].items()})
        with pytest.raises(UserError) as error:
            load_imagenet_(bodies[backbone], path, backbone=backbone, width=64)
        message = str(error.value)
        assert re.match(rf"{path} does not fit --backbone {backbone} --width 64: it holds .*{says}", message), message
        assert message.endswith(f"fetch them with sh pretrained/download.sh {BACKBONES[backbone].pretrained}, {wanted}")
        assert "\n" not in message


def without(weights: State, name: str) -> State:
    return {key: tensor for key, tensor in weights.items() if key != name}


BODY = iabn_file(body_of())["state_dict"]
STEM = "module.mod1.conv1.weight"
CLASSIFIER = {"module.classifier.fc.weight": torch.zeros(5, 256)}
MISFITS = {
    "depth": (iabn_file(body_of("resnet50"))["state_dict"], r"resnet50 with 3\+4\+6\+3 blocks of width 8; 120 of the"),
    "width": (
        iabn_file(body_of(width=4))["state_dict"],
        r"of width 4; 145 have another shape, first .*: \(4, 4, 1, 1\), not \(8, 8, 1, 1\)",
    ),
    "missing": (without(BODY, STEM), "without a stem; 1 of the 145 tensors needed are missing, first stem.conv.weight"),
    "too many": (
        BODY | {"module.mod1.bn1.gain": torch.zeros(8)},
        "1 of the 146 tensors in it are too many, first stem.n",
    ),
    "deep stem": (
        {"conv1.0.weight": torch.zeros(8, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(8, 8, 1, 1)},
        "'conv1.0.weight', which is no part of this network .*deep stem",
    ),
    "unknown": (BODY | {"module.mod6.x": torch.zeros(8)}, "'body.mod6.x', which is no part of this network"),
    "classifier": (CLASSIFIER, "holds a classifier alone"),
    "nothing": ({}, "holds nothing"),
    "network": (to_authors(small_network().state_dict()), "holds a segmentation network"),
    "step": ({"model_state": to_authors(small_network().state_dict())}, "holds a segmentation network.*--step_ckpt"),
    "optimizer": ({"state_dict": {"lr": 1.0}}, "holds no weights by name"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_misfit_is_one_line_and_no_random_body(tmp_path: Path, said: pytest.LogCaptureFixture, kind: str):
    content, says = MISFITS[kind]
    path = tmp_path / "weights"
    save_checkpoint(path, content)
    body = body_of(branches=2)
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    with pytest.raises(UserError, match=rf"^{path}.*{says}") as error:
        load(body, path)
    assert "\n" not in str(error.value)
    assert "--pretrained" in str(error.value) or kind == "optimizer"
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())
    assert not said.messages


def test_weights_of_a_resnet_do_not_fit_a_body_of_one_s_own(tmp_path: Path):
    options = {"norm": "iabn", "branches": 2, "drop_path": True}
    save_checkpoint(tmp_path / "weights", iabn_file(body_of()))
    with pytest.raises(UserError, match=r"does not fit --backbone resnet26 --width 8: .*; 5 of the 5 tensors needed"):
        load(nn.Sequential(ParallelConv(3, 8, 3, **options)), tmp_path / "weights")


def test_half_a_download_is_no_file_to_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "resnet101-63fe2227.pth.part").touch()
    (tmp_path / "pretrained" / "resnet101_iabn_sync.pth.tar.part").touch()
    with pytest.raises(UserError, match=r"no weights .*: neither .*download\.sh resnet101_iabn_sync, name a"):
        find_pretrained(small_config(backbone="resnet101", width=64))
    with pytest.raises(UserError, match=r"\*\.pth; name a file"):
        find_pretrained(small_config(backbone="resnet101", width=32))


def test_the_body_that_comes_with_the_project_is_the_one_of_its_page(said: pytest.LogCaptureFixture):
    page = (PRETRAINED / "README.md").read_text()
    file = PRETRAINED / "resnet26w32.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page and file.stat().st_size < 10 * 10**6
    *_, test = read_journal(file.with_suffix(".jsonl"))
    assert test["event"] == "test" and f"{100 * test['top_1']:.2f} % as trained" in page
    network = ModelConfig(backbone="resnet26", width=32, head_channels=16)
    assert find_pretrained(network).samefile(file)
    body = build_first_student(network, branches=2, classes_per_head=(3,)).body
    assert "body: 145 of 145 tensors" in said.messages[-1]
    norms = [module for module in body.modules() if isinstance(module, Norm)]
    assert norms and all(norm.running_mean.any() and norm.weight.std() > 0 for norm in norms)
