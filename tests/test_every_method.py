"""Every method goes through a whole run of two steps, and one that is cut off ends as one that was not."""

import signal
from pathlib import Path

import pytest

from methods import METHODS
from metrics.results import read_rows
from tests.workplace import StopAt, Workplace, assert_same, load

BASELINES = [name for name in METHODS if name != "RCIL"]
WITH_STATE = ["EWC", "RW", "PI", "PLOP"]
"""Methods whose checkpoints hold more than weights."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict[str, Workplace]:
    """Finished runs by method, made when they are first asked for."""

    class Runs(dict):
        def __missing__(self, name: str) -> Workplace:
            self[name] = Workplace(tmp_path_factory.mktemp(name), shapes)
            assert self[name].run("--method", name, "--step", 0, 1, "--no-visualize") == 0
            return self[name]

    return Runs()


@pytest.mark.parametrize("name", BASELINES)
def test_two_steps_on_the_plain_network(finished: dict[str, Workplace], name: str):
    workplace = finished[name]
    rows = read_rows(workplace.results())
    assert [len(row.iou) for row in rows] == [16, 17] and all(0 < row.mean_iou < 1 for row in rows)
    # One branch, and the names of PLOP's and MiB's code.
    weights = load(workplace.checkpoint(1))["model_state"]
    assert not any("_new" in key for key in weights) and "module.cls.1.weight" in weights
    seen = {tag.split("/")[1] for tag in workplace.scalars() if tag.startswith("loss_step1/")}
    expected = {
        "FT": {"ce"},
        "LWF": {"ce", "kd"},
        "LWF-MC": {"bce", "kd"},
        "ILT": {"ce", "kd", "de"},
        "EWC": {"ce", "penalty"},
        "RW": {"ce", "penalty"},
        "PI": {"ce", "penalty"},
        "MiB": {"ce", "kd"},
        "PLOP": {"ce", "pod"},
    }
    assert seen == expected[name] | {"total"}
    if "penalty" in seen:
        penalties = [value for _, value in workplace.scalars()["loss_step1/penalty"]]
        assert penalties[0] == 0 and max(penalties) > 0


@pytest.mark.parametrize("name", WITH_STATE)
def test_a_method_with_a_state_goes_on_as_if_nothing_had_been(
    finished: dict[str, Workplace], workplace: Workplace, name: str, stop_at: StopAt
):
    for step, iteration in ((0, 14), (1, 1), (1, 3)):
        stop_at(signal.SIGTERM, step, iteration)
        assert workplace.run("--method", name, "--step", 0, 1, "--no-visualize") == 143
    stop_at(0, -1, -1)
    assert workplace.run("--method", name, "--step", 0, 1, "--no-visualize") == 0
    for step in (0, 1):
        assert_same(load(finished[name].checkpoint(step)), load(workplace.checkpoint(step)))
    assert workplace.results().read_bytes() == finished[name].results().read_bytes()


@pytest.mark.parametrize("name", ["EWC", "PI"])
def test_a_first_step_of_another_method_is_refused_by_one_that_needs_its_state(
    finished: dict[str, Workplace], workplace: Workplace, name: str, capfd: pytest.CaptureFixture
):
    workplace.take_checkpoints(finished["FT"], 0)
    assert workplace.run("--method", name, "--step", 1, "--no-visualize") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and f"which --method {name} needs: train that step with it" in error


def test_a_first_step_serves_the_methods_that_need_nothing_else(finished: dict[str, Workplace], workplace: Workplace):
    workplace.take_checkpoints(finished["FT"], 0)
    assert workplace.run("--method", "MiB", "--step", 1, "--no-visualize") == 0


@pytest.mark.parametrize(
    "options", ["--method MiB --branches 2", "--method PLOP --branches 2", "--method LWF --pod cube"]
)
def test_the_parts_of_rcil_go_with_other_methods(workplace: Workplace, options: str):
    assert workplace.run(*options.split(), "--step", 0, 1, "--epochs", 1, "--no-visualize") == 0
    weights = load(workplace.checkpoint(1))["model_state"]
    assert any("conv2_new" in key for key in weights) == ("branches" in options)
    seen = {tag.split("/")[1] for tag in workplace.scalars() if tag.startswith("loss_step1/")}
    assert ("cube_spatial" in seen) == ("cube" in options)


def test_paper_exact_changes_the_run(finished: dict[str, Workplace], workplace: Workplace):
    workplace.take_checkpoints(finished["LWF"], 0)
    assert workplace.run("--method", "LWF", "--paper_exact", "--step", 1, "--no-visualize") == 0
    as_published = dict(finished["LWF"].scalars()["loss_step1/kd"])
    exact = dict(workplace.scalars()["loss_step1/kd"])
    assert exact[1] == pytest.approx(16 * as_published[1], rel=1e-4)


def test_results_under_the_labels_of_mib_say_so(workplace: Workplace):
    options = ["--method", "MiB", "--label_protocol", "mib", "--step", 0, 1, "--epochs", 1, "--no-visualize"]
    assert workplace.run(*options) == 0
    assert workplace.results().read_text().startswith("# labels of MiB: ignored pixels trained as background")
    assert len(read_rows(workplace.results())) == 2
