"""A checkpoint whose entries are not what they should be: one line, and no traceback."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.workplace import StopAt, Workplace, load, terminate

REMOVED = object()
TRAINER_ENTRIES = (
    "scaler",
    "method",
    "iteration",
    "bad_batches",
    "processes",
    "identity",
    "settings",
    "images",
    "predecessor",
    "finished",
)
ENTRIES = ("epoch", "optimizer_state", "scheduler_state", "best_score", "trainer_state", "model_state")
STRANGE = [REMOVED, None, "text", [1], {"other": 2}, -1, torch.ones(2)]


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict:
    """A checkpoint in the middle of an epoch."""
    workplace = Workplace(tmp_path_factory.mktemp("half"), shapes)
    process = workplace.start("--step", 0, "--save_minutes", 0.0001, "--no-visualize")
    workplace.end(process, workplace.checkpoint(0), terminate)
    return load(workplace.checkpoint(0))


@pytest.mark.parametrize("entry", [*ENTRIES, *(f"trainer_state.{name}" for name in TRAINER_ENTRIES)])
def test_a_strange_entry_is_refused_or_does_no_harm(
    half_done: dict, workplace: Workplace, entry: str, stop_at: StopAt, capfd: pytest.CaptureFixture
):
    *outer, name = entry.split(".")
    stop_at(15, 0, half_done["trainer_state"]["iteration"] + 1)  # what is taken need not run to its end
    refused = 0
    for value in STRANGE:
        content = copy.deepcopy(half_done)
        place = content[outer[0]] if outer else content
        if value is REMOVED:
            del place[name]
        else:
            place[name] = value
        workplace.checkpoint(0).parent.mkdir(exist_ok=True)
        torch.save(content, workplace.checkpoint(0))
        code = workplace.run("--step", 0, "--no-visualize")
        error = capfd.readouterr().err
        one_line = error.startswith("error: ") and error.count("\n") == 1
        assert (code == 2 and one_line) or code in (0, 143), (value, error)
        refused += code == 2
    assert refused


def test_the_state_of_another_optimiser_is_refused(half_done: dict, workplace: Workplace, capfd: pytest.CaptureFixture):
    def changed(change: Callable[[dict], object]) -> str:
        content = copy.deepcopy(half_done)
        change(content["optimizer_state"])
        workplace.checkpoint(0).parent.mkdir(exist_ok=True)
        torch.save(content, workplace.checkpoint(0))
        assert workplace.run("--step", 0, "--no-visualize") == 2
        error = capfd.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "cannot be gone on from" in changed(lambda state: state["param_groups"].pop())
    assert "cannot be gone on from" in changed(lambda state: state["state"][0].update(momentum_buffer=torch.ones(7)))
