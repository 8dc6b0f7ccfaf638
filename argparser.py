"""The command line: options made from the fields of the configurations, and the configuration made from them.

The only user of argparse for run.py. A value comes from the command line, else from the method's preset for the data
set, else from the field's default; `Provenance` keeps which.
"""

import argparse
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from config import DataConfig, ModelConfig, OptimConfig, RunConfig, option_fields, shown
from config_file import read_config
from dataset import DATASETS, open_dataset, open_task, scenario_of
from dataset.base import DatasetSpec
from methods import METHODS, config_of, configs_of, preset
from methods.base import Method, MethodConfig
from methods.spelling import READ_ELSEWHERE, WITHOUT_EFFECT, read_authors_spelling
from modules.backbones import BACKBONES
from tasks import SETTINGS, Step, Task
from utils.distributed import Dist
from utils.errors import UserError
from utils.log import log
from utils.options import a_float, a_path
from utils.versions import versions

GROUPS = {"run": RunConfig, "data": DataConfig, "network": ModelConfig, "optimiser": OptimConfig}
RENAMED = {"method_name": "method"}
TABLES = {"dataset": DATASETS, "method": METHODS, "backbone": BACKBONES}
"""Options that take a name of a table; the help lists them."""
USUAL = {"method": "RCIL", "dataset": DataConfig.dataset, "task": DataConfig.task}
"""What is meant where nothing is typed."""
CONTRADICT = ({"task", "class_order"}, {"overlap", "scenario"}, {"pretrained", "no_pretrained"})
"""Options that say the same, or the opposite."""


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
    steps: tuple[Step, ...]
    provenance: Provenance
    local_rank: int | None

    def announce(self, dist: Dist) -> None:
        """Log what is about to run, and where its settings came from."""
        scenario, numbers = scenario_of(self.config.data, self.spec), " ".join(map(str, self.steps))
        log.info(
            f"{self.config.method_name} on {self.spec.name} {self.task.name}, {scenario}: step {numbers} of "
            f"{self.task.num_steps}, {dist.world_size} process(es) on {dist.device.type}"
        )
        for source, values in (("typed", self.provenance.typed), ("preset", self.provenance.preset)):
            log.info(f"  {source}: " + ", ".join(f"{name} {shown(value)}" for name, value in values.items()))
        for note in self.provenance.notes:
            log.info(f"  note: {note}")


def parse(arguments: Sequence[str]) -> Parsed:
    """The configuration that a command line means. Raises UserError for an unknown option, naming the nearest."""
    parser = build_parser(*_asked_about(arguments))
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(_unknown(unknown[0], parser))
    typed = vars(namespace)
    local_rank, path = typed.pop("local_rank", None), typed.pop("config", None)
    of_file = _fitting(read_config(path, parser), typed) if path else {}
    usual = of_file.pop("method", USUAL["method"])
    method_name, typed, notes = read_authors_spelling(typed.pop("method", usual), typed)
    method = _named("method", method_name)
    by_hand, typed = set(typed), of_file | typed
    if path:
        notes.append(f"what is not typed is that of {path}")
    data = DataConfig(**_of(DataConfig, typed))
    if "task" in typed and "class_order" in typed:
        raise UserError("--task and --class_order both say which classes come when; give one")
    spec = open_dataset(data)
    of_data = {name: value for name, value in spec.preset.items() if name not in typed}
    if "pretrained" in typed:
        of_data.pop("no_pretrained", None)
    data = replace(data, **_of(DataConfig, of_data))
    task = open_task(data, spec)
    if data.aux_root and not method.auxiliary:
        raise UserError(f"--aux_root {data.aux_root}: --method {method_name} trains on labelled images; leave it out")
    if method.auxiliary and not data.aux_root:
        notes.append("without --aux_root the training images of a step are its images without labels, too")
    if data.overlap is not None and len(spec.scenarios) == 1:
        notes.append(f"--overlap has no effect: {spec.name} deals out its images {spec.scenarios[0]}")
    steps = _steps(typed.get("step", ("all",)), task)
    for name in ("lr", "epochs"):
        if name in by_hand:
            typed[name] = _by_step(typed[name], steps)
    own = config_of(method_name, typed.get("base"))
    published = preset(own, data.dataset, task.name, typed.get("pod", own.pod))
    of_preset = of_data | {name: value for name, value in published.items() if name not in typed}
    values = of_preset | typed
    _refuse_foreign(_typed_as(method_name, own), own, typed)
    require_served(method, method_name, task, values.get("head", ModelConfig.head))
    if values.get("mem_size", 0) and task.kind != "image" and not method.memory_rule:
        raise UserError(f"--mem_size {values['mem_size']}: --method {method_name} sees no image again; leave it out")
    _named("backbone", values.get("backbone", ModelConfig.backbone))
    config = RunConfig(
        data=data,
        model=ModelConfig(**_of(ModelConfig, values)),
        optim=OptimConfig(**_of(OptimConfig, values)),
        method=own(**_of(own, values)),
        method_name=method_name,
        **_of(RunConfig, values),
    )
    shown_as_typed = {name: value for name, value in typed.items() if name in vars(namespace)}
    steps = tuple(map(task.step, steps))
    return Parsed(config, spec, task, steps, Provenance(shown_as_typed, of_preset, notes), local_rank)


