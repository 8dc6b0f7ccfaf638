"""Prints every option of run.py with default and meaning, as the Markdown tables of docs/SETTINGS.md."""

import sys
from dataclasses import MISSING, Field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from argparser import PARTS, RENAMED
from config import RunConfig, option_fields
from methods import METHODS

TITLES = {"run": "Run", "data": "Data", "model": "Network", "optim": "Optimiser"}


def main() -> None:
    """Print the tables."""
    print(markdown(), end="")


def markdown() -> str:
    """A table for each group of options; one that several methods have stands with the first of them."""
    groups = {TITLES[name]: config for name, config in ({"run": RunConfig} | PARTS).items()}
    groups |= {f"Method {name}": method.Config for name, method in METHODS.items()}
    known: set[str] = set()
    parts = []
    for title, config in groups.items():
        fields = [spec for spec in option_fields(config) if spec.name not in known]
        known |= {spec.name for spec in fields}
        if fields:
            shown = "All methods" if title == "Method FT" else title
            rows = "".join(map(_row, fields))
            parts.append(f"### {shown}\n\n| option | default | meaning |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _row(spec: Field) -> str:
    text = spec.metadata["help"].replace("%%", "%").replace("|", "\\|")
    if spec.metadata["choices"]:
        text += f" ({', '.join(map(str, spec.metadata['choices']))})"
    return f"| `--{RENAMED.get(spec.name, spec.name)}` | {_default(spec)} | {text} |\n"


def _default(spec: Field) -> str:
    value = spec.default
    if value is None or value is MISSING:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    main()
