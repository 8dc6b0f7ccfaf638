"""The charts of a report: curves as SVG in the colours of the page, curves and heat maps as PNG."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from metrics.figures import COLOURS, FAINT, INK, MARKERS, REFERENCE, curve_groups, draw_panel
from metrics.results import Row
from metrics.tables import percent, shorten
from tools.reporting.runs import Run
from utils.files import atomic_write

GLYPHS = dict(zip(MARKERS, "●■▲◆▼★✚⬟✖◀", strict=True))
"""What stands for each marker in a text."""
COLOURMAP = "YlGnBu"
LARGEST_HEAT_MAP = 60
"""Classes with a name beside them."""
DARK_COLOURS = (
    *("#58a6ff", "#ff7b72", "#56d364", "#bc8cff", "#e3b341"),
    *("#39c5cf", "#f778ba", "#afb8c1", "#d18b53", "#9a9cff"),
)
"""What COLOURS are on a dark page."""
TOKENS = {INK: "var(--ink)", FAINT: "var(--faint)"} | {colour: f"var(--run{i})" for i, colour in enumerate(COLOURS)}


def legend(lines: Mapping[str, Sequence[Row]], references: Sequence[str]) -> list[tuple[str, str, str]]:
    """(colour, marker, name) of each line, as `panels` draws them."""
    return [
        (
            REFERENCE if name in references else TOKENS[COLOURS[i % len(COLOURS)]],
            GLYPHS[MARKERS[i % len(MARKERS)]],
            name,
        )
        for i, name in enumerate(lines)
    ]


def panels(lines: Mapping[str, Sequence[Row]], num_first: int, references: Sequence[str]) -> list[str]:
    """An SVG per panel of `metrics.figures.curve`, whose text takes colour and font of the page around it."""
    num_classes = next(iter(lines.values()))[0].num_classes
    drawn = []
    for number, (title, figure_of) in enumerate(curve_groups(num_first, num_classes)):
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(number)}):
            figure = Figure(figsize=(4.4, 3.5), layout="constrained")
            figure.patch.set_alpha(0)
            axes = figure.add_subplot()
            axes.patch.set_alpha(0)
            draw_panel(axes, title, figure_of, {name: [rows] for name, rows in lines.items()}, references)
            axes.set_ylabel("mIoU in percent", color=INK)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None})
        drawn.append(_inline(file.getvalue(), title, f"panel{number}-"))
    return drawn


def _inline(svg: str, title: str, prefix: str) -> str:
    """An SVG as part of a page: without the head of a file, its ids its own, its ink that of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{title}"', svg, count=1)
    for colour, token in TOKENS.items():
        svg = svg.replace(colour, token)
    return svg


def heat(value: float) -> tuple[str, str]:
    """Colour of a cell for an IoU, 0..1, and of the text on it."""
    if math.isnan(value):
        return "transparent", "inherit"
    colour = colormaps[COLOURMAP](value)[:3]
    # Relative luminance, as WCAG has it: below 0.179 white has the greater contrast, above it black.
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    dark = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179
    return to_hex(colour), "#ffffff" if dark else "#000000"


def draw_heat_map(path: Path, run: Run) -> None:
    """Write a PNG of the IoU of each class, a column, after each step, a row."""
    num_steps, num_classes = len(run.rows), run.rows[0].num_classes
    named = num_classes <= LARGEST_HEAT_MAP
    cell = 0.42 if named else 0.12
    size = (2.2 + cell * num_classes, 2.2 + 0.42 * num_steps)
    figure = Figure(figsize=size, dpi=120, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    values = [[*row.iou, *[math.nan] * (num_classes - len(row.iou))] for row in run.rows]
    image = axes.imshow(values, cmap=COLOURMAP, vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="IoU", pad=0.01)
    if named:
        names = [shorten(name, 16) for name in run.class_names]
        axes.set_xticks(range(num_classes), names, rotation=90)
        for y, row in enumerate(run.rows):
            for x, value in enumerate(row.iou):
                text = percent(value, 0)
                axes.text(
                    x, y, text, ha="center", va="center", fontsize=8, color=heat(value)[1].replace("inherit", INK)
                )
    axes.set_yticks(range(num_steps), [f"step {row.step}" for row in run.rows])
    axes.set_title(run.name, loc="left", color=INK)
    axes.tick_params(length=0)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
