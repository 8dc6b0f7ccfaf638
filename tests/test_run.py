"""Whole runs: what they leave behind, what they resume from, and that the figures can be had again."""

import csv
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from checkpoints import CheckpointStore
from metrics.pace import Position
from metrics.pictures import read_history
from metrics.report import Reporter
from metrics.results import read_journal, read_rows
from modules.authors_names import PREFIX, to_authors
from tasks import Step
from tests.helpers import task_of
from tests.workplace import StopAt, Workplace, assert_same, load

KEYS = {"schema", "model_state", "method_state", "optimizer_state", "scheduler_state", "epoch", "best_score"}
TASK = task_of("voc", "15-1")


def test_a_run_leaves_checkpoints(trained: Workplace):
    for step in (0, 1):
        checkpoint = load(trained.checkpoint(step))
        assert checkpoint.keys() == KEYS | {"trainer_state"} and checkpoint["schema"] == 2
        assert checkpoint["epoch"] == 2 and 0 < checkpoint["best_score"] <= 1
        assert checkpoint["trainer_state"]["finished"]
        names = checkpoint["model_state"].keys()
        assert {name.split(".")[0] for name in names} == {"body", "head", "classifiers"}
        assert ("body.layer2.0.conv2.conv.bias" in names) == (step == 1)
        assert ("head.atrous.3.conv.bias" in names) == (step == 1)
        assert f"classifiers.{step}.weight" in names and f"classifiers.{step + 1}.weight" not in names
    names = {path.name for path in trained.checkpoint(0).parent.iterdir()}
    assert names == {"15-1-voc_tiny_0.pth", "15-1-voc_tiny_1.pth", ".15-1-voc_tiny.lock"}


def test_a_run_leaves_a_row_a_step(trained: Workplace):
    rows = list(csv.reader(trained.results().read_text().splitlines()))
    assert [row[0] for row in rows] == ["0", "1"]
    for row in rows:
        seen = TASK.step(int(row[0])).num_seen
        assert len(row) == 1 + 21 + 1
        assert all(field == "X" or 0 <= float(field) <= 1 for field in [*row[1 : 1 + seen], row[-1]])
        assert row[1 + seen : -1] == ["x"] * (21 - seen)


