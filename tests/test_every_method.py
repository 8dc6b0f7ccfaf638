"""Every method goes through a whole run of two steps."""

import signal
from pathlib import Path

import pytest

from methods import METHODS
from metrics.results import read_rows
from modules.authors_names import to_authors
from tests.workplace import StopAt, Workplace, assert_same, load
from tools import export
from utils.errors import UserError

TERMS = {
    "FT": {"ce"},
    "LWF": {"ce", "kd"},
    "LWF-MC": {"bce", "kd"},
    "ILT": {"ce", "kd", "de"},
    "EWC": {"ce", "penalty"},
    "RW": {"ce", "penalty"},
    "PI": {"ce", "penalty"},
    "MiB": {"ce", "kd"},
    "PLOP": {"ce", "pod"},
    "RCIL": {"ce", "kd", "cube_spatial", "cube_channel"},
    "LGKD": {"ce", "pod", "lgkd"},
    "EWF": {"ce", "kd"},
    "UCD": {"ce", "kd", "ucd"},
    "SDR": {"ce", "kd", "match", "attract", "repel", "sparse"},
    "DKD": {"bce", "ac", "kd", "pos", "neg"},
    "STAR": {"mix", "pkd", "cont"},
    "CFSSeg": set(),
    "DKD-M": {"bce", "ac", "kd", "pos", "neg"},
    "STAR-M": {"mix", "pkd", "cont"},
    "SSUL": {"bce"},
    "SSUL-M": {"bce"},
    "ST": {"ce", "entropy"},
}
STATE = {
    "EWC": {"fisher"},
    "RW": {"fisher", "score"},
    "PI": {"path_score"},
    "PLOP": {"bounds"},
    "LGKD": {"plop"},
    "SDR": {"prototypes", "counts"},
    "DKD": {"aux"},
    "STAR": {"prototypes", "deviations", "norm_mean", "norm_std", "counts"},
    "CFSSeg": {"phi", "gram", "moment"},
    "DKD-M": {"aux"},
    "STAR-M": {"prototypes", "deviations", "norm_mean", "norm_std", "counts"},
}
"""What a method leaves in the checkpoint of step 1 beside the network."""
SMALL = {"CFSSeg": ("--expansion", 64)} | {name: ("--mem_size", 8) for name in ("DKD-M", "STAR-M", "SSUL-M")}
"""Options of a method with which it takes no time."""
SHORT = ("--step", 0, 1, "--epochs", 1, "--no_visualize")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict[str, Workplace]:
    """Finished runs by method, made when they are first asked for."""

    class Runs(dict):
        def __missing__(self, name: str) -> Workplace:
            self[name] = Workplace(tmp_path_factory.mktemp(name), shapes)
            assert self[name].run("--method", name, *SHORT, *SMALL.get(name, ())) == 0
            return self[name]

    return Runs()


def terms_of(workplace: Workplace) -> set[str]:
    """Names of the losses of step 1 in TensorBoard."""
    return {tag.split("/")[1] for tag in workplace.scalars() if tag.startswith("loss_step1/")} - {"total"}


def test_every_method_is_tested():
    assert TERMS.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_two_steps(finished: dict[str, Workplace], name: str):
    workplace = finished[name]
    rows = read_rows(workplace.results())
    assert [len(row.per_class) for row in rows] == [16, 17] and all(0 < row.overall < 1 for row in rows)
    checkpoint = load(workplace.checkpoint(1))
    weights, state = checkpoint["model_state"], checkpoint["method_state"]
    assert any("_new" in key for key in weights) == (name == "RCIL") and "classifiers.1.weight" in weights
    assert {key.split(".")[0] for key in state} - {"_extra_state"} == STATE.get(name, set())
    assert terms_of(workplace) == TERMS[name]
    if "penalty" in TERMS[name]:
        penalties = [value for _, value in workplace.scalars()["loss_step1/penalty"]]
        assert penalties[0] == 0 and max(penalties) > 0


