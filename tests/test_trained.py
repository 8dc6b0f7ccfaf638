"""A checkpoint says itself what its network is and which class each output means; a foreign one is told."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modules.authors_names import to_authors
from tests.networks import save_network
from tests.workplace import Workplace, load
from tools import export
from trained import load_trained
from utils.checkpoint import save_checkpoint
from utils.constants import voc_palette
from utils.errors import UserError

VOC_B = (0, 12, 9, 20, 7, 15, 8, 14, 16, 5, 19, 4, 1, 13, 2, 11, 17, 3, 6)
"""Classes of 15-5s_b after step 3, in the order of their arrival: data/voc_class_orders.json."""


def same_function(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    images = torch.randn(2, 3, 70, 61, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.allclose(one(images).logits, other(images).logits, rtol=1e-3, atol=1e-3)


def changed(path: Path, **identity: Any) -> Path:
    """The checkpoint with another identity; entries that are None go."""
    checkpoint = load(path)
    entries = checkpoint["trainer_state"]["identity"] | identity
    checkpoint["trainer_state"]["identity"] = {name: value for name, value in entries.items() if value is not None}
    save_checkpoint(path, checkpoint)
    return path


def as_foreign(path: Path) -> Path:
    """The checkpoint as another code base would have left it."""
    save_checkpoint(path, {"model_state": to_authors(load(path)["model_state"])})
    return path


def test_the_network_is_that_of_the_run(tmp_path: Path):
    for line in (
        "",
        "--method FT",
        "--output_stride 8 --norm_act std",
        "--stem_activation",
        "--width 12",
        "--head concat",
    ):
        expected = save_network(tmp_path / "step.pth", f"--task 15-5s_b {line}", 3)
        trained = load_trained(tmp_path / "step.pth", pooling=32)
        assert same_function(trained.network, expected), line
        assert (trained.dataset, trained.step, trained.finished) == ("voc", 3, True)
        assert trained.labels == VOC_B and trained.class_names[:3] == ("background", "dog", "chair")


def test_a_checkpoint_that_does_not_say_its_head_has_the_usual_one(tmp_path: Path):
    expected = save_network(tmp_path / "step.pth", "", 0)
    assert same_function(load_trained(changed(tmp_path / "step.pth", head=None), pooling=32).network, expected)


def test_networks_that_learn_domains_know_all_classes_in_their_order(tmp_path: Path):
    """One that says nothing of itself is of any step."""
    save_network(tmp_path / "step.pth", "--dataset cityscapes_domain --task 11-5", 1)
    trained = load_trained(tmp_path / "step.pth", pooling=32)
    assert trained.labels == tuple(range(19)) and trained.class_names[-1] == "bicycle"
    foreign = {"dataset": "cityscapes_domain", "task": "11-5"}
    assert load_trained(as_foreign(tmp_path / "step.pth"), pooling=32, foreign=foreign).labels == tuple(range(19))


def test_classes_of_one_s_own_data_are_named_by_the_checkpoint(tmp_path: Path):
    save_network(tmp_path / "step.pth", "--task 15-5s_b", 3)
    names = [f"thing {number}" for number in range(19)]
    trained = load_trained(changed(tmp_path / "step.pth", dataset="folder", classes=names), pooling=32)
    assert trained.labels == VOC_B and trained.class_names == tuple(names)


def test_colours_of_one_s_own_data_come_with_the_checkpoint(trained: Workplace, tmp_path: Path):
    assert load(trained.checkpoint(1))["trainer_state"]["palette"] == [list(colour) for colour in voc_palette(17)]
    path = tmp_path / "step.pth"
    save_network(path, "--task 15-5s_b", 3)
    names, colours = ([f"thing {number}" for number in range(19)], [[number, 255, 0] for number in range(19)])
    changed(path, dataset="folder", classes=names)
    assert load_trained(path).palette == voc_palette(256)
    checkpoint = load(path)
    checkpoint["trainer_state"]["palette"] = colours
    save_checkpoint(path, checkpoint)
    assert export.main(f"--ckpt {path} --out {tmp_path} --form weights".split()) == 0
    for read in map(load_trained, (path, path.with_suffix(".safetensors"))):
        assert [read.palette[label] for label in VOC_B] == [*map(tuple, colours)]
        assert read.palette[10] == voc_palette(256)[10] and read.names[12] == "thing 1"
    for wrong in ("red", [[0, 0]] * 19, colours[1:], [[0, 0, 256]] * 19, [["a", 0, 0]] * 19):
        checkpoint["trainer_state"]["palette"] = wrong
        save_checkpoint(path, checkpoint)
        with pytest.raises(UserError, match=f"^{path}: it was changed: its palette is"):
            load_trained(path)


def test_the_window_of_image_pooling_is_that_of_the_evaluation(tmp_path: Path):
    save_network(tmp_path / "step.pth", "", 0)
    one, other = (load_trained(tmp_path / "step.pth", pooling=window).network for window in (32, 2))
    assert other.head.pooling == 2 and not same_function(one, other)


@pytest.mark.parametrize(
    ("task", "line", "options"),
    [
        ("15-5s_b", "--method MiB", {}),
        ("15-5", "--norm_act std --output_stride 8", {"norm_act": "std", "output_stride": 8}),
        ("15-5", "--stem_activation", {"stem_activation": True}),
    ],
)
def test_a_foreign_network_is_read_off_its_weights(tmp_path: Path, task: str, line: str, options: dict[str, Any]):
    expected = save_network(tmp_path / "step.pth", f"--task {task} {line} --width 12", 1)
    foreign = {"dataset": "voc", "task": task} | options
    trained = load_trained(as_foreign(tmp_path / "step.pth"), pooling=32, foreign=foreign)
    assert same_function(trained.network, expected)
    assert trained.step == 1 and trained.finished
    assert trained.labels == (VOC_B[:17] if task == "15-5s_b" else tuple(range(21)))


def test_a_foreign_network_that_is_told_wrongly_is_refused(tmp_path: Path):
    save_network(tmp_path / "step.pth", "--task 15-1", 1)
    as_foreign(tmp_path / "step.pth")
    for foreign, message in (
        (None, "does not say what it is: give --dataset and --task"),
        ({"dataset": "voc", "task": "19-1"}, r"classifiers of \[16, 1\] classes; step 1 of voc 19-1 needs \[20, 1\]"),
        ({"dataset": "voc", "task": "15-2"}, "--task 15-2"),
        ({"dataset": "voc", "task": "15-1"} | {"norm_act": "batch"}, "--norm_act batch: choose from"),
    ):
        with pytest.raises(UserError, match=f"^{tmp_path}/step.pth: .*{message}"):
            load_trained(tmp_path / "step.pth", pooling=32, foreign=foreign)


def test_what_says_itself_what_it_is_is_not_told(tmp_path: Path):
    save_network(tmp_path / "step.pth", "", 0)
    with pytest.raises(UserError, match="says itself what it is: leave out"):
        load_trained(tmp_path / "step.pth", pooling=32, foreign={"dataset": "voc", "task": "15-1"})


def test_a_changed_identity_is_refused(tmp_path: Path):
    path = tmp_path / "step.pth"
    save_network(path, "--task 15-1", 1)
    whole = load(path)["trainer_state"]["identity"]
    for identity in (
        {"dataset": None},
        {"dataset": ["voc"]},
        {"task": [["cat"]]},
        {"task": 3},
        {"task": [[0, *range(1, 15), 300], [16]]},
        {"task": [[0, *range(1, 15), 16], [16]]},
        {"step": 7},
        {"step": "1"},
        {"width": "8"},
        {"width": 12},
        {"backbone": "resnet50"},
        {"classes": ["background"]},
        {"classes": None},
        {"norm_act": "batch"},
    ):
        with pytest.raises(UserError, match=f"^{path}: "):
            load_trained(changed(path, **(whole | identity)), pooling=32)
    load_trained(changed(path, **whole), pooling=32)


def test_what_is_no_identity_at_all_is_refused(tmp_path: Path):
    save_network(tmp_path / "step.pth", "--task 15-1", 1)
    checkpoint = load(tmp_path / "step.pth")
    for identity in ("voc", [1], 3):
        checkpoint["trainer_state"]["identity"] = identity
        save_checkpoint(tmp_path / "step.pth", checkpoint)
        with pytest.raises(UserError, match="was changed: its identity is"):
            load_trained(tmp_path / "step.pth", pooling=32)


def test_weights_of_anything_else_are_refused(tmp_path: Path):
    save_network(tmp_path / "step.pth", "", 0)
    weights = to_authors(load(tmp_path / "step.pth")["model_state"])
    save_checkpoint(tmp_path / "body.pth", {"model_state": {n: w for n, w in weights.items() if "body" in n}})
    with pytest.raises(UserError, match="not of a DeepLabV3"):
        load_trained(tmp_path / "body.pth", pooling=32, foreign={"dataset": "voc", "task": "15-1"})


def test_a_half_done_step_is_known(tmp_path: Path):
    save_network(tmp_path / "step.pth", "", 0)
    checkpoint = load(tmp_path / "step.pth")
    checkpoint["trainer_state"]["finished"] = False
    save_checkpoint(tmp_path / "step.pth", checkpoint)
    assert not load_trained(tmp_path / "step.pth", pooling=32).finished
