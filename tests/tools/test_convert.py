"""Checkpoints there and back: the same bits, the same figures, and one line for what is something else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modules.authors_names import PREFIX, to_authors
from tests.helpers import largest_difference, small_network
from tests.networks import save_network
from tests.workplace import Workplace, assert_same, load
from tools.convert import ENTRIES, main
from trained import load_trained
from utils.checkpoint import load_checkpoint, save_checkpoint

OURS = ["--to", "ours", "--dataset", "voc", "--task", "15-1", "--scenario", "overlapped"]


def convert(source: Path, out: Path, *more: object) -> Path:
    assert main(["--ckpt", str(source), "--out", str(out), *map(str, more)]) == 0
    return out


def authors_file(
    path: Path,
    *,
    prefix: bool = True,
    counted: bool = True,
    form: str = "",
    regularizer: dict | None = None,
    **network: object,
) -> Path:
    """A checkpoint as another code base leaves it."""
    made = small_network(**network)
    if form == "frozen":
        made.freeze_merged_(small_network(**network))
    weights = to_authors(made.state_dict())
    if counted:
        weights["module.body.mod1.bn1.num_batches_tracked"] = torch.tensor(7)
    if not prefix:
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.randn(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    entries = {"epoch": 30, "model_state": weights, "optimizer_state": optimizer, "scheduler_state": {"last_epoch": 9}}
    save_checkpoint(path, entries | {"best_score": 0.5, "trainer_state": {"regularizer": regularizer}})
    return path


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({"branches": 2, "classes_per_head": (16,)}, "step 0 of voc: 16 classes, by step 16"),
        ({"branches": 1, "classes_per_head": (16, 1)}, "step 1 of voc: 17 classes, by step 16 + 1"),
        ({"branches": 1, "classes_per_head": (16,), "prefix": False}, "one branch"),
        ({"branches": 2, "classes_per_head": (16,), "counted": False}, "two branches, not merged yet"),
        ({"branches": 2, "classes_per_head": (16, 1), "form": "frozen"}, "one of them merged and frozen"),
    ],
    ids=["RCIL", "PLOP, step 1", "no prefix", "nothing counted", "RCIL, step 1"],
)
def test_a_file_of_the_authors_there_and_back_is_the_same_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture, network: dict, found: str
):
    source = authors_file(tmp_path / "authors.pth", **network)
    ours = convert(source, tmp_path / "ours.pth", *OURS)
    said = capsys.readouterr().out
    assert found in said and "resnet26, width 8, head of 16 channels" in said and "optimizer_state" in said
    assert {name.split(".")[0] for name in load(ours)["model_state"]} == {"body", "head", "classifiers"}
    back = load(convert(ours, tmp_path / "back.pth", "--to", "authors"))
    assert_same(back, load(source))
    assert list(back) == list(load(source)) and list(back["model_state"]) == list(load(source)["model_state"])
    # As it was converted before our files had a schema: with the authors' names.
    old = load(source) | {"model_state": None}
    state = load(ours)["trainer_state"] | {"foreign": old}
    save_checkpoint(tmp_path / "old.pth", {"model_state": load(source)["model_state"], "trainer_state": state})
    assert_same(load(convert(tmp_path / "old.pth", tmp_path / "back2.pth", "--to", "authors")), load(source))
    trained = load_trained(ours, pooling=32)  # with nothing said about it
    assert trained.dataset == "voc" and trained.class_names[:2] == ("background", "aeroplane")


def test_ours_there_and_back_gives_the_same_figures(
    trained: Workplace, workplace: Workplace, capsys: pytest.CaptureFixture
):
    source = trained.checkpoint(1)
    there = convert(source, workplace.folder / "authors.pth", "--to", "authors")
    assert tuple(load(there)) == ENTRIES and load(there)["trainer_state"] == {"regularizer": None}
    assert all(name.startswith(PREFIX) for name in load(there)["model_state"])
    assert "two branches, one of them merged and frozen" in capsys.readouterr().out
    workplace.checkpoint(1).parent.mkdir()
    back = convert(there, workplace.checkpoint(1), *OURS)
    assert_same(load(back)["model_state"], dict(load(source)["model_state"]))
    assert_same(load(back)["trainer_state"]["identity"], load(source)["trainer_state"]["identity"])
    assert workplace.run("--step", 1, "--test", "--no_visualize") == 0
    assert workplace.results().read_text().splitlines()[-1] == trained.results().read_text().splitlines()[-1]
    assert workplace.run("--step", 1, "--test", "--no_overlap") == 2
    assert "it has scenario overlapped, this run disjoint" in capsys.readouterr().err


def test_a_converted_first_step_can_be_built_upon(trained: Workplace, workplace: Workplace):
    """What nobody says of it is not claimed."""
    there = convert(trained.checkpoint(0), workplace.folder / "authors.pth", "--to", "authors")
    ours = convert(there, workplace.folder / "ours.pth", *OURS[:-2])
    assert "scenario" not in load(ours)["trainer_state"]["identity"]
    assert workplace.run("--step", 0, "--test", "--no_visualize", "--ckpt", ours, "--no_overlap") == 0
    workplace.results().unlink()
    assert workplace.run("--step", 1, "--step_ckpt", ours, "--no_visualize") == 0
    assert workplace.results().read_text().splitlines()[-1] == trained.results().read_text().splitlines()[-1]


def test_a_network_that_learns_domains_needs_its_step(tmp_path: Path, capsys: pytest.CaptureFixture):
    save_network(tmp_path / "a.pth", "--dataset cityscapes_domain --task 11-5", 1)
    there = convert(tmp_path / "a.pth", tmp_path / "authors.pth", "--to", "authors")
    words = ["--to", "ours", "--dataset", "cityscapes_domain", "--task", "11-5"]
    for step, said in (([], "give --step N"), (["--step", "7"], "--step 7: it is of step 0 or 1 or 2")):
        assert main(["--ckpt", str(there), "--out", str(tmp_path / "b.pth"), *words, *step]) == 2
        assert said in capsys.readouterr().err
    back = convert(there, tmp_path / "b.pth", *words, "--step", 1)
    assert_same(load(back)["trainer_state"]["identity"], load(tmp_path / "a.pth")["trainer_state"]["identity"])


def test_a_score_that_is_a_number_of_numpy_comes_back(tmp_path: Path):
    source = authors_file(tmp_path / "authors.pth", classes_per_head=(16,))
    for score in (np.float64(0.25), np.float32(0.25), np.int64(2)):
        torch.save(load(source) | {"best_score": score}, tmp_path / "numpy.pth")
        ours = convert(tmp_path / "numpy.pth", tmp_path / "ours.pth", *OURS, "--overwrite")
        back = load_checkpoint(convert(ours, tmp_path / "back.pth", "--to", "authors", "--overwrite"), "")
        assert back["best_score"] == score and type(back["best_score"]) is type(score)


def test_a_merged_network_does_not_say_whether_it_had_two_branches(tmp_path: Path, capsys: pytest.CaptureFixture):
    network = small_network(branches=2, classes_per_head=(16,)).eval()
    merged = weights(tmp_path / "a.pth", to_authors(network.merged().state_dict()))
    assert main(["--ckpt", str(merged), "--out", str(tmp_path / "b.pth"), *OURS]) == 2
    assert "give --no_stem_activation for a network of RCIL" in capsys.readouterr().err
    ours = convert(merged, tmp_path / "b.pth", *OURS, "--no_stem_activation")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(images).logits, load_trained(ours, pooling=32).network(images).logits
    assert largest_difference(found, expected) < 1e-4


FIRST = {"classes_per_head": (16,)}
AUTHORS = ["--to", "authors"]


@pytest.mark.parametrize(
    ("make", "more", "said"),
    [
        (lambda f, t: t.checkpoint(1), OURS, "is one of ours already: --to authors is the other way"),
        (lambda f, t: authors_file(f / "a.pth", **FIRST), AUTHORS, "is none of ours: --to ours"),
        (lambda f, t: authors_file(f / "a.pth", classes_per_head=(11,)), OURS, "it has classifiers of [11] classes"),
        (lambda f, t: authors_file(f / "a.pth", **FIRST), ["--to", "ours"], "give --dataset and --task"),
        (lambda f, t: authors_file(f / "a.pth", **FIRST), [*OURS[:-1], "mixed"], "--scenario mixed"),
        (lambda f, t: authors_file(f / "out.pth", **FIRST), OURS, "is the checkpoint itself"),
        (lambda f, t: authors_file(f / "a.pth", **FIRST, regularizer={"fisher": {}}), OURS, "carries the regularizer"),
        (lambda f, t: weights(f / "a.pth", {"module.conv1.weight": torch.zeros(1)}), OURS, "no part of this network"),
        (lambda f, t: weights(f / "a.pth", None), OURS, "is no checkpoint of a step"),
        (lambda f, t: f / "none.pth", OURS, "is missing"),
        (lambda f, t: twice(f / "a.pth"), OURS, "cls.0.bias twice, with and without the prefix"),
        (lambda f, t: date_of_numpy(f / "a.pth"), OURS, "is damaged, or holds more than tensors"),
        (lambda f, t: t.checkpoint(1), [*AUTHORS, "--scenario", "disjoint"], "--scenario: "),
        (lambda f, t: t.checkpoint(1), [*AUTHORS, "--label_protocol", "mib"], "--label_protocol: "),
        (lambda f, t: changed(f / "a.pth", t, {"foreign": "x"}), AUTHORS, "was changed: what is kept"),
        (lambda f, t: changed(f / "a.pth", t, {"finished": False}), AUTHORS, "is a half-done step 1"),
        (lambda f, t: of_method(f / "a.pth", "EWC", "fisher"), AUTHORS, "carries the fisher of EWC, RW or PI"),
        (lambda f, t: of_method(f / "a.pth", "PI", "path_score"), AUTHORS, "carries the path_score of EWC, RW or PI"),
        (lambda f, t: of_method(f / "a.pth", "FT --head concat", ""), AUTHORS, "no head of this kind, --head concat"),
        (
            lambda f, t: of_method(f / "a.pth", "FT --backbone resnet18", ""),
            AUTHORS,
            "no body of this kind, only ResNet",
        ),
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
    words = ["--ckpt", str(trained.checkpoint(1)), "--out", str(out), "--to", "authors"]
    assert main(words) == 2 and out.read_text() == "mine"
    assert "give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0 and load(out)["epoch"] == 2


def weights(path: Path, state: dict | None) -> Path:
    torch.save({"model_state": state}, path)
    return path


def twice(path: Path) -> Path:
    state = to_authors(small_network(classes_per_head=(16,)).state_dict())
    return weights(path, state | {"cls.0.bias": state["module.cls.0.bias"] + 1})


def changed(path: Path, trained: Workplace, entries: dict) -> Path:
    """Step 1, whose trainer_state has these `entries`."""
    checkpoint = load(trained.checkpoint(1))
    checkpoint["trainer_state"] |= entries
    save_checkpoint(path, checkpoint)
    return path


def of_method(path: Path, line: str, entry: str) -> Path:
    """A first step that leaves an importance called `entry`, if anything."""
    save_network(path, f"--method {line}", 0)
    left = {f"{entry}.{name}": torch.ones(3) for name in ("head/norm/bias", "head/norm/weight") if entry}
    save_checkpoint(path, load(path) | {"method_state": left})
    return path


def date_of_numpy(path: Path) -> Path:
    """A checkpoint with a date of numpy for its score."""
    state = to_authors(small_network(classes_per_head=(16,)).state_dict())
    torch.save({"model_state": state, "best_score": np.datetime64("2026-01-31")}, path)
    return path
