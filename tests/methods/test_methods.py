"""What all methods have: presets, options, groups, a start for new classifiers; and how scripts spell RCIL."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from config import OptimConfig, option_fields
from methods import METHODS, configs_of, preset
from methods.rcil import RCILConfig
from methods.spelling import WITHOUT_EFFECT, read_authors_spelling
from segmentation_module import build_student
from tests.helpers import SPECS, small_network
from tests.methods.outputs import make
from utils.optim import require_all_grouped

CONFIGS = [config for name in METHODS for config in configs_of(name).values()]
AUTHORS = {"pod": "local", "pod_logits": True, "unce": True, "unkd": True, "loss_kd": 100.0, "init_balanced": True}


def test_presets_set_options_that_exist_to_values_that_are_allowed():
    for of_method in CONFIGS:
        known = {config: {spec.name for spec in option_fields(config)} for config in (of_method, OptimConfig)}
        for dataset, task in [(name, task) for name, spec in SPECS.items() for task in spec.facts.published]:
            values = preset(of_method, dataset, task, of_method.pod)
            assert values.keys() <= set.union(*known.values()) and {"lr", "epochs"} <= values.keys()
            for config, names in known.items():
                config(**{option: value for option, value in values.items() if option in names})


@pytest.mark.parametrize(
    ("dataset", "task", "lr", "epochs"),
    [
        ("voc", "15-1", (0.02, 0.001), (30,)),
        ("voc", "10-1", (0.02, 0.001), (30,)),
        ("ade", "100-50", (0.01, 0.001), (60,)),
        ("cityscapes_domain", "11-5", (0.02, 0.002), (50,)),
        ("cityscapes_domain", "1-1", (0.02, 0.002), (50,)),
        ("cityscapes_domain", "11-1", (0.02, 0.004), (50,)),
        ("cityscape", "10-9", (0.02, 0.001), (50,)),
    ],
)
def test_rcil_learns_as_in_spec_7(dataset: str, task: str, lr: tuple, epochs: tuple):
    values = preset(METHODS["RCIL"].Config, dataset, task, "cube")
    assert (values["lr"], values["epochs"]) == (lr, epochs)


@pytest.mark.parametrize(
    ("dataset", "task", "factors"),
    [
        ("voc", "15-1", (0.01, 0.0005)),
        ("ade", "100-50", (1e-3, 1e-5)),
        ("cityscapes_domain", "11-1", (1e-4, 1e-4)),
        ("cityscapes_domain", "1-1", (1e-4, 1e-3)),
    ],
)
def test_the_factors_of_local_pod(dataset: str, task: str, factors: tuple[float, float]):
    """Also where another method has it."""
    for name in ("PLOP", "MiB"):
        config = make(name, dataset, task, pod="local").config
        assert (config.pod_factor, config.pod_logits_factor) == factors


def test_methods_agree_on_the_options_that_they_share():
    """The parser has one option for a name, whatever the number of methods that declare it."""
    types = {}
    for config in CONFIGS:
        for spec in option_fields(config):
            assert types.setdefault(spec.name, spec.type) == spec.type


@pytest.mark.parametrize("heads", [(16,), (16, 1, 2)])
@pytest.mark.parametrize("branches", [1, 2])
def test_groups_hold_every_parameter_once(branches: int, heads: tuple[int, ...]):
    network, method = small_network(branches=branches, classes_per_head=heads), make("FT")
    method.layer = nn.Linear(2, 2)
    groups = method.groups(network)
    require_all_grouped(groups, network, method)
    assert sum(len(group.parameters) for group in groups.values()) == len(list(network.parameters())) + 2
    new = groups["classifiers"].parameters
    assert len(new) == 2 and len(new[0]) == heads[-1]
    assert len(groups["old_classifiers"].parameters) == 2 * (len(heads) - 1)


@pytest.mark.parametrize(
    "told", ["", "init_bias", "init_balanced", "init_balanced init_bias", "init_balanced paper_exact"]
)
def test_new_classifiers_start_as_told(told: str):
    """SPEC 6: the biases are set only where the weights are."""
    previous = small_network(classes_per_head=(16,))
    before = {name: tensor.clone() for name, tensor in previous.state_dict().items()}
    student = build_student(previous, new_classes=5)
    new, background = student.classifiers[1], student.classifiers[0]
    chance = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    make("FT", task="15-5", **dict.fromkeys(told.split(), True)).initialise(student, previous)
    expected = before["classifiers.0.weight"][:1].expand(5, -1, 1, 1) if "balanced" in told else chance["weight"]
    assert torch.equal(new.weight, expected)
    old_bias, both = before["classifiers.0.bias"], " " in told
    shared = old_bias[0] - math.log(5 + 1)
    assert_close(new.bias, shared.expand(5) if both else chance["bias"])
    assert_close(background.bias[0], shared if both else old_bias[0])
    # All else is the network of the step before, which stays as it was.
    assert torch.equal(background.bias[1:], old_bias[1:])
    for name, tensor in before.items():
        assert torch.equal(previous.state_dict()[name], tensor), name
        assert name == "classifiers.0.bias" or torch.equal(student.state_dict()[name], tensor), name


def test_nothing_new_starts_at_step_0_or_where_a_domain_arrives():
    network = small_network(classes_per_head=(19,))
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    make("MiB", step=0).initialise(network, None)
    make("MiB", "cityscapes_domain", "11-5").initialise(network, small_network(classes_per_head=(19,)))
    assert torch.equal(nn.utils.parameters_to_vector(network.parameters()), before)


@pytest.mark.parametrize("name", ["FT", "RCIL"])
def test_pod_local_is_the_pooled_cube_loss_of_rcil(name: str):
    method, options, notes = read_authors_spelling(name, AUTHORS)
    assert method == "RCIL" and options == AUTHORS | {"pod": "cube"} and len(notes) == 1
    METHODS[method].Config(**options)


def parts(config: RCILConfig) -> tuple:
    return config.unce, config.unkd, config.loss_kd, config.pod_logits, config.init_balanced


def test_parts_that_an_ft_line_does_not_switch_on_are_off():
    method, options, _ = read_authors_spelling("FT", {"pod": "local", "unce": True})
    assert parts(METHODS[method].Config(**options)) == (True, False, 0, False, False)
    method, options, _ = read_authors_spelling("RCIL", {"pod": "local"})
    assert parts(METHODS[method].Config(**options)) == (True, True, 100, True, True)


def test_a_line_without_pod_stays_as_it_is():
    for name in METHODS:
        assert read_authors_spelling(name, {"init_balanced": True}) == (name, {"init_balanced": True}, [])


def test_options_without_effect_are_named_and_dropped():
    typed = dict.fromkeys(WITHOUT_EFFECT, "1") | {"lr": [0.1]}
    _, options, notes = read_authors_spelling("RCIL", typed)
    assert options == {"lr": [0.1]} and len(notes) == len(WITHOUT_EFFECT) == len(typed) - 1
    assert all(any(f"--{name}" in note for note in notes) for name in WITHOUT_EFFECT)