def _fitting(of_file: dict[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """What of a file of options stands beside those that were typed: without what these contradict, and without the
    options of its method where another method, or base of it, is typed."""
    dropped = {name for names in CONTRADICT for name in names if typed.keys() & names}
    if any(typed.get(name, of_file.get(name)) != of_file.get(name) for name in ("method", "base")):
        dropped |= of_file.keys() - {"method"} - set().union(*map(_names, GROUPS.values()))
    return {name: value for name, value in of_file.items() if name not in dropped}


def require_served(method: type[Method], name: str, task: Task, head: str) -> None:
    """UserError, with its reason, unless the method makes sense where the task brings classes, or domains, and with
    the head of the network."""
    setting = SETTINGS[task.kind]
    if setting not in method.serves:
        arrive = "classes of whole images" if task.kind == "image" else setting
        raise UserError(f"--method {name} does not serve data in which {arrive} arrive: {method.reason}")
    heads = ("pool",) if task.kind == "image" else method.heads
    if head not in heads:
        raise UserError(f"--head {head}: --method {name} knows {', '.join(heads)}")


class _Parser(argparse.ArgumentParser):
    """Raises UserError instead of printing the usage of a hundred options."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--method NAME --help lists all options)")


class PrintVersions(argparse.Action):
    """`--version`: print the versions, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        print(versions())
        parser.exit()


class Switch(argparse.Action):
    """`--x` and `--no_x`; `--no-x` is the same, and not shown."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, not option_string.startswith(("--no_", "--no-")))


def add_switch(group: Any, name: str, text: str) -> None:
    """Add the option `--NAME` that can be turned off."""
    group.add_argument(f"--{name}", f"--no_{name}", dest=name, action=Switch, nargs=0, help=text)
    group.add_argument(f"--no-{name}", dest=name, action=Switch, nargs=0, help=argparse.SUPPRESS)


def build_parser(
    method: str = USUAL["method"], base: str | None = None, published: Mapping[str, Any] | None = None
) -> argparse.ArgumentParser:
    """One option per field of the configurations.

    The help shows those of `method`, on `base` where it has bases, first, with the values that were `published` as
    defaults; options of other methods are read, and not shown.
    """
    own = config_of(method, base)
    parser = _Parser(
        "run.py",
        "run.py [options]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="Train and score a network that learns classes in steps. Defaults in brackets: those of the "
        f"method {_typed_as(method, own)}; --method NAME, --dataset and --task before --help show others.",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    text = "file of options, as a run writes it beside its results; what is typed wins"
    parser.add_argument("--config", type=a_path, metavar="FILE", help=text)
    text = "print the versions of what matters, for a bug report"
    parser.add_argument("--version", action=PrintVersions, nargs=0, help=text)
    known: set[str] = set()
    groups = method_groups(_typed_as(method, own), own) + [(title, config, None) for title, config in GROUPS.items()]
    for title, config, names in groups:
        _add_group(parser.add_argument_group(title), config, names, known, published or {})
    hidden = parser.add_argument_group()
    for config in (config for name in METHODS for config in configs_of(name).values()):
        _add_group(hidden, config, None, known, {}, visible=False)
    for name in (*WITHOUT_EFFECT, *READ_ELSEWHERE):
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def method_groups(name: str, config: type[MethodConfig]) -> list[tuple[str, type, set[str]]]:
    """Title, configuration and option names: what is the method's own, with other defaults too, and what all have.

    `name`: how the method is typed.
    """
    defaults = {spec.name: spec.default for spec in option_fields(MethodConfig)}
    own = {spec.name for spec in option_fields(config) if defaults.get(spec.name, MISSING) != spec.default}
    own |= {option for values in vars(config).get("presets", {}).values() for option in values if option in defaults}
    return [(f"method {name}", config, own), ("every method", config, set(defaults) - own)]


def _asked_about(arguments: Sequence[str]) -> tuple[str, str | None, dict[str, Any]]:
    """The method and base whose options the help is to show, and the published values for the data set and task."""
    words = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, usual in (USUAL | {"base": None, "pod": None}).items():
        words.add_argument(f"--{name}", nargs="?", default=usual)
    try:
        found, _ = words.parse_known_args([word for word in arguments if word != "--help"])
    except argparse.ArgumentError:
        return USUAL["method"], None, {}
    name = found.method if found.method in METHODS else USUAL["method"]
    config = config_of(name, found.base)
    return name, found.base, preset(config, str(found.dataset), str(found.task), found.pod or config.pod)


def _add_group(
    group: Any,
    config: type,
    names: set[str] | None,
    known: set[str],
    published: Mapping[str, Any],
    visible: bool = True,
) -> None:
    """Add the options of `config` that are in `names` (None: all) and not yet `known`."""
    hints = typing.get_type_hints(config)
    for spec in option_fields(config):
        if spec.name not in known and (names is None or spec.name in names):
            known.add(spec.name)
            _add(group, spec, hints[spec.name], published.get(spec.name, spec.default), visible)


def _add(group: Any, spec: Field, hint: Any, default: Any, visible: bool) -> None:
    """Add the option of one field; its type comes from the annotation."""
    name = RENAMED.get(spec.name, spec.name)
    text = spec.metadata["help"] + (f": {', '.join(TABLES[name])}" if name in TABLES else "")
    text += "" if default in (None, MISSING) or name.startswith("no_") else f" [{shown(default)}]"
    if not visible:
        text = argparse.SUPPRESS
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    choices = spec.metadata["choices"]
    if hint is bool and name.startswith("no_"):
        group.add_argument(f"--{name}", action="store_true", help=text)
        group.add_argument(f"--no-{name[3:]}", dest=name, action="store_true", help=argparse.SUPPRESS)
    elif hint is bool:
        add_switch(group, name, text)
    elif typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        shape = {"nargs": "+", "metavar": kind.__name__.upper()}
        group.add_argument(f"--{name}", type=_TYPES.get(kind, kind), help=text, **shape)
    elif typing.get_origin(hint) is Literal or hint is int:
        group.add_argument(f"--{name}", type=int, choices=choices, metavar=None if choices else "N", help=text)
    else:
        metavar = None if choices else {Path: "PATH", float: "X", str: "TEXT"}[hint]
        group.add_argument(f"--{name}", type=_TYPES.get(hint, hint), choices=choices, metavar=metavar, help=text)


def _named(table: str, name: str) -> Any:
    """The entry `name` of a table. UserError where there is none."""
    if name not in TABLES[table]:
        raise UserError(f"--{table} {name}: choose from {', '.join(TABLES[table])}")
    return TABLES[table][name]


def _of(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """The entries of `values` that are fields of `config`; argparse's lists become tuples."""
    names = _names(config) & values.keys()
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


_TYPES = {Path: a_path, float: a_float}
"""What makes a value of a word, where that is not the type itself."""


def _typed_as(name: str, config: type[MethodConfig]) -> str:
    """How the method `name` with the options of `config` is typed."""
    return next(typed for typed, other in configs_of(name).items() if other is config)


def _refuse_foreign(method: str, config: type[MethodConfig], typed: dict[str, Any]) -> None:
    """An option of another method, or of a base that was not chosen, would be ignored silently: refuse it."""
    owners: dict[str, list[str]] = {}
    for name in METHODS:
        names = {typed_as: _names(other) for typed_as, other in configs_of(name).items()}
        for option in set().union(*names.values()):
            having = [typed_as for typed_as, of_it in names.items() if option in of_it]
            owners.setdefault(option, []).extend([name] if len(having) == len(names) else having)
    for option in sorted(owners.keys() & typed.keys() - _names(config)):
        raise UserError(f"--{option} is an option of {', '.join(owners[option])}, not of --method {method}")


def _names(config: type) -> set[str]:
    return {spec.name for spec in option_fields(config)}


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}; an option starts with --"
    options = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(word.split("=")[0], options, n=1, cutoff=0.0)
    return f"unknown option {word}; the nearest is {near[0]} (--method NAME --help lists all options)"
