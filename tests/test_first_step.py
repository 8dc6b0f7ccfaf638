"""`--step_ckpt`: a first step that another run trained is scored and built upon, where that is asked for."""

import pytest
import torch

from tests.workplace import Workplace, assert_same, load

NAMED = ["--name", "other", "--no_visualize"]


def test_a_given_first_step_is_scored_and_built_upon_and_not_trained(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
):
    first = trained.checkpoint(0)
    before = first.read_bytes()
    options = [*NAMED, "--step", 0, 1, "--step_ckpt", first]
    assert workplace.run(*options) == 0
    assert not workplace.checkpoint(0, name="other").exists() and first.read_bytes() == before
    assert not any(tag.startswith("loss_step0/") for tag in workplace.scalars(name="other"))
    table = workplace.results(name="other")
    assert table.read_bytes() == trained.results().read_bytes()
    assert_same(load(workplace.checkpoint(1, name="other")), load(trained.checkpoint(1)))
    # The same command again trains nothing, and --test repeats the figures.
    written = workplace.files()[workplace.checkpoint(1, name="other")]
    monkeypatch.setattr("train.Objective.forward", None)
    for more in ([], ["--test"]):
        assert workplace.run(*options, *more) == 0
        assert table.read_bytes() == trained.results().read_bytes()
    assert workplace.files()[workplace.checkpoint(1, name="other")] == written


def test_a_first_step_is_tested_by_its_file_and_the_next_built_upon_it(trained: Workplace, workplace: Workplace):
    first = trained.checkpoint(0)
    assert workplace.run(*NAMED, "--step", 0, "--ckpt", first, "--test", "--batch_size", 1) == 0
    assert workplace.run(*NAMED, "--step", 1, "--step_ckpt", first) == 0
    assert len(workplace.results(name="other").read_text().splitlines()) == 2
    assert not workplace.checkpoint(0, name="other").exists()
    assert_same(load(workplace.checkpoint(1, name="other")), load(trained.checkpoint(1)))


def test_a_second_step_is_not_taken_for_one_of_another_first_step(
    trained: Workplace, workplace: Workplace, capfd: pytest.CaptureFixture
):
    """Whether it is finished or not."""
    path = workplace.folder / "first.pth"
    checkpoint = load(trained.checkpoint(0))
    checkpoint["model_state"]["classifiers.0.bias"] += 1
    torch.save(checkpoint, path)
    workplace.take_checkpoints(trained, 1)
    half = load(trained.checkpoint(1))
    half["trainer_state"]["finished"] = False
    for content in (load(trained.checkpoint(1)), half):
        torch.save(content, workplace.checkpoint(1))
        steps = [0, 1] if content is half else [1]
        assert workplace.run("--step", *steps, "--step_ckpt", path, "--no_visualize") == 2
        error = capfd.readouterr().err
        assert f"{workplace.checkpoint(1)} was built on another step 0 than {path} holds now; " in error
        assert error.count("\n") == 1


def test_nothing_is_shared_unless_it_is_asked_for(trained: Workplace, workplace: Workplace):
    """Two runs of one folder, and of the same first step, each train it."""
    workplace.take_checkpoints(trained, 0)
    short = ["--step", 0, "--epochs", 1, "--crop_size", 32]
    assert workplace.run(*NAMED, *short) == 0
    assert workplace.run(*NAMED, *short, "--name", "third") == 0
    one, other = (workplace.checkpoint(0, name=name) for name in ("other", "third"))
    assert one.stat().st_nlink == other.stat().st_nlink == 1
    assert_same(load(one), load(other))
    assert all(any(tag.startswith("loss_step0/") for tag in workplace.scalars(name=n)) for n in ("other", "third"))
