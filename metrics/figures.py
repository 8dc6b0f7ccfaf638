"""Diagrams, made with matplotlib's objects alone: no pyplot, hence no global state and nothing to close."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metrics.results import Row
from metrics.scores import present_mean
from metrics.tables import shorten
from utils.files import atomic_write

rcParams["text.parse_math"] = False  # a class may be called $x$: a name is no formula

MAX_NAMED = 60
"""Classes whose names, and figures in the cells, fit into a heat map; beyond that the axes count them."""
COLOURMAP, DARK_FROM = "YlGnBu", 173 / 256
"""From that value on, white text has a greater contrast than black, as WCAG measures it."""
INK, FAINT, REFERENCE = "#24292f", "#d0d7de", "#8b949e"
COLOURS = ("#881100", "#0077cc", "#007744", "#aa6600", "#880088", "#24292f", "#0000ff", "#227777")
"""Told apart with and without red and green cones, and dark enough for text on white: searched for, and tested."""
LINES, MARKERS = ("-", ":", "--"), "os^Dv*PhX<"
OF_METHODS = (
    *("RCIL", "PLOP", "MiB", "LWF", "EWF", "FT", "SSUL", "ILT", "EWC", "LGKD", "SDR", "UCD", "DKD", "STAR", "CFSSeg"),
    *("ST", "LWF-MC", "RW", "PI", "SSUL-M", "DKD-M", "STAR-M", "joint"),
)
"""In this order the methods have their colours and markers, the same in each diagram; what is none comes after them."""
LABEL_GAP = 5.5
"""Least distance of the labels at the ends of the lines, in points of mIoU."""
MOST_NAMED = int(100 / LABEL_GAP)
"""Runs whose names fit at the ends; more have a legend."""

Group = tuple[str, Callable[[Row], float]]
"""What a panel of `curve` is called, and which figure of a row it shows."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", facecolor="white")


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Where the pixels of each class went: `matrix` (C,C), each row in percent of its sum.

    A row without ground truth is left grey. The cells tell percentages that are not rounded to 0.
    """
    totals = matrix.sum(axis=1, keepdims=True)
    parts = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    figure = heat_map(parts, class_names, class_names, least=0.005)
    figure.axes[0].set(xlabel="prediction", ylabel="ground truth")
    return figure


def heat_map(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], least: float = 0.0) -> Figure:
    """`values` (R,C) in 0..1 as colours, NaN as grey, and as percentages from `least` on; `rows`, `columns`: names."""
    num_rows, num_columns = values.shape
    cell = 0.42 if num_columns <= MAX_NAMED else 0.08  # inches
    size = 2.2 + cell * num_columns, 2.2 + (cell if num_rows > MAX_NAMED else 0.42) * num_rows
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.add_subplot(facecolor="#e6e6e6")
    image = axes.imshow(100 * values, cmap=COLOURMAP, vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.05, label="percent")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    axes.tick_params(length=0)
    axes.spines[:].set_color(FAINT)
    for names, axis, turned in ((columns, axes.xaxis, 90), (rows, axes.yaxis, 0)):
        if len(names) <= MAX_NAMED:
            axis.set_ticks(range(len(names)), [shorten(name, 16) for name in names], rotation=turned, fontsize=8)
        else:
            axis.set_ticks(range(0, len(names), 10))
    if num_columns <= MAX_NAMED:
        for y, x in np.argwhere(values >= least):
            _, colour = heat(values[y, x])
            axes.text(x, y, f"{100 * values[y, x]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def heat(value: float) -> tuple[str, str]:
    """Colour of a cell for a figure, 0..1 or NaN, which is transparent, and of the text on it."""
    return to_hex(colormaps[COLOURMAP](value), keep_alpha=True), "#ffffff" if value >= DARK_FROM else "#000000"


def curve(
    path: Path,
    seeds_by_run: Mapping[str, Sequence[Sequence[Row]]],
    num_first: int,
    title: str = "",
    references: Collection[str] = (),
) -> None:
    """Write a PNG of the mIoU, or top-1, after each step, a line per run, in three panels of one scale.

    A run is the rows of one seed, or of several that have the same steps: then the line is their mean, in a band from
    the lowest to the highest; runs that are `references` are grey and dashed. Panels: see `curve_groups`; `num_first`
    classes, background included, are of step 0. In the last one names stand at the ends of the lines.
    """
    first = next(iter(seeds_by_run.values()))[0][0]
    groups = curve_groups(num_first, first.num_classes)
    figure = Figure(figsize=(0.8 + 3.4 * len(groups), 3.7), dpi=160, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        named = axes is panels[-1] and 1 < len(seeds_by_run) <= MOST_NAMED
        draw_panel(axes, group, seeds_by_run, references, named=named)
    panels[0].set_ylabel(f"{first.measure.overall} in percent", color=INK)
    if len(seeds_by_run) > MOST_NAMED:
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(len(seeds_by_run), 6), frameon=False)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    save_figure(figure, path)


def curve_groups(num_first: int, num_classes: int) -> list[Group]:
    """The first step's classes, the later ones, all; where there are no later ones (domains), all alone."""

    def named(of: str, start: int, end: int) -> str:
        return f"classes {of}  ({start}–{end - 1})" if end - start > 1 else f"class {of}  ({start})"

    first = (named("of step 0", 0, num_first), lambda row: present_mean(row.per_class[:num_first]))
    later = (named("of later steps", num_first, num_classes), lambda row: present_mean(row.per_class[num_first:]))
    every = ("all classes so far", lambda row: row.overall)
    return [every] if num_first == num_classes else [first, later, every]