@pytest.mark.parametrize(("name", "terms"), [("EWF", {"ce", "pod"}), ("UCD", {"ce", "pod", "ucd"})])
def test_a_method_on_another_base(
    finished: dict[str, Workplace],
    workplace: Workplace,
    tmp_path: Path,
    name: str,
    terms: set[str],
    stop_at: StopAt,
    capfd: pytest.CaptureFixture,
):
    """From the first step of FT; also one that is cut off and resumed, and not on a base that it was not begun with."""
    whole = Workplace(tmp_path / "whole", workplace.data)
    options = ("--method", name, *SHORT, "--step", 1, "--step_ckpt", finished["FT"].checkpoint(0))
    assert whole.run(*options, "--base", "PLOP") == 0
    stop_at(signal.SIGTERM, 1, 1)
    assert workplace.run(*options, "--base", "PLOP") == 143
    stop_at(0, -1, -1)
    assert workplace.run(*options) == 2 and "--base PLOP then and MiB now" in capfd.readouterr().err
    assert workplace.run(*options, "--base", "PLOP") == 0
    checkpoint = load(workplace.checkpoint(1))
    assert_same(checkpoint, load(whole.checkpoint(1)))
    assert checkpoint["method_state"].keys() == {"base.bounds"} and terms_of(whole) == terms


def test_a_first_step_of_another_method_serves_those_that_need_nothing_else(
    finished: dict[str, Workplace], workplace: Workplace, capfd: pytest.CaptureFixture
):
    first = (*SHORT, "--step", 1, "--step_ckpt", finished["FT"].checkpoint(0))
    for name in ("EWC", "PI", "DKD", "STAR"):
        assert workplace.run("--method", name, *first) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and f"which --method {name} needs: train that step with it" in error
    assert workplace.run("--method", "MiB", *first) == 0


@pytest.mark.parametrize("options", ["--method MiB --branches 2", "--method LWF --pod cube"])
def test_the_parts_of_rcil_go_with_other_methods(finished: dict[str, Workplace], workplace: Workplace, options: str):
    first = finished["RCIL" if "branches" in options else "FT"].checkpoint(0)
    assert workplace.run(*options.split(), *SHORT, "--step", 1, "--step_ckpt", first) == 0
    weights = load(workplace.checkpoint(1))["model_state"]
    assert any("conv2.conv_new" in key for key in weights) == ("branches" in options)
    assert ("cube_spatial" in terms_of(workplace)) == ("cube" in options)


@pytest.mark.parametrize(("name", "head"), [("DKD", "concat"), ("SSUL", "steps")])
def test_the_published_head_trains(workplace: Workplace, name: str, head: str):
    assert workplace.run("--method", name, "--head", head, "--norm_act", "std", *SHORT) == 0
    checkpoint = load(workplace.checkpoint(1))
    assert checkpoint["trainer_state"]["identity"]["head"] == head
    # The tools take such networks, and the authors' code has none.
    words = ["--ckpt", str(workplace.checkpoint(1)), "--out", str(workplace.folder / "out"), "--form", "weights"]
    assert export.main(words) == 0
    with pytest.raises(UserError, match="the authors' code has no"):
        to_authors(checkpoint["model_state"])


def test_a_head_that_a_method_does_not_know_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture):
    assert workplace.run("--method", "MiB", "--head", "steps") == 2
    assert capfd.readouterr().err == "error: --head steps: --method MiB knows sum, concat\n"


def test_paper_exact_changes_the_run(finished: dict[str, Workplace], workplace: Workplace):
    workplace.take_checkpoints(finished["LWF"], 0)
    assert workplace.run("--method", "LWF", "--paper_exact", *SHORT, "--step", 1) == 0
    as_published = dict(finished["LWF"].scalars()["loss_step1/kd"])
    exact = dict(workplace.scalars()["loss_step1/kd"])
    assert exact[1] == pytest.approx(16 * as_published[1], rel=1e-4)


def test_results_under_the_labels_of_mib_say_so(workplace: Workplace):
    assert workplace.run("--method", "MiB", "--label_protocol", "mib", *SHORT, "--step", 0) == 0
    assert workplace.results().read_text().startswith("# labels of MiB: ignored pixels trained as background")
    assert len(read_rows(workplace.results())) == 1
