"""A run's options as a file: YAML, a line an option. Every run writes one beside its results; --config reads it."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError, one_line
from utils.files import atomic_write, read_text

OF_ONE_START = ("ckpt", "test", "debug", "profile")
"""Options that say nothing of what a run is."""
NOT_IN_A_FILE = ("help", "version", "local_rank", "config")


def write_config(path: Path, options: Mapping[str, Any]) -> None:
    """Write options, as JSON knows them, to `path`; those without a value are left out."""
    without = {*OF_ONE_START, *(["task"] if options.get("class_order") else [])}
    wanted = {name: value for name, value in options.items() if value is not None and name not in without}
    with atomic_write(path, "w") as file:
        file.write(f"# The options of a run: python run.py --config {path.name}\n")
        yaml.safe_dump(wanted, file, sort_keys=False, default_flow_style=None, allow_unicode=True)


def read_config(path: Path, parser: Any) -> dict[str, Any]:
    """The options in the file, as `parser` understands them. Lists that go by step begin with step 0.

    UserError, with the file, where it is no such file, or has an option that is not known or a value that is not taken.
    """
    text = read_text(path, "name a file that a run has written beside its results", named=f"--config {path}")
    try:
        options = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"--config {path} is no YAML: {one_line(error)}") from None
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise UserError(f"--config {path}: a line an option is needed, as batch_size: 24")
    try:
        found, unknown = parser.parse_known_args(_words(options, parser))
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None
    if unknown:
        raise UserError(f"--config {path}: {unknown[0]} takes no such value")
    return vars(found)


def _words(options: Mapping[str, Any], parser: Any) -> list[str]:
    """The options as they would be typed. UserError where one is not known, or has a value that no option has."""
    switches = {action.dest: action.nargs == 0 for action in parser._actions if action.dest not in NOT_IN_A_FILE}
    words = []
    for name, value in options.items():
        if name not in switches:
            nearest = difflib.get_close_matches(name[:40], switches, n=1, cutoff=0.0)[0]
            raise UserError(f"unknown option {name[:40]!r}; the nearest is {nearest}")
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float | None) for one in several) or not several:
            raise UserError(f"{name}: a value, or a list of values, is needed")
        if isinstance(value, list) and any(str(one).startswith("--") for one in value):
            raise UserError(f"{name}: {value} holds what would be an option")
        if isinstance(value, bool) != switches[name] and value is not None:
            raise UserError(f"{name}: {'true or false' if switches[name] else 'a value'} is needed, not {value}")
        if isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif isinstance(value, bool):
            words += [f"--{name}"] if value else [] if name.startswith("no_") else [f"--no_{name}"]
        elif value is not None:
            words.append(f"--{name}={value}")
    return words