def places(runs: Sequence[str]) -> list[int]:
    """Where each run stands in the order of colours and markers: a run that is called as a method, or after it as
    RCIL-nocube, at that of the method; a second one of the method, and any other, behind them all."""
    found: list[int] = []
    for run in runs:
        named = [method for method in OF_METHODS if re.fullmatch(rf"{re.escape(method)}(\W.*|_.*)?", run)]
        place = OF_METHODS.index(max(named, key=len)) if named else len(OF_METHODS)
        while place in found:
            place = max(place + 1, len(OF_METHODS))
        found.append(place)
    return found


def draw_panel(
    axes: Axes,
    group: Group,
    seeds_by_run: Mapping[str, Sequence[Sequence[Row]]],
    references: Collection[str] = (),
    *,
    named: bool = False,
) -> None:
    """One diagram of `curve`: a line per run and its last value beside its end, and its name where they are `named`."""
    name, figure_of = group
    ends: list[tuple[float, int, str, str]] = []
    for (run, seeds), place in zip(seeds_by_run.items(), places(list(seeds_by_run)), strict=True):
        steps = [row.step for row in seeds[0]]
        values = 100 * np.array([[figure_of(row) for row in rows] for rows in seeds])
        usual = {"color": COLOURS[place % len(COLOURS)], "linewidth": 2, "markersize": 5}
        if turn := place // len(COLOURS):  # the colours have begun anew
            usual |= {"linestyle": LINES[turn % len(LINES)], "markerfacecolor": "white"}
        grey = {"color": REFERENCE, "linewidth": 1.2, "markersize": 3, "linestyle": "--"}
        style = grey if run in references else usual
        axes.plot(steps, values.mean(0), label=run, marker=MARKERS[place % len(MARKERS)], clip_on=False, **style)
        if len(values) > 1:
            axes.fill_between(steps, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
        if not np.isnan(values[:, -1].mean()):
            ends.append((values[:, -1].mean(), steps[-1], style["color"], shorten(run, 28) if named else ""))
    axes.set_title(name, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("step", color=INK)
    axes.set(ylim=(0, 100), yticks=range(0, 101, 20), axisbelow=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11, min_n_ticks=1))
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.tick_params(length=0, colors=INK)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
    ends.sort()
    for height, (value, step, colour, run) in zip(apart([end[0] for end in ends]), ends, strict=True):
        label = f"{value:.1f}  {run}".rstrip()
        axes.annotate(label, (step, height), fontsize=9, fontweight="bold", color=colour, **beside)


def apart(values: Sequence[float]) -> list[float]:
    """Heights for labels of ascending `values`, near them and inside the panel: those that would meet stand around
    their mean, LABEL_GAP from each other."""
    groups: list[list[float]] = []
    for value in values:
        groups.append([value])
        while len(groups) > 1 and heights_of(groups[-1])[0] - heights_of(groups[-2])[-1] < LABEL_GAP:
            last = groups.pop()
            groups[-1] += last
    return [height for group in groups for height in heights_of(group)]


def heights_of(group: Sequence[float]) -> list[float]:
    """Where the labels of a group stand."""
    half = LABEL_GAP * (len(group) - 1) / 2
    middle = min(max(sum(group) / len(group), half), max(100 - half, half))
    return [middle - half + LABEL_GAP * number for number in range(len(group))]
