"""A method that adds to another one computes what that one computes, with its options, presets and state."""

import pytest
import torch

from argparser import parse
from methods import METHODS, configs_of
from methods.base import Method
from methods.on_base import BASES
from tests.methods.outputs import batch, labels, make, output
from tests.methods.test_baselines import Talker
from utils.errors import UserError

ON_BASES = [name for name in METHODS if METHODS[name].bases]
both = pytest.mark.parametrize("base", BASES)
each = pytest.mark.parametrize("name", ON_BASES)


def test_bases_use_no_part_of_the_interface_that_is_not_passed_on():
    """The others would be silently left out."""
    of_every_class = {"__module__", "__doc__", "__init__", "__firstlineno__", "__static_attributes__"}
    for base in BASES.values():
        overridden = vars(base).keys() & vars(Method).keys() - of_every_class
        assert overridden <= {"Config", "serves", "by_image", "before", "losses"}, base


@each
@both
def test_it_computes_what_its_base_does(name: str, base: str):
    student, teacher, y = output(17, seed=2), output(16, seed=1), labels(17)
    options = {"MiB": {"loss_kd": 3.0}, "PLOP": {"threshold": 0.5}}[base]
    own, alone = make(name, base=base, **options), make(base, **options)
    shown = torch.zeros_like(y)
    for method in (own, alone):
        method.before(None, Talker([teacher.logits] * 2), [batch(shown)] * 2)
    assert {f"base.{entry}" for entry in alone.state_dict()} == own.state_dict().keys()
    assert own.state_dict().keys() == ({"base.bounds"} if base == "PLOP" else set())
    found, expected = (method(batch(y), student, teacher) for method in (own, alone))
    assert {term: found[term] for term in expected} == expected
    assert found.keys() - expected.keys() == ({"ucd"} if name == "UCD" else set())


@each
def test_the_command_line_knows_the_base(name: str):
    config = parse(["--method", name]).config.method
    assert config.base == "MiB" and isinstance(config, METHODS["MiB"].Config) and config.loss_kd == 10
    line = ["--method", name, "--base", "PLOP", "--dataset", "ade", "--task", "100-50"]
    parsed = parse([*line, "--threshold", "0.2"])
    config = parsed.config.method
    assert config.base == "PLOP" and isinstance(config, METHODS["PLOP"].Config)
    assert (config.threshold, config.pod, config.pod_factor) == (0.2, "local", 1e-3)
    assert parsed.config.optim.epochs == (60,) and parsed.provenance.preset["pod_logits_factor"] == 1e-5
    assert parse([*line, "--pod", "cube"]).config.method.spatial_factors == (5e-6, 5e-7)


def test_what_was_published_of_ewf_and_of_its_base():
    for method, epochs in (("EWF", (30,)), ("EWF --base PLOP", (30,)), ("UCD", (30, 10))):
        assert parse(f"--method {method} --task 10-1".split()).config.optim.epochs == epochs
    for task, loss_kd in (("100-50", 10), ("100-10", 100), ("100-5", 100)):
        assert parse(f"--method EWF --dataset ade --task {task}".split()).config.method.loss_kd == loss_kd


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "EWF --threshold 1",
            "--threshold is an option of PLOP, LGKD, EWF --base PLOP, UCD --base PLOP, not of --method EWF --base MiB",
        ),
        (
            "UCD --base PLOP --loss_kd 1",
            "--loss_kd is an option of .*MiB, .*UCD --base MiB, SDR, not of --method UCD --base PLOP",
        ),
        ("EWF --loss_ucd 1", "--loss_ucd is an option of UCD, not of --method EWF --base MiB"),
        ("MiB --base PLOP", "--base is an option of EWF, UCD, not of --method MiB"),
        ("EWF --base FT", "--base: invalid choice: 'FT'"),
        ("UCD --ucd_keys 500", "--ucd_keys 500: at least 512"),
        ("UCD --ucd_anchors 255", "--ucd_anchors 255: at least 256"),
        ("UCD --ucd_temperature 0", "--ucd_temperature 0.0: above 0"),
        ("EWF --dataset cityscapes_domain --task 11-5", "there are no new ones"),
        ("UCD --dataset cityscapes_domain --task 11-5", "sees in their background, and there is none"),
    ],
)
def test_what_it_does_not_take_is_refused(line: str, words: str):
    with pytest.raises(UserError, match=words):
        parse(["--method", *line.split()])


def test_a_base_is_typed_with_its_method():
    assert list(configs_of("EWF")) == ["EWF --base MiB", "EWF --base PLOP"] and list(configs_of("FT")) == ["FT"]
