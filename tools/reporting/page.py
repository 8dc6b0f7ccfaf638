"""A report as one page that needs nothing else, and as Markdown."""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from metrics.figures import COLOURS, FAINT, INK, MARKERS, REFERENCE, curve_groups, draw_panel, heat
from metrics.pictures import colour_mask, occurring
from metrics.results import Row
from metrics.tables import Grid, percent
from tools.reporting.runs import Run
from utils.constants import IGNORE_INDEX

PICTURE_SIDE = 256
"""Longer side of a sample in the page, in pixels."""
GLYPHS = "●■▲◆▼★✚⬟✖◀"
"""What stands for each of MARKERS in a text."""
DARK_COLOURS = (
    *("#58a6ff", "#ff7b72", "#56d364", "#bc8cff", "#e3b341"),
    *("#39c5cf", "#f778ba", "#afb8c1", "#d18b53", "#9a9cff"),
)
"""What COLOURS are on a dark page."""
TOKENS = {INK: "var(--ink)", FAINT: "var(--faint)"} | {colour: f"var(--run{i})" for i, colour in enumerate(COLOURS)}


def render(
    title: str, runs: Sequence[Run], references: Mapping[str, Sequence[Row]], finals: Mapping[str, float]
) -> str:
    """The page. `references`: published runs of the same task; `finals`: published mIoU by method."""
    lines = {run.name: run.rows for run in runs} | dict(references)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        runs=runs,
        panels=[Markup(svg) for svg in _panels(lines, runs[0].num_first, list(references))],
        legend=[
            (REFERENCE if name in references else f"var(--run{i % len(COLOURS)})", GLYPHS[i % len(MARKERS)], name)
            for i, name in enumerate(lines)
        ],
        summary=summary_grid(runs),
        published=published_grid(runs, finals) if finals else None,
        forgotten=forgetting_grid(runs),
        heat=heat,
        colours=COLOURS,
        dark_colours=DARK_COLOURS,
        percent=percent,
        nan=math.nan,
        samples=_samples([run for run in runs if run.samples]),
    )


def markdown(title: str, runs: Sequence[Run], finals: Mapping[str, float], pictures: Sequence[str]) -> str:
    """The tables of the page for a document, and its `pictures` by the names of their files."""
    parts = [f"# {title}", "Percent, after the last step.", summary_grid(runs).markdown()]
    if finals:
        parts += ["## Published", published_grid(runs, finals).markdown()]
    parts += [f"![{Path(name).stem}]({name})" for name in pictures]
    parts += ["## Forgetting, in points", forgetting_grid(runs).markdown()]
    for run in runs:
        if run.config:
            options = Grid(["option", run.name], [[name, str(value)] for name, value in run.config.items()], left=2)
            parts += [f"## Configuration of {run.name}", options.markdown()]
    return "\n\n".join(parts)


def summary_grid(runs: Sequence[Run]) -> Grid:
    """A row per run, in percent."""
    cells = [[run.name, str(run.rows[-1].step), *map(percent, run.figures.values())] for run in runs]
    return Grid(["run", "step", *runs[0].figures], cells, left=1)


def published_grid(runs: Sequence[Run], finals: Mapping[str, float]) -> Grid:
    """mIoU of all classes after the last step: that of the runs, and that of each published method."""
    cells = [[run.name, "here", percent(run.figures["all"])] for run in runs]
    cells += [[method, "published", percent(value)] for method, value in finals.items()]
    return Grid(["run or method", "measured", "all"], cells, left=2)


def forgetting_grid(runs: Sequence[Run]) -> Grid:
    """A row per class that was known before the last step: how far it fell from its best, in points."""
    cells = []
    for position, name in enumerate(runs[0].class_names):
        fallen = [run.forgetting_of(position) if position < len(run.rows[-1].iou) else math.nan for run in runs]
        if not all(map(math.isnan, fallen)):
            cells.append([name, str(runs[0].arrival[position]), *(percent(value, 1) for value in fallen)])
    return Grid(["class", "arrives in step", *(run.name for run in runs)], cells, left=1)


def _panels(lines: Mapping[str, Sequence[Row]], num_first: int, references: Sequence[str]) -> list[str]:
    """An SVG per panel of `metrics.figures.curve`, whose text takes colour and font of the page around it."""
    num_classes = next(iter(lines.values()))[0].num_classes
    drawn = []
    for number, group in enumerate(curve_groups(num_first, num_classes)):
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(number)}):
            figure = Figure(figsize=(4.4, 3.5), layout="constrained")
            axes = figure.add_subplot()
            draw_panel(axes, group, {name: [rows] for name, rows in lines.items()}, references)
            axes.set_ylabel("mIoU in percent", color=INK)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
        drawn.append(_inline(file.getvalue(), group[0], f"panel{number}-"))
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


def _samples(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Blocks of pictures: the same test images after each step, a row per run."""
    if not runs:
        return None
    first, blocks = runs[0], []
    for number, sample in enumerate(first.samples):
        rows = [
            (run.name, {step: _mask(mask, run) for step, mask in run.samples[number].predictions.items()})
            for run in runs
            if number < len(run.samples) and np.array_equal(run.samples[number].image, sample.image)
        ]
        blocks.append((_picture(Image.fromarray(sample.image.transpose(1, 2, 0))), _mask(sample.truth, first), rows))
    samples = [sample for run in runs for sample in run.samples]
    classes = [
        ("rgb({}, {}, {})".format(*map(int, first.palette[label])), first.class_names[label])
        for label in occurring(
            [labels for sample in samples for labels in (sample.truth, *sample.predictions.values())]
        )
        if label != IGNORE_INDEX
    ]
    return {"blocks": blocks, "classes": classes, "steps": sorted({step for s in samples for step in s.predictions})}


def _mask(labels: np.ndarray, run: Run) -> str:
    return _picture(colour_mask(labels, run.palette))


def _picture(picture: Image.Image) -> str:
    """A picture as an address that holds it."""
    # The colours of a mask are not mixed.
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS if picture.mode == "RGB" else 0)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
