"""Checkpoints of the code before schema 2, under the authors' names of weights: resumed, tested, built upon, converted.

old_checkpoints.tar.xz holds steps of 15-1 on the data of the fixture `shapes`, made by that code with
`run.py --backbone resnet26 --width 4 --head_channels 4 --no_pretrained --overlap --crop_size 32 --batch_size 4
--epochs 2 --lr 0.0005 --print_interval 1 --num_workers 0`: RCIL with two branches after step 0 (--momentum 0), in the
second epoch of step 1, and after it; RW (--momentum 0), whose files carry importances, after step 0 and in step 1.
"""

import shutil
from pathlib import Path

import pytest
import torch

from checkpoints import read_checkpoint
from metrics.results import read_rows
from modules.authors_names import from_authors
from tests.workplace import Workplace, assert_same, load
from tools.convert import main as convert
from trained import load_trained
from utils.checkpoint import save_checkpoint

RCIL, RW = "--name rcil --method RCIL", "--name rw --method RW --momentum 0"


class Old(Workplace):
    """Runs with the options of then."""

    def run(self, line: str, *more: object) -> int:
        """Of `line` with `more`; the exit code."""
        small = "--backbone resnet26 --width 4 --head_channels 4 --crop_size 32 --lr 0.0005 --no_visualize"
        return super().run(*f"{small} {line}".split(), *more)

    def take(self, old: Path, file: str, step: int) -> Path:
        """Put a file where the run has its checkpoint of `step`."""
        path = self.checkpoint(step, name=file.split("_")[0])
        path.parent.mkdir(exist_ok=True)
        return Path(shutil.copy(old / file, path))


@pytest.fixture
def place(workplace: Workplace) -> Old:
    return Old(workplace.folder, workplace.data)


def assert_same_weights(path: Path, old: Path) -> None:
    """Equal bit for bit on the machine that made the old files."""
    found, expected = load(path)["model_state"], from_authors(load(old)["model_state"])
    torch.testing.assert_close(dict(found), expected)


def test_a_half_done_step_is_resumed_to_the_end_that_it_had(place: Old, old_checkpoints: Path):
    place.take(old_checkpoints, "rcil_0.pth", 0)
    path = place.take(old_checkpoints, "rcil_1_half.pth", 1)
    assert place.run(RCIL, "--step", 1) == 0
    assert load(path)["schema"] == 2 and load(path)["trainer_state"]["finished"]
    assert_same_weights(path, old_checkpoints / "rcil_1.pth")
    row = place.results(name="rcil").read_bytes()
    # The old file and the new one are the same network to everything that reads one.
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    networks = [load_trained(file, pooling=32) for file in (path, old_checkpoints / "rcil_1.pth")]
    assert networks[0].identity == networks[1].identity and networks[1].class_names[-1] == "pottedplant"
    with torch.no_grad():
        torch.testing.assert_close(*(trained.network(images).logits for trained in networks))
    place.results(name="rcil").unlink()
    assert place.run(RCIL, "--step", 1, "--test", "--ckpt", old_checkpoints / "rcil_1.pth") == 0
    assert place.results(name="rcil").read_bytes() == row


def test_a_step_built_on_an_old_one_is_that_built_on_the_same_weights_in_a_new_one(place: Old, old_checkpoints: Path):
    old = place.take(old_checkpoints, "rcil_0.pth", 0)
    assert place.run(RCIL, "--step", 1) == 0
    built = load(place.checkpoint(1, name="rcil"))["model_state"]
    save_checkpoint(old, read_checkpoint(old, "")[0])
    place.checkpoint(1, name="rcil").unlink()
    assert place.run(RCIL, "--step", 1) == 0
    assert_same(dict(load(place.checkpoint(1, name="rcil"))["model_state"]), dict(built))
    # Merged and frozen weights are built upon, too.
    assert place.run("--name third", "--step", 2, "--step_ckpt", old_checkpoints / "rcil_1.pth") == 0