def test_a_run_leaves_tensorboard_and_pictures(trained: Workplace):
    shown = trained.scalars()
    losses = {0: {"ce", "total"}, 1: {"ce", "kd", "cube_spatial", "cube_channel", "total"}}
    for step, names in losses.items():
        iterations = len(shown[f"loss_step{step}/ce"])
        assert {tag for tag in shown if tag.startswith(f"loss_step{step}/")} == {f"loss_step{step}/{n}" for n in names}
        assert iterations == {0: 2 * (47 // 4), 1: 2 * (9 // 4)}[step]
        rates = [value for _, value in shown[f"learning_rate/step{step}"]]
        assert len(rates) == iterations and rates == sorted(rates, reverse=True) and rates[-1] == 0
        assert shown[f"validation_step{step}/mIoU"][-1][0] == 2
    rows = list(csv.reader(trained.results().read_text().splitlines()))
    assert shown["test/mIoU"] == [(int(row[0]), pytest.approx(float(row[-1]))) for row in rows]
    images = EventAccumulator(str(trained.logs())).Reload().Tags()["images"]
    assert {"test/confusion", "samples"} <= set(images)
    for name in ("samples_step0", "samples_step1", "strip", "miou"):
        with Image.open(trained.logs() / "pictures" / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_the_same_images_are_drawn_after_each_step_and_show_every_class(trained: Workplace):
    histories = read_history(trained.logs() / "pictures" / "samples")
    assert len(histories) == 8 and all(set(history.predictions) == {0, 1} for history in histories)
    shown = set(np.unique([history.truth for history in histories]).tolist()) - {0, 255}
    assert len(shown) == 18  # of 20: no eight images of these few show more
    for step, seen in ((0, 16), (1, 17)):
        assert max(history.predictions[step].max() for history in histories) < seen


def told(workplace: Workplace) -> list[dict]:
    """The journal, but for what ran and when."""
    events = read_journal(workplace.results().with_suffix(".jsonl"))
    return [event | {"time": 0} for event in events if event["event"] != "run"]


def test_the_journal_has_every_figure(trained: Workplace):
    [run] = [event for event in read_journal(trained.results().with_suffix(".jsonl")) if event["event"] == "run"]
    assert run["classes_per_step"] == [16, 1, 1, 1, 1, 1] and len(run["class_names"]) == len(run["palette"]) == 21
    assert run["config"]["crop_size"] == 64 and run["config"]["method"] == run["method"] == "RCIL"
    assert (trained.results().parent / run["samples"] / "0_truth.png").is_file()
    for step in (0, 1):
        losses = [event for event in told(trained) if event["event"] == "losses" and event["step"] == step]
        shown = trained.scalars()[f"loss_step{step}/total"]
        assert [(event["iteration"], event["total"]) for event in losses] == [
            (iteration, pytest.approx(value)) for iteration, value in shown
        ]
    tests = [event for event in told(trained) if event["event"] == "test"]
    for row, test in zip(read_rows(trained.results()), tests, strict=True):
        assert (row.step, row.overall) == (test["step"], test["miou"])
        figures = [math.nan if value is None else value for value in test["iou"].values()]
        assert np.array_equal(figures, row.per_class, equal_nan=True)
        assert list(test["iou"]) == run["class_names"][: len(row.per_class)]


def test_what_was_told_after_the_checkpoint_is_told_once(tmp_path: Path):
    about = {"name": "a", "config": {}}
    places = {"folder": tmp_path / "logs", "results": tmp_path / "a.csv"}
    reporter = Reporter(**places, class_names=["a"], palette=[(0, 0, 0)], num_first=1, is_main=True, about=about)
    with reporter:
        for step in (0, 1):
            for iteration in (1, 2, 3):
                place = Position(iteration, 3, 1, 1, images=4, iterations=1, seconds=0.1)
                reporter.losses(step, place, {"ce": 0.5, "total": 0.5}, 0.1)
        reporter.begin(1, iteration=2, epoch=0)
    losses = [event for event in read_journal(tmp_path / "a.jsonl") if event["event"] == "losses"]
    assert [(e["step"], e["iteration"]) for e in losses] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]


def test_the_figures_could_be_worse(trained: Workplace):
    """Else the tests below, which compare figures, could not tell a difference."""
    rows = csv.reader(trained.results().read_text().splitlines())
    assert all(sum(field not in ("0.0", "x", "X") for field in row[1:-1]) >= 2 for row in rows)


def test_a_finished_run_is_not_run_again(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0, 1)
    workplace.results().parent.mkdir()
    workplace.results().write_bytes(trained.results().read_bytes())
    before = workplace.files()
    assert workplace.run("--step", 0, 1) == 0
    after = {path: time for path, time in workplace.files().items() if not path.name.endswith(".lock")}
    assert {path: time for path, time in after.items() if workplace.logs() not in path.parents} == before


def test_a_finished_step_without_a_row_is_scored(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0, 1)
    before = workplace.files()
    assert workplace.run("--step", 0, 1, "--no_visualize") == 0
    assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert before.items() <= workplace.files().items()


def test_test_gives_the_very_row_of_the_training_run(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0, 1)
    for steps in ([0, 1], [1]):  # all, and one in place of itself
        assert workplace.run("--step", *steps, "--test", "--no_visualize") == 0
        assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert [event["step"] for event in told(workplace)] == [0, 1]  # as in the table, once each
    assert workplace.scalars().keys() == {k for k in trained.scalars() if k.startswith(("test/", "test_classes/"))}
    # And draws nothing.
    assert EventAccumulator(str(workplace.logs())).Reload().Tags()["images"] == []
    assert not list(workplace.folder.rglob("*.png"))


@pytest.mark.parametrize("method", ["RCIL", "FT"])
def test_test_gives_the_very_row_of_mixed_training(workplace: Workplace, method: str):
    options = ["--step", 0, 1, "--epochs", 1, "--crop_size", 32, "--method", method, "--no_visualize"]
    assert workplace.run(*options, "--opt_level", "O1") == 0
    rows = workplace.results().read_bytes()
    workplace.results().unlink()
    assert workplace.run(*options, "--test", "--batch_size", 4) == 0
    assert workplace.results().read_bytes() == rows


def test_a_stopped_run_resumes_as_if_nothing_had_been(
    trained: Workplace, workplace: Workplace, stop_at: StopAt, capsys: pytest.CaptureFixture
):
    before = signal.getsignal(signal.SIGTERM)
    stops = [
        (signal.SIGINT, 0, 1, "epoch 1, iteration 1"),
        (signal.SIGTERM, 0, 5, "epoch 1, iteration 5"),
        (signal.SIGUSR1, 0, 14, "epoch 2, iteration 3"),
        (signal.SIGHUP, 0, 16, "epoch 2, iteration 5"),
        (signal.SIGTERM, 1, 2, "epoch 1, iteration 2"),  # the last one of the epoch
        (signal.SIGINT, 1, 3, "epoch 2, iteration 1"),
    ]
    for signum, step, iteration, where in stops:
        stop_at(signum, step, iteration)
        assert workplace.run("--step", 0, 1, "--no_visualize") == 128 + signum
        said = f"stopped by {signum.name}: step {step} is saved at {where}; the same command resumes there\n"
        assert capsys.readouterr().err == said
        assert {path.suffix or path.name for path in workplace.folder.rglob(".*")} == {".lock"}
    stop_at(0, -1, -1)
    assert workplace.run("--step", 0, 1, "--no_visualize") == 0
    for step in (0, 1):
        assert_same(load(workplace.checkpoint(step)), load(trained.checkpoint(step)))
    assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert told(workplace) == told(trained)
    assert signal.getsignal(signal.SIGTERM) is before


def test_figures_of_a_stopped_run_are_those_of_the_other(trained: Workplace, workplace: Workplace, stop_at: StopAt):
    """Means over iterations of which one run saw the first and another one the last."""
    options = ["--step", 0, "--no_visualize", "--print_interval", 5]
    for iteration, code in ((4, 143), (20, 143), (-1, 0)):
        stop_at(signal.SIGTERM, 0, iteration)
        assert workplace.run(*options) == code
    shown = dict(workplace.scalars()["loss_step0/ce"])
    each = dict(trained.scalars()["loss_step0/ce"])
    assert [*shown] == [5, 10, 11, 16, 21, 22]
    for first, last in ((1, 5), (6, 10), (11, 11), (12, 16), (17, 21), (22, 22)):
        parts = [each[number] for number in range(first, last + 1)]
        assert shown[last] == pytest.approx(sum(parts) / len(parts), rel=1e-6)


def test_a_half_done_step_is_resumed_by_its_file(trained: Workplace, workplace: Workplace, stop_at: StopAt):
    workplace.take_checkpoints(trained, 0)
    stop_at(signal.SIGINT, 1, 3)
    assert workplace.run("--step", 1, "--no_visualize") == 130
    half = workplace.checkpoint(1).rename(workplace.folder / "half.pth")
    stop_at(0, -1, -1)
    assert workplace.run("--step", 1, "--ckpt", half, "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(1)), load(trained.checkpoint(1)))


def test_a_stop_in_a_validation_does_not_lose_the_epoch(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def validation(self: Reporter, *rest: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def serialised(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # once more, in the middle of the saving
        save(*arguments)

    save = torch.save

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "validation", validation)
        patch.setattr(torch, "save", serialised)
        assert workplace.run("--step", 0, "--no_visualize") == 143
    said = "stopped by SIGTERM: step 0 is saved at epoch 2, iteration 11; the same command resumes there\n"
    assert capsys.readouterr().err == said
    # The iterations are done, and are not run again: only what follows them.
    monkeypatch.setattr("train.Objective.forward", None)
    assert workplace.run("--step", 0, "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(0)), load(trained.checkpoint(0)))


def test_a_checkpoint_is_written_every_so_many_epochs_or_where_it_costs_nothing(
    trained: Workplace, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
):
    """An epoch of a tiny run takes no time of which a hundredth would do for a checkpoint."""
    workplace.take_checkpoints(trained, 0)
    plain, seen = CheckpointStore.write, []

    def write(self: CheckpointStore, step: Step, state: dict, **more: bool) -> None:
        plain(self, step, state, **more)
        seen.append(state["epoch"] + (state["trainer_state"]["iteration"] > 0))

    monkeypatch.setattr(CheckpointStore, "write", write)
    for options, cost, epochs in (
        ([], 0.01, [3]),
        (["--ckpt_interval", 2], 0.01, [2, 3]),
        ([], math.inf, [1, 2, 3]),
    ):
        monkeypatch.setattr("utils.stopping.COST", cost)
        seen.clear()
        assert workplace.run("--step", 1, "--epochs", 3, "--no_visualize", "--no_resume", *options) == 0
        assert sorted(set(seen)) == epochs and seen == sorted(seen)


def test_each_epoch_sees_other_crops(workplace: Workplace):
    assert workplace.run("--step", 0, "--lr", 1e-9, "--no_drop_path", "--no_visualize") == 0
    losses = [value for _, value in workplace.scalars()["loss_step0/ce"]]
    assert all(abs(one - other) > 1e-4 for one, other in zip(losses[:11], losses[11:], strict=True))


def test_no_resume_trains_anew(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0)
    checkpoint = load(workplace.checkpoint(0))
    checkpoint["model_state"]["classifiers.0.bias"] += 1
    torch.save(checkpoint, workplace.checkpoint(0))
    assert workplace.run("--step", 0, "--no_resume", "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(0)), load(trained.checkpoint(0)))


def test_a_checkpoint_of_the_authors_code_is_tested_and_built_upon(trained: Workplace, workplace: Workplace):
    authors = {}
    for step, prefix in ((0, PREFIX), (1, "")):
        weights = to_authors(load(trained.checkpoint(step))["model_state"])
        authors[step] = workplace.folder / f"authors_{step}.pth"
        torch.save({"model_state": {prefix + n.removeprefix(PREFIX): t for n, t in weights.items()}}, authors[step])
        assert workplace.run("--step", step, "--ckpt", authors[step], "--test", "--no_visualize") == 0
    assert workplace.results().read_bytes() == trained.results().read_bytes()
    assert workplace.run("--step", 1, "--step_ckpt", authors[0], "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(1))["model_state"], load(trained.checkpoint(1))["model_state"])


def test_without_a_date_a_run_continues_in_its_newest_table(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0, 1)
    options = workplace.options("--step", 1, "--test", "--no_visualize")
    at = options.index("--date")
    del options[at : at + 2]
    older, newer, other = (
        workplace.folder / "results" / f"{name}.csv"
        for name in ("2021-12-31_voc_15-1_tiny", "2022-02-01_voc_15-1_tiny", "2023-01-01_voc_15-1_tiny-2")
    )
    older.parent.mkdir()
    for path in (older, newer, other):
        path.write_text(trained.results().read_text().splitlines(keepends=True)[0])
    assert workplace.main(options) == 0
    assert newer.read_bytes() == trained.results().read_bytes()
    assert older.read_bytes() == other.read_bytes() != newer.read_bytes()


def test_a_compiled_run_is_the_same_run(trained: Workplace, workplace: Workplace):
    """Compilers take minutes, so the compiled functions run as they are here; benchmarks/compile.py compiles."""
    workplace.take_checkpoints(trained, 0)
    with torch.compiler.set_stance("force_eager"):
        assert workplace.run("--step", 1, "--compile", "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(1)), load(trained.checkpoint(1)))


def test_a_run_that_computes_blocks_twice_is_the_same_run(trained: Workplace, workplace: Workplace):
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 1, "--checkpoint_blocks", "--no_visualize") == 0
    assert_same(load(workplace.checkpoint(1)), load(trained.checkpoint(1)))


def test_a_profile_lies_with_the_logs_and_changes_nothing(
    trained: Workplace, workplace: Workplace, capsys: pytest.CaptureFixture
):
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 1, "--profile", 2, "--no_visualize") == 0
    assert [path.name for path in (workplace.logs() / "profile").iterdir()] == ["step1.json"]
    assert "2 iterations traced in" in capsys.readouterr().out
    assert_same(load(workplace.checkpoint(1)), load(trained.checkpoint(1)))
