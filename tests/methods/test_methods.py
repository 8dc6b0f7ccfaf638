"""The table of methods, their presets, and how the authors' scripts spell RCIL."""

from dataclasses import fields

import pytest

from config import OptimConfig, option_fields
from methods import METHODS
from methods.base import Method, MethodConfig
from methods.rcil import RCILConfig
from methods.spelling import WITHOUT_EFFECT, read_authors_spelling
from tests.helpers import SPECS, task_of

AUTHORS = {"pod": "local", "pod_logits": True, "unce": True, "unkd": True, "loss_kd": 100.0, "init_balanced": True}
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
def test_a_method_has_a_config_and_losses_of_its_own(name: str):
    method = METHODS[name]
    assert issubclass(method, Method) and issubclass(method.Config, MethodConfig)
    assert method.own_losses is not Method.own_losses and method.Config().branches in (1, 2)


@every_method
@pytest.mark.parametrize(
    ("dataset", "task"), [(name, task) for name, spec in SPECS.items() for task in spec.facts.published]
)
def test_presets_set_options_that_exist_to_values_that_are_allowed(name: str, dataset: str, task: str):
    method = METHODS[name]
    preset = method.preset(dataset, task_of(dataset, task))
    known = {config: {spec.name for spec in fields(config)} for config in (method.Config, OptimConfig)}
    assert preset.keys() <= set.union(*known.values()) and {"lr", "epochs"} <= preset.keys()
    for config, names in known.items():
        config(**{option: value for option, value in preset.items() if option in names})


@pytest.mark.parametrize(
    ("dataset", "task", "lr", "epochs"),
    [
        ("voc", "15-1", (0.02, 0.001), (30,)),
        ("ade", "100-50", (0.01, 0.001), (60,)),
        ("cityscapes_domain", "11-5", (0.02, 0.002), (50,)),
        ("cityscapes_domain", "1-1", (0.02, 0.002), (50,)),
        ("cityscapes_domain", "11-1", (0.02, 0.004), (50,)),
        ("cityscape", "10-9", (0.02, 0.001), (50,)),
    ],
)
def test_rcil_learns_as_in_spec_7(dataset: str, task: str, lr: tuple, epochs: tuple):
    preset = METHODS["RCIL"].preset(dataset, task_of(dataset, task))
    assert (preset["lr"], preset["epochs"]) == (lr, epochs)


def test_methods_agree_on_the_options_that_they_share():
    """The parser has one option for a name, whatever the number of methods that declare it."""
    types = {}
    for method in METHODS.values():
        for spec in option_fields(method.Config):
            assert types.setdefault(spec.name, spec.type) == spec.type


@pytest.mark.parametrize("name", ["FT", "RCIL"])
def test_pod_local_is_the_pooled_cube_loss_of_rcil(name: str):
    method, options, notes = read_authors_spelling(name, AUTHORS)
    assert method == "RCIL" and options == AUTHORS | {"pod": "cube"} and len(notes) == 1
    METHODS[method].Config(**options)


def parts(config: RCILConfig) -> tuple:
    return config.unce, config.unkd, config.loss_kd, config.pod_logits, config.init_balanced


def test_parts_that_an_ft_line_does_not_switch_on_are_off():
    method, options, _ = read_authors_spelling("FT", {"pod": "local", "unce": True})
    config = METHODS[method].Config(**options)
    assert parts(config) == (True, False, 0, False, False)
    method, options, _ = read_authors_spelling("RCIL", {"pod": "local"})
    config = METHODS[method].Config(**options)
    assert parts(config) == (True, True, 100, True, True)


@every_method
def test_a_line_without_pod_stays_as_it_is(name: str):
    assert read_authors_spelling(name, {"init_balanced": True}) == (name, {"init_balanced": True}, [])


def test_options_without_effect_are_named_and_dropped():
    typed = dict.fromkeys(WITHOUT_EFFECT, "1") | {"lr": [0.1]}
    _, options, notes = read_authors_spelling("RCIL", typed)
    assert options == {"lr": [0.1]} and len(notes) == len(WITHOUT_EFFECT) == len(typed) - 1
    assert all(any(f"--{name}" in note for note in notes) for name in WITHOUT_EFFECT)
