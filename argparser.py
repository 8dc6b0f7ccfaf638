"""The command line: options made from the fields of the configurations, and the configuration made from them.

The only user of argparse. A value comes from the command line, else from the method's preset for the data set, else
from the field's default; `Provenance` keeps which.
"""

import argparse
import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from config import DataConfig, ModelConfig, OptimConfig, RunConfig, option_fields
from dataset import DATASETS, open_dataset, open_task
from dataset.base import DatasetSpec
from methods import METHODS
from methods.features import feature_preset
from methods.spelling import READ_ELSEWHERE, WITHOUT_EFFECT, read_authors_spelling
from tasks import Task
from utils.errors import UserError

PARTS = {"data": DataConfig, "model": ModelConfig, "optim": OptimConfig}
RENAMED = {"method_name": "method"}
TABLES = {"dataset": DATASETS, "method": METHODS}
"""Options that take a name of a table; the help lists them."""


class Provenance(NamedTuple):
    """Where the settings of a run came from: option -> value."""

    typed: dict[str, Any]
    preset: dict[str, Any]
    notes: list[str]


class Parsed(NamedTuple):
    """A parsed command line."""

    config: RunConfig
    spec: DatasetSpec
    task: Task
    steps: tuple[int, ...]
    provenance: Provenance
    local_rank: int | None


class _Parser(argparse.ArgumentParser):
    """Raises UserError instead of printing the usage of a hundred options."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists all options)")


def parse(arguments: Sequence[str]) -> Parsed:
    """The configuration that a command line means. Raises UserError for an unknown option, naming the nearest."""
    parser = build_parser()
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(_unknown(unknown[0], parser))
    typed = vars(namespace)
    local_rank = typed.pop("local_rank", None)
    method_name, typed, notes = read_authors_spelling(typed.pop("method", "RCIL"), typed)
    if method_name not in METHODS:
        raise UserError(f"--method {method_name}: choose from {', '.join(METHODS)}")
    data = DataConfig(**_of(DataConfig, typed))
    if "task" in typed and "class_order" in typed:
        raise UserError("--task and --class_order both say which classes come when; give one")
    spec = open_dataset(data)
    task = open_task(data, spec)
    if data.overlap is not None and len(spec.scenarios) == 1:
        notes.append(f"--overlap has no effect: {spec.name} deals out its images {spec.scenarios[0]}")
    steps = _steps(typed.get("step", ("all",)), task)
    for name in ("lr", "epochs"):
        if name in typed:
            typed[name] = _by_step(typed[name], steps)
    method = METHODS[method_name]
    pod = typed.get("pod", method.Config().pod)
    published = feature_preset(pod, data.dataset, task.name) | method.preset(data.dataset, task)
    preset = {name: value for name, value in published.items() if name not in typed}
    values = preset | typed
    _refuse_foreign(method_name, typed)
    config = RunConfig(
        data=data,
        model=ModelConfig(**_of(ModelConfig, values)),
        optim=OptimConfig(**_of(OptimConfig, values)),
        method=method.Config(**_of(method.Config, values)),
        method_name=method_name,
        **_of(RunConfig, values),
    )
    by_hand = {name: value for name, value in typed.items() if name in vars(namespace)}
    return Parsed(config, spec, task, steps, Provenance(by_hand, preset, notes), local_rank)


def build_parser() -> argparse.ArgumentParser:
    """One option per field of the configurations; a method's options stand in a group of their own."""
    parser = _Parser(
        "run.py",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="Train and score a network that learns classes in steps. Defaults in brackets.",
    )
    known: set[str] = set()
    groups = {"run": RunConfig, **PARTS} | {f"method {name}": method.Config for name, method in METHODS.items()}
    for title, config in groups.items():
        group = parser.add_argument_group(title)
        for spec in option_fields(config):
            if spec.name not in known:
                _add(group, spec, typing.get_type_hints(config)[spec.name])
            known.add(spec.name)
    for name in (*WITHOUT_EFFECT, *READ_ELSEWHERE):
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser


def _add(group: Any, spec: Field, hint: Any) -> None:
    """Add the option of one field; its type comes from the annotation."""
    name = RENAMED.get(spec.name, spec.name)
    default = None if spec.default is MISSING else spec.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    text = spec.metadata["help"] + (f": {', '.join(TABLES[name])}" if name in TABLES else "")
    text += "" if default is None or default is False else f" [{shown}]"
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    choices = spec.metadata["choices"]
    if hint is bool and name.startswith("no_"):
        group.add_argument(f"--{name}", action="store_true", help=text)
    elif hint is bool:
        group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)
    elif typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        group.add_argument(f"--{name}", nargs="+", type=kind, metavar=kind.__name__.upper(), help=text)
    elif typing.get_origin(hint) is Literal or hint is int:
        group.add_argument(f"--{name}", type=int, choices=choices, metavar=None if choices else "N", help=text)
    else:
        metavar = None if choices else {Path: "PATH", float: "X", str: "TEXT"}[hint]
        group.add_argument(f"--{name}", type=hint, choices=choices, metavar=metavar, help=text)


def _of(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """The entries of `values` that are fields of `config`; argparse's lists become tuples."""
    names = {spec.name for spec in option_fields(config)} & values.keys()
    return {name: tuple(v) if isinstance(v := values[name], list) else v for name in names}


def _steps(words: Sequence[str], task: Task) -> tuple[int, ...]:
    """`--step 0`, `--step 1 2`, `--step all` -> step numbers of the task, in order."""
    last = task.num_steps - 1
    if list(words) == ["all"]:
        return tuple(range(task.num_steps))
    if not all(word.isdecimal() and int(word) <= last for word in words):
        raise UserError(f"--step {' '.join(words)}: {task.dataset} {task.name} has steps 0 to {last}; or say all")
    steps = tuple(map(int, words))
    if steps != tuple(sorted(set(steps))):
        # Lists typed for the steps (--lr, --epochs) go by their order.
        raise UserError(f"--step {' '.join(words)}: name each step once, in ascending order")
    return steps


def _by_step(values: Sequence[Any], steps: tuple[int, ...]) -> tuple[Any, ...]:
    """A list typed for the steps that run, as one entry for each step from 0 on; see config.at_step."""
    typed = dict(zip(steps, values, strict=False))
    return tuple(typed.get(step, values[0] if step < steps[0] else values[-1]) for step in range(steps[-1] + 1))


def _refuse_foreign(method: str, typed: dict[str, Any]) -> None:
    """An option of another method would be ignored silently: refuse it."""
    others = {spec.name for other in METHODS.values() for spec in option_fields(other.Config)}
    own = {spec.name for spec in option_fields(METHODS[method].Config)}
    for name in sorted((others - own) & typed.keys()):
        owners = [m for m, other in METHODS.items() if name in {s.name for s in option_fields(other.Config)}]
        raise UserError(f"--{name} is an option of {', '.join(owners)}, not of --method {method}")


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}; an option starts with --"
    options = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(word.split("=")[0], options, n=1, cutoff=0.0)
    return f"unknown option {word}; the nearest is {near[0]} (--help lists all options)"
