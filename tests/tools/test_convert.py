"""Checkpoints there and back: the same bits, the same figures, and one line for what is something else."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from modules.public_names import PREFIX, to_public
from tests.helpers import largest_difference, small_network
from tests.networks import save_network
from tests.workplace import Workplace, assert_same, load
from tools.convert import ENTRIES, main
from trained import load_trained
from utils.checkpoint import save_checkpoint

OURS = ["--to", "ours", "--dataset", "voc", "--task", "15-1", "--scenario", "overlapped"]


def convert(source: Path, out: Path, *more: object) -> Path:
    assert main(["--ckpt", str(source), "--out", str(out), *map(str, more)]) == 0
    return out


def theirs(path: Path, *, prefix: bool = True, counted: bool = True, **network: object) -> Path:
    """A checkpoint as another code base leaves it."""
    weights = to_public(small_network(**network).state_dict())
    if counted:
        weights["module.body.mod1.bn1.num_batches_tracked"] = torch.tensor(7)
    if not prefix:
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.randn(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    entries = {"epoch": 30, "model_state": weights, "optimizer_state": optimizer, "scheduler_state": {"last_epoch": 9}}
    save_checkpoint(path, entries | {"best_score": 0.5, "trainer_state": {"regularizer": None}})
    return path


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({"branches": 2, "classes_per_head": (16,)}, "step 0 of voc: 16 classes, by step 16"),
        ({"branches": 1, "classes_per_head": (16, 1)}, "step 1 of voc: 17 classes, by step 16 + 1"),
        ({"branches": 1, "classes_per_head": (16,), "prefix": False}, "one branch"),
        ({"branches": 2, "classes_per_head": (16,), "counted": False}, "two branches, not merged yet"),
    ],
    ids=["RCIL", "PLOP, step 1", "no prefix", "nothing counted"],
)
def test_theirs_there_and_back_is_the_same_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture, network: dict, found: str
):
    source = theirs(tmp_path / "theirs.pth", **network)
    ours = convert(source, tmp_path / "ours.pth", *OURS)
    said = capsys.readouterr().out
    assert found in said and "resnet26, width 8, head of 16 channels" in said and "optimizer_state" in said
    back = load(convert(ours, tmp_path / "back.pth", "--to", "theirs"))
    assert_same(back, load(source))
    assert list(back) == list(load(source)) and list(back["model_state"]) == list(load(source)["model_state"])
    trained = load_trained(ours, pooling=32)  # with nothing said about it
    assert trained.dataset == "voc" and trained.class_names[:2] == ("background", "aeroplane")


def test_ours_there_and_back_gives_the_same_figures(
    trained: Workplace, workplace: Workplace, capsys: pytest.CaptureFixture
):
    source = trained.checkpoint(1)
    there = convert(source, workplace.folder / "theirs.pth", "--to", "theirs")
    assert tuple(load(there)) == ENTRIES and load(there)["trainer_state"] is None
    assert "two branches, one of them merged and frozen" in capsys.readouterr().out
    workplace.checkpoint(1).parent.mkdir()
    back = convert(there, workplace.checkpoint(1), *OURS)
    assert_same(load(back)["model_state"], load(source)["model_state"])
    assert_same(load(back)["trainer_state"]["identity"], load(source)["trainer_state"]["identity"])
    assert workplace.run("--step", 1, "--test", "--no-visualize") == 0
    assert workplace.results().read_text().splitlines()[-1] == trained.results().read_text().splitlines()[-1]
    assert workplace.run("--step", 1, "--test", "--no-overlap") == 2
    assert "it has scenario overlapped, this run disjoint" in capsys.readouterr().err


def test_a_first_step_of_theirs_can_be_built_upon(trained: Workplace, workplace: Workplace):
    there = convert(trained.checkpoint(0), workplace.folder / "theirs.pth", "--to", "theirs")
    ours = convert(there, workplace.folder / "ours.pth", *OURS)
    assert workplace.run("--step", 1, "--step_ckpt", ours, "--no-visualize") == 0
    assert workplace.results().read_text().splitlines()[-1] == trained.results().read_text().splitlines()[-1]


def test_what_nobody_says_of_a_file_is_not_claimed(trained: Workplace, workplace: Workplace):
    there = convert(trained.checkpoint(0), workplace.folder / "theirs.pth", "--to", "theirs")
    ours = convert(there, workplace.folder / "ours.pth", *OURS[:-2])
    assert "scenario" not in load(ours)["trainer_state"]["identity"]
    for scenario in ("overlapped", "disjoint"):
        words = ["--scenario", scenario, "--no-overlap"] if scenario == "disjoint" else []
        assert workplace.run("--step", 0, "--test", "--no-visualize", "--ckpt", ours, *words) == 0


def test_a_network_that_learns_domains_needs_its_step(tmp_path: Path, capsys: pytest.CaptureFixture):
    save_network(tmp_path / "a.pth", "--dataset cityscapes_domain --task 11-5", 1)
    there = convert(tmp_path / "a.pth", tmp_path / "theirs.pth", "--to", "theirs")
    words = ["--to", "ours", "--dataset", "cityscapes_domain", "--task", "11-5"]
    for step, said in (([], "give --step N"), (["--step", "7"], "--step 7: it is of step 0 or 1 or 2")):
        assert main(["--ckpt", str(there), "--out", str(tmp_path / "b.pth"), *words, *step]) == 2
        assert said in capsys.readouterr().err
    back = convert(there, tmp_path / "b.pth", *words, "--step", 1)
    assert_same(load(back)["trainer_state"]["identity"], load(tmp_path / "a.pth")["trainer_state"]["identity"])


def test_a_score_that_is_a_number_of_numpy_is_read_as_a_plain_one(tmp_path: Path):
    source = theirs(tmp_path / "theirs.pth", classes_per_head=(16,))
    for score in (np.float64(0.25), np.float32(0.25), np.int64(2)):
        torch.save(load(source) | {"best_score": score}, tmp_path / "numpy.pth")
        ours = convert(tmp_path / "numpy.pth", tmp_path / "ours.pth", *OURS, "--overwrite")
        back = load(convert(ours, tmp_path / "back.pth", "--to", "theirs", "--overwrite"))
        assert back["best_score"] == score and type(back["best_score"]) in (int, float)


def test_a_merged_network_does_not_say_whether_it_had_two_branches(tmp_path: Path, capsys: pytest.CaptureFixture):
    network = small_network(branches=2, classes_per_head=(16,)).eval()
    merged = weights(tmp_path / "a.pth", to_public(network.merged().state_dict()))
    assert main(["--ckpt", str(merged), "--out", str(tmp_path / "b.pth"), *OURS]) == 2
    assert "give --no-stem_activation for a network of RCIL" in capsys.readouterr().err
    ours = convert(merged, tmp_path / "b.pth", *OURS, "--no-stem_activation")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(images).logits, load_trained(ours, pooling=32).network(images).logits
    assert largest_difference(found, expected) < 1e-4


@pytest.mark.parametrize(
    ("make", "more", "said"),
    [
        (lambda f, t: t.checkpoint(1), OURS, "is one of ours already: --to theirs is the other way"),
        (lambda f, t: theirs(f / "a.pth", classes_per_head=(16,)), ["--to", "theirs"], "is none of ours: --to ours"),
        (lambda f, t: theirs(f / "a.pth", classes_per_head=(11,)), OURS, "it has classifiers of [11] classes"),
        (lambda f, t: theirs(f / "a.pth", classes_per_head=(16,)), ["--to", "ours"], "give --dataset and --task"),
        (lambda f, t: theirs(f / "a.pth", classes_per_head=(16,)), [*OURS[:-1], "mixed"], "--scenario mixed"),
        (lambda f, t: weights(f / "a.pth", {"module.conv1.weight": torch.zeros(1)}), OURS, "its weights are not of a"),
        (lambda f, t: weights(f / "a.pth", None), OURS, "is no checkpoint of a step"),
        (lambda f, t: f / "none.pth", OURS, "is missing"),
        (lambda f, t: twice(f / "a.pth"), OURS, "cls.0.bias twice, with and without the prefix"),
        (lambda f, t: changed(f / "a.pth", t), ["--to", "theirs"], "was changed: what is kept"),
        (lambda f, t: number_that_is_none(f / "a.pth"), OURS, "cannot be read as a checkpoint"),
        (lambda f, t: t.checkpoint(1), ["--to", "theirs", "--scenario", "disjoint"], "--scenario: "),
        (lambda f, t: t.checkpoint(1), ["--to", "theirs", "--label_protocol", "mib"], "--label_protocol: "),
        (lambda f, t: half_done(f / "a.pth", t), ["--to", "theirs"], "is a half-done step 1"),
        (lambda f, t: theirs(f / "out.pth", classes_per_head=(16,)), OURS, "is the checkpoint itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_converted_is_one_line(
    trained: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture, make, more: list[str], said: str
):
    source = make(tmp_path, trained)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["--ckpt", str(source), "--out", str(tmp_path / "out.pth"), *more]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith("error: ") and shown.err.count("\n") == 1 and said in shown.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_is_there_is_kept_unless_it_is_to_go(
    trained: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = tmp_path / "out.pth"
    out.write_text("mine")
    words = ["--ckpt", str(trained.checkpoint(1)), "--out", str(out), "--to", "theirs"]
    assert main(words) == 2 and out.read_text() == "mine"
    assert "give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0 and load(out)["epoch"] == 2


def weights(path: Path, state: dict | None) -> Path:
    torch.save({"model_state": state}, path)
    return path


def half_done(path: Path, trained: Workplace) -> Path:
    shutil.copy(trained.checkpoint(1), path)
    checkpoint = load(path)
    checkpoint["trainer_state"]["finished"] = False
    save_checkpoint(path, checkpoint)
    return path


def twice(path: Path) -> Path:
    state = to_public(small_network(classes_per_head=(16,)).state_dict())
    return weights(path, state | {"cls.0.bias": state["module.cls.0.bias"] + 1})


def changed(path: Path, trained: Workplace) -> Path:
    checkpoint = load(trained.checkpoint(1))
    checkpoint["trainer_state"]["foreign"] = "x"
    save_checkpoint(path, checkpoint)
    return path


def number_that_is_none(path: Path) -> Path:
    """A checkpoint with a date of numpy for its score."""
    state = to_public(small_network(classes_per_head=(16,)).state_dict())
    torch.save({"model_state": state, "best_score": np.datetime64("2026-01-31")}, path)
    return path
