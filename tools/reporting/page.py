"""A report as one page that needs nothing else, and as Markdown."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from metrics.figures import COLOURS
from metrics.grid import Grid
from metrics.history import History
from metrics.pictures import colour_mask, occurring
from metrics.results import Row
from metrics.tables import percent
from tools.reporting.charts import DARK_COLOURS, heat, legend, panels
from tools.reporting.runs import Run
from utils.constants import IGNORE_INDEX

PICTURE_SIDE = 256
"""Longer side of a sample in the page, in pixels."""


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
        panels=[Markup(svg) for svg in panels(lines, runs[0].num_first, list(references))],
        legend=legend(lines, list(references)),
        summary=summary_grid(runs),
        published=published_grid(runs, finals) if finals else None,
        forgotten=forgetting_grid(runs),
        heat=heat,
        colours=COLOURS,
        dark_colours=DARK_COLOURS,
        percent=percent,
        nan=math.nan,
        samples=_samples(runs),
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
    header = ["run", "step", *runs[0].figures]
    cells = [[run.name, str(run.rows[-1].step), *map(percent, run.figures.values())] for run in runs]
    return Grid(header, cells, left=1)


def published_grid(runs: Sequence[Run], finals: Mapping[str, float]) -> Grid:
    """mIoU of all classes after the last step: that of the runs, and that of each published method."""
    cells = [[run.name, "here", percent(run.figures["all"])] for run in runs]
    cells += [[method, "published", percent(value)] for method, value in finals.items()]
    return Grid(["run or method", "measured", "all"], cells, left=2)


def forgetting_grid(runs: Sequence[Run]) -> Grid:
    """A row per class that was known before the last step: how far it fell from its best, in points."""
    first = runs[0]
    known = [
        position
        for position in range(first.rows[0].num_classes)
        if any(not math.isnan(run.forgetting_of(position)) for run in runs if position < len(run.rows[-1].iou))
    ]
    cells = [
        [
            first.class_names[position],
            str(first.arrival[position]),
            *(percent(run.forgetting_of(position), 1) if position < len(run.rows[-1].iou) else "-" for run in runs),
        ]
        for position in known
    ]
    return Grid(["class", "arrives in step", *(run.name for run in runs)], cells, left=1)


def _samples(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Blocks of pictures: the same test images after each step, a row per run."""
    shown = [run for run in runs if run.samples]
    if not shown:
        return None
    first, blocks = shown[0], []
    for number, sample in enumerate(first.samples):
        same = [run for run in shown if number < len(run.samples) and _same(run.samples[number], sample)]
        rows = [
            (run.name, {step: _mask(mask, run) for step, mask in run.samples[number].predictions.items()})
            for run in same
        ]
        blocks.append((_picture(Image.fromarray(sample.image.transpose(1, 2, 0))), _mask(sample.truth, first), rows))
    maps = [m for run in shown for s in run.samples for m in (s.truth, *s.predictions.values())]
    classes = [
        ("rgb({}, {}, {})".format(*map(int, first.palette[label])), first.class_names[label])
        for label in occurring(maps)
        if label != IGNORE_INDEX
    ]
    steps = sorted({step for run in shown for sample in run.samples for step in sample.predictions})
    return {"blocks": blocks, "classes": classes, "steps": steps}


def _same(one: History, other: History) -> bool:
    return np.array_equal(one.image, other.image)


def _mask(labels: np.ndarray, run: Run) -> str:
    return _picture(colour_mask(labels, run.palette))


def _picture(picture: Image.Image) -> str:
    """A picture as an address that holds it."""
    scale = min(1.0, PICTURE_SIDE / max(picture.size))
    resample = Image.Resampling.NEAREST if picture.mode == "P" else Image.Resampling.LANCZOS
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), resample)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
