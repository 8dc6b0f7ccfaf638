"""The configurations: checked at birth, frozen, each field with a help text and a reader."""

import ast
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from config import DataConfig, ModelConfig, OptimConfig, RunConfig, at_step, option_fields
from methods import METHODS, configs_of
from utils.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CONFIGS = [
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    *(config for name in METHODS for config in configs_of(name).values()),
]


def attributes_read() -> set[str]:
    """Names of all attributes that the program reads, but for where options are made and checked."""
    names = set()
    for path in REPOSITORY.rglob("*.py"):
        top = path.relative_to(REPOSITORY).parts[0]
        if top in ("tests", "tools", "benchmarks", "argparser.py") or top.startswith("."):
            continue
        tree = ast.parse(path.read_text())
        checks = [node for node in ast.walk(tree) if getattr(node, "name", "") == "__post_init__"]
        checked = {node for check in checks for node in ast.walk(check)}
        reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
        names |= {node.attr for node in reads if node not in checked}
    return names


def test_every_field_has_a_reader():
    read = attributes_read()
    declared = {(config.__name__, spec.name) for config in CONFIGS for spec in fields(config)}
    assert {(config, name) for config, name in declared if name not in read} == set()


def test_no_option_is_declared_twice():
    common = [spec.name for config in CONFIGS[:4] for spec in option_fields(config)]
    own = {spec.name for config in CONFIGS[4:] for spec in option_fields(config)}
    assert len(set(common)) == len(common) and not own & set(common)


def test_every_option_says_what_it_is_for():
    for config in CONFIGS:
        for spec in option_fields(config):
            assert len(spec.metadata["help"]) > 3, spec.name


@pytest.mark.parametrize("config", [DataConfig, ModelConfig, OptimConfig, *CONFIGS[4:]])
def test_defaults_are_allowed_and_nothing_can_be_assigned(config: type):
    made = config()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


def run_config(**options: object) -> RunConfig:
    return RunConfig(data=DataConfig(), model=ModelConfig(), optim=OptimConfig(), method=None, **options)


@pytest.mark.parametrize(
    ("config", "options", "allowed"),
    [
        (DataConfig, {"crop_size": 31}, "at least 32"),
        (DataConfig, {"batch_size": 0}, "at least 1"),
        (DataConfig, {"num_workers": -1}, "at least 0"),
        (DataConfig, {"data_masking": "all"}, "choose from current, current\\+old, new"),
        (ModelConfig, {"output_stride": 32}, "8 or 16 where pixels are labelled"),
        (ModelConfig, {"norm_act": "bn"}, "choose from iabn_sync, iabn, abn, std"),
        (ModelConfig, {"width": 3}, "at least 4"),
        (ModelConfig, {"head_channels": 0}, "at least 4"),
        (ModelConfig, {"pooling": 0}, "at least 1"),
        (OptimConfig, {"lr": (0.1, 0.0)}, "above 0"),
        (OptimConfig, {"epochs": (0,)}, "above 0"),
        (OptimConfig, {"warmup": -1}, "at least 0"),
        (OptimConfig, {"warmup_share": 1.5}, "from 0 to 1"),
        (OptimConfig, {"lr_decay_step": 0}, "at least 1"),
        (OptimConfig, {"lr_policy": "cosine"}, "choose from poly, step, none"),
        (run_config, {"opt_level": "O2"}, "choose from O0, O1"),
        (run_config, {"print_interval": 0}, "at least 1"),
        (run_config, {"val_interval": 0}, "at least 1"),
        (run_config, {"ckpt_interval": -1}, "at least 0"),
        (run_config, {"save_minutes": 0.0}, "above 0"),
        (run_config, {"skip_bad_batches": -1}, "at least 0"),
        (run_config, {"sample_num": -1}, "at least 0"),
        (run_config, {"ckpt": Path("a.pth"), "step": ("0", "1")}, "name that step: --step N"),
        (run_config, {"ckpt": Path("a.pth")}, "name that step: --step N"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(config, options: dict, allowed: str):
    name = next(iter(options))
    with pytest.raises(UserError, match=f"--{name} .*{allowed}") as caught:
        config(**options)
    assert "\n" not in str(caught.value)


def test_a_list_by_step_serves_the_later_steps_with_its_last_value():
    assert [at_step((1, 2), step) for step in range(4)] == [1, 2, 2, 2]
    assert [at_step((5,), step) for step in range(2)] == [5, 5]


def test_a_subclass_may_change_a_default_and_nothing_else():
    base, changed = METHODS["LWF"].Config, METHODS["MiB"].Config
    (old,) = (spec for spec in fields(base) if spec.name == "loss_kd")
    (new,) = (spec for spec in fields(changed) if spec.name == "loss_kd")
    assert new.metadata == old.metadata and new.type == old.type
    assert (base().loss_kd, changed().loss_kd) == (100, 10)
    # What the base allows, the subclass does.
    with pytest.raises(UserError, match="--pod all: choose from cube, local, none"):
        METHODS["PLOP"].Config(pod="all")
