"""tools/export.py: whatever form it has, an exported network is the one that was trained."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from config import ModelConfig
from modules.authors_names import to_authors
from modules.deeplab import HEADS, RATES
from segmentation_module import SegmentationNet, heads_of, load_network
from tests.helpers import randomise_, small_config, small_network
from tests.networks import save_network
from tests.workplace import Workplace, load
from tools import export
from trained import load_trained
from utils.checkpoint import save_checkpoint
from utils.errors import UserError

POOLING = 4
"""Feature pixels: the window is 64 pixels of the image wide."""
SHAPES = [(1, 3, 33, 48), (3, 3, 64, 160), (1, 3, 150, 131)]
"""Of images that are smaller than the window, larger in one direction, and larger in both."""
OPTIONS = ("backbone", "output_stride", "width", "head", "head_channels", "norm_act", "stem_activation", "pooling")


class Exported(NamedTuple):
    """What one call of the tool has written and said, and the network that was trained."""

    checkpoint: dict
    network: SegmentationNet  # as trained, in eval mode
    path: Path  # without suffix
    said: str

    def metadata(self) -> dict[str, str]:
        with safe_open(self.path.with_suffix(".safetensors"), "pt") as file:
            return file.metadata()


def export_all(path: Path, out: Path, *forms: str) -> Exported:
    """What the tool makes of the checkpoint `path`, in all forms unless some are named."""
    words = ["--ckpt", path, "--out", out, "--pooling", POOLING, *(["--form", *forms] if forms else [])]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert export.main([*map(str, words)]) == 0
    checkpoint = load(path)
    weights = checkpoint["model_state"]
    shape = {"branches": checkpoint["trainer_state"]["identity"]["branches"], "classes_per_head": heads_of(weights)}
    network = load_network(small_config(backbone="resnet14", pooling=POOLING), weights, **shape).eval()
    return Exported(checkpoint, network, out / path.stem, said.getvalue())


@pytest.fixture(scope="module")
def exported(trained: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """RCIL after step 1, in all forms; the other networks have the same operations."""
    out = tmp_path_factory.mktemp("export") / "new" / "out"
    made = export_all(trained.checkpoint(1), out)
    assert sorted(file.suffix for file in out.iterdir()) == [".onnx", ".pt2", ".safetensors"]
    return made


@pytest.fixture(params=["exported", "first", "plain"])
def each(request: pytest.FixtureRequest, trained: Workplace, tmp_path: Path) -> Exported:
    """Frozen, dual and plain networks, with their merged weights."""
    if request.param == "exported":
        return request.getfixturevalue("exported")
    path = trained.checkpoint(0)
    if request.param == "plain":
        path = tmp_path / "plain.pth"
        save_network(path, "--method FT --task 15-1", 1)
    return export_all(path, tmp_path, "weights")


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest logit."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def images(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_onnxruntime_gives_the_logits_of_the_network_that_was_trained(exported: Exported):
    session = onnxruntime.InferenceSession(exported.path.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    [described] = session.get_inputs()
    assert (described.name, described.shape) == ("images", ["batch", 3, "height", "width"])
    for shape in SHAPES:
        [found] = session.run(["logits"], {"images": images(shape).numpy()})
        assert_close(torch.from_numpy(found), exported.network(images(shape)).logits)


@torch.no_grad()
def test_the_program_gives_the_logits_of_the_network_that_was_trained(exported: Exported):
    program = torch.export.load(exported.path.with_suffix(".pt2")).module()
    for shape in SHAPES:
        assert_close(program(images(shape)), exported.network(images(shape)).logits)
    with pytest.raises(Exception, match="32"):
        program(images((1, 3, 16, 64)))


@torch.no_grad()
def test_the_weights_are_those_of_the_merged_network_and_load_by_what_lies_beside_them(each: Exported):
    weights = load_file(each.path.with_suffix(".safetensors"))
    merged = each.network.merged().state_dict()
    assert weights.keys() == merged.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in merged.items())
    said = {name: text for name, text in each.metadata().items() if name in OPTIONS}
    options = {
        name: text if name in ("backbone", "head", "norm_act") else json.loads(text) for name, text in said.items()
    }
    shape = {"branches": json.loads(each.metadata()["branches"]), "classes_per_head": heads_of(weights)}
    network = load_network(ModelConfig(**options), weights, **shape).eval()
    assert network.form == "merged"
    assert_close(network(images(SHAPES[2])).logits, each.network(images(SHAPES[2])).logits)


@torch.no_grad()
def test_the_weights_are_read_where_a_checkpoint_is(each: Exported):
    read = load_trained(each.path.with_suffix(".safetensors"))
    state = each.checkpoint["trainer_state"]
    assert read.labels == tuple(range(len(read.class_names))) and list(read.class_names) == state["identity"]["classes"]
    assert (read.step, read.finished, read.pooling) == (state["identity"]["step"], True, POOLING)
    assert read.checkpoint["trainer_state"]["settings"] == state.get("settings", {})
    assert json.loads(each.metadata()["palette"])[:2] == [[0, 0, 0], [128, 0, 0]]
    assert re.fullmatch(r"rcil \d\S+, (commit \w+(-dirty)?, )?torch \d\S+", each.metadata()["made_by"])
    merged = each.network.for_inference()
    assert torch.equal(read.network(images(SHAPES[2])).logits, merged(images(SHAPES[2])).logits)


def test_other_safetensors_are_refused(exported: Exported, tmp_path: Path):
    path, weights = tmp_path / "other.safetensors", load_file(exported.path.with_suffix(".safetensors"))
    whole = exported.metadata()
    for metadata, says in (
        (None, "does not say what it is of: name a file that tools/export.py wrote, or a checkpoint"),
        ({"format": "pt", "classes": "200", "dataset": "imagefolder"}, "does not say what it is of"),
        (whole | {"settings": "3"}, "was changed: its settings are 3"),
        (whole | {"palette": "[[0, 0, 0]]"}, "was changed: its palette is"),
        (whole | {"step": "two"}, "or was changed: its identity is"),
        (whole | {"classes": '["background"]'}, "names 1 classes"),
        (whole | {"pooling": "0"}, "--pooling 0: at least 1"),
    ):
        save_file(weights, path, metadata)
        with pytest.raises(UserError, match=says) as error:
            load_trained(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_each_form_says_what_it_is_of(exported: Exported):
    assert exported.said.count("of the largest logit") == 2
    metadata, identity = exported.metadata(), exported.checkpoint["trainer_state"]["identity"]
    assert metadata["dataset"] == "voc" and json.loads(metadata["step"]) == identity["step"]
    assert json.loads(metadata["task"]) == identity["task"] and json.loads(metadata["classes"]) == identity["classes"]
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(metadata["std"]) == [0.229, 0.224, 0.225]
    model = onnx.load(exported.path.with_suffix(".onnx"))
    assert {entry.key: entry.value for entry in model.metadata_props}.items() >= metadata.items()
    extra = {"metadata.json": ""}
    torch.export.load(exported.path.with_suffix(".pt2"), extra_files=extra)
    assert json.loads(extra["metadata.json"]) == metadata


def test_it_costs_what_a_plain_deeplab_costs(each: Exported):
    title, _, *rows = each.said.splitlines()[:4]
    assert title.split() == ["one", "image", "of", "512", "x", "512", "parameters", "GFLOPs"]
    (form, before, before_flops), (_, after, after_flops) = (row.rsplit(None, 2) for row in rows)
    heads = tuple(classifier.out_channels for classifier in each.network.classifiers)
    plain = small_network(backbone="resnet14", branches=1, classes_per_head=heads, pooling=POOLING).for_inference()
    assert after == f"{sum(parameter.numel() for parameter in plain.parameters()):,}"
    assert after_flops == f"{export.costs(plain)[1] / 1e9:.2f}"
    assert before == f"{sum(parameter.numel() for parameter in each.network.parameters()):,}"
    assert each.network.form in form
    if each.network.form == "plain":
        assert before_flops == after_flops
    else:
        assert float(before_flops) > 1.4 * float(after_flops)


def test_two_operations_are_counted_for_a_multiply_add():
    conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
    assert export.costs(conv) == (5 * 27 + 5, 2 * 27 * 5 * 256 * 256)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A checkpoint."""
    save_network(tmp_path / "step.pth", "", 0)
    return tmp_path / "step.pth"


