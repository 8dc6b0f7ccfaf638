"""Writes the tables of docs/SETTINGS.md from the code: python docs/make/settings.py"""

import sys
import textwrap
from dataclasses import Field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from argparser import GROUPS, RENAMED, method_groups
from config import DataConfig, at_step, option_fields, shown
from dataset import DATASETS
from methods import METHODS, configs_of, preset
from methods.base import MethodConfig
from tasks import SETTINGS

PAGE = Path(__file__).parents[1] / "SETTINGS.md"
START = "<!-- made by docs/make/settings.py -->\n"


def markdown() -> str:
    """All tables: what the published runs used, then every option with its default."""
    parts = ["## Published settings", wrapped(PUBLISHED_NOTE), published_table()]
    parts += ["## All options", wrapped(OPTIONS_NOTE)]
    for title, config in GROUPS.items():
        parts += [f"### {title.capitalize()}", options_table(option_fields(config))]
    parts += ["### Every method", options_table(option_fields(MethodConfig))]
    for name, config in every_config().items():
        _, _, own = method_groups(name, config)[0]
        fields = [spec for spec in option_fields(config) if spec.name in own]
        parts += [f"### Method {name}", options_table(fields) if fields else "No options of its own."]
    return "\n\n".join(parts) + "\n"


PUBLISHED_NOTE = (
    "What a run takes unless you type something else: the learning rate and the epochs, step 0 / later steps, and "
    "other options. Where there is none, the default below holds. A task that is not named has the values of its data "
    "set. For data of your own the defaults below hold. `--lr` and `--epochs` take several values: one for each step "
    "of `--step` in turn, the last for the rest. Two factors of a distillation are for all maps but the last, and for "
    "the last."
)
OPTIONS_NOTE = (
    "As `python run.py --method NAME --help` shows them. An option that is on is turned off with `--no_NAME`. A method "
    "lists what is its own, and where its default is another than that of every method."
)


def every_config() -> dict[str, type[MethodConfig]]:
    """The configuration of each method, and on each base where it has several, by how it is typed."""
    return {typed: config for name in METHODS for typed, config in configs_of(name).items()}


def wrapped(text: str) -> str:
    """A paragraph."""
    return textwrap.fill(text, 120)


def published_table() -> str:
    """A row for each data set, or task of it with values of its own, and group of methods with equal values.

    Methods that do not serve a data set are left out.
    """
    lines = [
        "| data set, task | methods | learning rate | epochs | other options |",
        "|---|---|---|---|---|",
    ]
    for place in places():
        dataset, _, task = place.partition(" ")
        spec = DATASETS[dataset](DataConfig())
        setting = SETTINGS[spec.facts.kind]
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, config in every_config().items():
            if setting not in METHODS[name.split()[0]].serves:
                continue
            values = {**spec.preset, **preset(config, dataset, task, config.pod)}
            if task and values == preset(config, dataset, "", config.pod):
                continue
            groups.setdefault(cells(values), []).append(name)
        lines += [f"| {place} | {', '.join(names)} | {' | '.join(row)} |" for row, names in groups.items()]
    return "\n".join(lines)


def places() -> list[str]:
    """Data sets, each followed by its tasks that some method has values for."""
    named = {
        key for config in every_config().values() for base in config.__mro__ for key in vars(base).get("presets", {})
    }
    known = [name for name in DATASETS if name in {*named, "imagenet100"}]
    return [place for name in known for place in (name, *sorted(key for key in named if key.startswith(f"{name} ")))]


def cells(values: dict[str, Any]) -> tuple[str, ...]:
    """Learning rate, epochs, and the others."""
    by_step = [f"{at_step(values[name], 0):g} / {at_step(values[name], 1):g}" for name in ("lr", "epochs")]
    others = [f"`{spelled(n, v)}`" for n, v in values.items() if n not in ("lr", "epochs")]
    return (*by_step, ", ".join(others))


def spelled(name: str, value: Any) -> str:
    """An option as it is typed."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    return f"--{name} {shown(value)}"


def options_table(fields: list[Field]) -> str:
    """A row for each option."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for spec in fields:
        text = spec.metadata["help"].replace("%%", "%").replace("|", "\\|")
        if spec.metadata["choices"]:
            text += f" ({', '.join(map(str, spec.metadata['choices']))})"
        default = "" if spec.default is None else f"`{shown(spec.default)}`"
        rows.append(f"| `--{RENAMED.get(spec.name, spec.name)}` | {default} | {text} |")
    return "\n".join(rows)


def page() -> str:
    """The page with its tables as they should be."""
    return PAGE.read_text().split(START)[0] + START + "\n" + markdown()


if __name__ == "__main__":
    PAGE.write_text(page())