def test_a_finished_run_is_left_alone_and_scored(place: Old, old_checkpoints: Path, monkeypatch: pytest.MonkeyPatch):
    taken = [place.take(old_checkpoints, f"rcil_{step}.pth", step) for step in (0, 1)]
    before = [path.read_bytes() for path in taken]
    monkeypatch.setattr("train.Objective.forward", None)
    assert place.run(RCIL, "--step", 1) == 0
    assert place.run(RCIL, "--step", 0, "--momentum", 0) == 0
    assert [row.step for row in read_rows(place.results(name="rcil"))] == [0, 1]
    assert place.run(RCIL, "--step", 0, 1, "--test") == 0
    assert [path.read_bytes() for path in taken] == before


def test_importances_are_inherited_and_resumed(place: Old, old_checkpoints: Path):
    place.take(old_checkpoints, "rw_0.pth", 0)
    path = place.take(old_checkpoints, "rw_1_half.pth", 1)
    upgraded, raw = read_checkpoint(path, "")
    state, kept = upgraded["method_state"], raw["trainer_state"]["method"]
    for ours, then in (("fisher", "fisher"), ("grown", "grown"), ("snapshot", "before")):
        named = {name.removeprefix(f"{ours}."): t for name, t in state.items() if name.startswith(f"{ours}.")}
        assert_same(named, {name.replace(".", "/"): t for name, t in kept[then].items()})
    assert state["_extra_state"] == {"count": kept["count"]}
    assert place.run(RW, "--step", 1) == 0
    penalties = [value for _, value in place.scalars(name="rw")["loss_step1/penalty"]]
    assert len(penalties) == 1 and penalties[0] > 0  # of the only iteration that was left
    anew = load(path)["method_state"]
    assert {name.split(".")[0] for name in anew} == {"fisher", "score", "_extra_state"}
    assert anew["_extra_state"] == {"count": 4}
    assert place.run(RW, "--step", 2) == 0
    assert place.run(RW, "--step", 0, "--test") == 0


def test_another_step_before_is_noticed(place: Old, old_checkpoints: Path, capfd: pytest.CaptureFixture):
    first = place.take(old_checkpoints, "rcil_0.pth", 0)
    content = load(first)
    content["model_state"]["module.cls.0.bias"] += 1
    save_checkpoint(first, content)
    for file, steps in (("rcil_1_half.pth", [1]), ("rcil_1.pth", [1]), ("rcil_1.pth", [0, 1])):
        path = place.take(old_checkpoints, file, 1)
        assert place.run(RCIL, "--step", *steps, "--step_ckpt", first) == 2
        error = capfd.readouterr().err
        assert f"{path} was built on another step 0 than {first} holds now" in error and error.count("\n") == 1


def test_conversion_gives_the_weights_as_they_lay_there(tmp_path: Path, old_checkpoints: Path):
    for name in ("rcil_0", "rcil_1"):
        source, there, back = old_checkpoints / f"{name}.pth", tmp_path / f"{name}.pth", tmp_path / f"{name}_ours.pth"
        assert convert(["--ckpt", str(source), "--to", "authors", "--out", str(there)]) == 0
        assert_same(load(there)["model_state"], dict(load(source)["model_state"]))
        words = ["--to", "ours", "--dataset", "voc", "--task", "15-1", "--scenario", "overlapped", "--out"]
        assert convert(["--ckpt", str(there), *words, str(back)]) == 0
        found, expected = (read_checkpoint(path, "")[0]["trainer_state"]["identity"] for path in (back, source))
        assert found == expected


def test_importances_are_not_converted(tmp_path: Path, old_checkpoints: Path, capsys: pytest.CaptureFixture):
    words = ["--ckpt", str(old_checkpoints / "rw_0.pth"), "--to", "authors", "--out", str(tmp_path / "a.pth")]
    assert convert(words) == 2
    error = capsys.readouterr().err
    assert "rw_0.pth carries the fisher of EWC, RW or PI" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