def run(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str]:
    """The exit code and the only line on stderr; nothing was written."""
    code = export.main([*map(str, words), "--form", "weights", "program"])
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return code, error


class OneConvolution(torch.nn.Conv2d):
    """A body that is traced in no time."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer4": super().forward(images)}


def test_the_head_of_ssul_and_its_unknown_are_exported(tmp_path: Path):
    torch.manual_seed(0)
    norms = {"norm": "std", "branches": 1, "drop_path": False}
    head = HEADS["steps"](6, 8, rates=RATES[16], pooling=POOLING, **norms)
    network = SegmentationNet(OneConvolution(3, 6, 3, stride=16, padding=1), head, (3, 2))
    network.add_unknown_()
    network = export.Logits(randomise_(network.eval(), seed=0).for_inference())
    written = export.write_onnx(export.traced(network), {}, tmp_path / "ssul.onnx")
    assert export.largest_difference(written, network) < export.TOLERANCE


def test_a_network_that_gives_other_numbers_is_not_kept(step: Path, capsys, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    out = step.parent / "out"
    code = export.main(["--ckpt", str(step), "--out", str(out), "--form", "program"])
    error = capsys.readouterr().err
    assert code == 1 and "step.pt2 was not kept: its logits differ from PyTorch's by" in error
    assert list(out.iterdir()) == []


def test_a_missing_package_is_named_before_anything_is_written(step: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code = export.main(["--ckpt", str(step), "--out", str(step.parent / "out")])
    error = capsys.readouterr().err
    assert (
        code == 2
        and error.count("\n") == 1
        and "onnxscript is not installed: pip install -r requirements-export.txt" in error
    )
    assert list(step.parent.iterdir()) == [step]


def test_what_is_no_checkpoint_of_a_finished_step_is_refused(step: Path, capsys):
    folder = step.parent
    checkpoint = load(step)
    save_checkpoint(folder / "foreign.pth", {"model_state": to_authors(checkpoint["model_state"])})
    save_checkpoint(folder / "body.pth", {"model_state": {"fc.weight": torch.zeros(3)}})
    checkpoint["trainer_state"]["finished"] = False
    save_checkpoint(folder / "half.pth", checkpoint)
    (folder / "text.pth").write_text("weights")
    before = sorted(folder.iterdir())
    for name, message in {
        "none.pth": "the checkpoint is missing: ",
        "text.pth": "text.pth is damaged, or holds more than tensors",
        "body.pth": "body.pth: ",
        "half.pth": "half.pth is a half-done step 0: resume it first",
        "foreign.pth": "give --dataset and --task",
    }.items():
        code, error = run(capsys, "--ckpt", folder / name, "--out", folder / "out")
        assert code == 2 and message in error, error
    assert sorted(folder.iterdir()) == before


def test_a_file_in_the_place_of_the_folder_is_refused(step: Path, capsys):
    (step.parent / "out").write_text("mine")
    code, error = run(capsys, "--ckpt", step, "--out", step.parent / "out")
    assert code == 2 and f"--out {step.parent}/out is a file; name a folder" in error
    assert (step.parent / "out").read_text() == "mine"


def test_a_foreign_network_is_exported_where_it_is_told_what_it_is(step: Path):
    save_checkpoint(step, {"model_state": to_authors(load(step)["model_state"])})
    words = f"--ckpt {step} --out {step.parent} --form weights --dataset voc --task 15-1"
    assert export.main(words.split()) == 0
    with safe_open(step.with_suffix(".safetensors"), "pt") as file:
        assert json.loads(file.metadata()["classes"])[:2] == ["background", "aeroplane"]
