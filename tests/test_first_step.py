"""A first step is trained once for all runs whose first step it is, and for no other."""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.workplace import Workplace
from utils.first_step import find, key_of, lend, remember

SHORT = ["--step", 0, "--epochs", 1, "--no-visualize"]


@pytest.fixture
def taught(workplace: Workplace) -> Workplace:
    """A folder with a finished first step of FT, named ft."""
    assert workplace.run(*SHORT, "--method", "FT", "--name", "ft") == 0
    return workplace


def shares(workplace: Workplace, name: str, *options: object) -> bool:
    """Whether a run called `name` takes over the first step of ft."""
    assert workplace.run(*SHORT, "--name", name, *options) == 0
    own, other = workplace.checkpoint(0, name=name), workplace.checkpoint(0, name="ft")
    return own.samefile(other)


@pytest.mark.parametrize("method", ["LWF", "ILT", "MiB", "PLOP", "FT"])
def test_methods_with_a_plain_first_step_share_it(taught: Workplace, method: str, capfd: pytest.CaptureFixture):
    assert shares(taught, "other", "--method", method)
    assert f"step 0 is that of {taught.checkpoint(0, name='ft')}" in capfd.readouterr().out
    # It is scored all the same.
    assert taught.results(name="other").read_bytes() == taught.results(name="ft").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        "--method RCIL",
        "--method LWF-MC",
        "--method EWC",
        "--method FT --lr 0.002",
        "--method FT --random_seed 7",
        "--method FT --batch_size 5",
        "--method FT --no-overlap",
        "--method FT --stem_activation --task 15-1 --norm_act abn",
        "--method FT --momentum 0.8",
        "--method FT --opt_level O1",
        "--method FT --crop_size 96",
        "--method FT --no-resume",
    ],
)
def test_whatever_changes_the_first_step_makes_another(taught: Workplace, options: str):
    assert not shares(taught, "other", *options.split())


def test_a_later_learning_rate_does_not_matter(taught: Workplace):
    # Both are typed for two steps; the first is the same.
    assert (
        taught.run("--step", 0, 1, "--epochs", 1, "--no-visualize", "--method", "FT", "--lr", 5e-4, 1e-5, "--name", "b")
        == 0
    )
    assert taught.checkpoint(0, name="b").samefile(taught.checkpoint(0, name="ft"))


def lends(workplace: Workplace, lender: str, *borrowers: str) -> list[bool]:
    """Whether the first step of a run of `lender` is taken over by each of `borrowers`: methods with options."""
    shared = []
    assert workplace.run(*SHORT, "--name", "ft", "--method", *lender.split()) == 0
    for number, borrower in enumerate(borrowers):
        shared.append(shares(workplace, f"other{number}", "--method", *borrower.split()))
    return shared


def test_a_first_step_that_leaves_importances_serves_what_needs_no_others(workplace: Workplace):
    needs_as_much = ["RW --reg_importance 500", "EWC --reg_no_normalize", "FT"]
    assert lends(workplace, "RW", *needs_as_much) == [True] * 3


@pytest.mark.parametrize(
    "lender, borrowers",
    [
        ("EWC", ["EWC --reg_alpha 0.5", "EWC --paper_exact", "RW", "PI"]),
        ("PI", ["PI --paper_exact", "RW"]),
        ("LWF-MC", ["EWC"]),
    ],
)
def test_a_first_step_that_leaves_less_or_others_is_made_anew(workplace: Workplace, lender: str, borrowers: list[str]):
    assert lends(workplace, lender, *borrowers) == [False] * len(borrowers)


def test_a_borrowed_first_step_is_built_upon(workplace: Workplace):
    assert lends(workplace, "RW", "MiB") == [True]
    assert workplace.run("--step", 1, "--epochs", 1, "--no-visualize", "--name", "other0", "--method", "MiB") == 0


def test_other_pictures_make_another(own_data: Workplace):
    assert own_data.run(*SHORT, "--method", "FT", "--name", "ft") == 0
    path = sorted((own_data.data / "JPEGImages").iterdir())[0]
    os.utime(path, ns=(0, 0))
    assert not shares(own_data, "other", "--method", "FT")


def test_a_later_step_never_writes_into_the_file_of_another_run(taught: Workplace):
    assert shares(taught, "other", "--method", "MiB")
    before = taught.checkpoint(0, name="ft").read_bytes()
    # Anew: its own file, by its own name.
    assert taught.run(*SHORT, "--method", "MiB", "--name", "other", "--no-resume", "--lr", 0.01) == 0
    assert taught.checkpoint(0, name="ft").read_bytes() == before
    assert taught.checkpoint(0, name="other").read_bytes() != before


def test_a_key_that_names_another_file_is_not_believed(taught: Workplace):
    checkpoint = torch.load(taught.checkpoint(0, name="ft"), weights_only=True)
    checkpoint["trainer_state"]["first_step"] = ["another"]
    torch.save(checkpoint, taught.checkpoint(0, name="ft"))
    assert not shares(taught, "other", "--method", "FT")


def test_a_damaged_first_step_of_another_run_is_not_taken_over(taught: Workplace, capfd: pytest.CaptureFixture):
    path = taught.checkpoint(0, name="ft")
    path.write_bytes(path.read_bytes()[:1000])
    assert not shares(taught, "other", "--method", "FT")
    assert f"step 0 is trained anew: {path}" in "".join(capfd.readouterr())


def test_what_is_remembered_is_found_while_it_is_there(tmp_path: Path):
    path = tmp_path / "a.pth"
    path.write_text("weights")
    remember(tmp_path, "key", path)
    assert find(tmp_path, "key") == path and find(tmp_path, "other") is None
    lend(path, tmp_path / "sub" / "b.pth")
    assert (tmp_path / "sub" / "b.pth").read_text() == "weights"
    path.unlink()
    assert find(tmp_path, "key") is None
    for text in ("", "[]", json.dumps({"checkpoint": 3})):
        (tmp_path / "first_steps" / "key.json").write_text(text)
        assert find(tmp_path, "key") is None


def test_where_the_disk_has_no_links_a_copy_is_lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("weights")
    lend(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "weights" and not (tmp_path / "b").samefile(tmp_path / "a")


def test_a_key_does_not_depend_on_the_order_of_its_parts():
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1}) != key_of({"a": 1, "b": [3, 2]})
