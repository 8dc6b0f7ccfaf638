"""Diagrams, made with matplotlib's objects alone: no pyplot, hence no global state and nothing to close."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metrics.results import Row
from metrics.tables import shorten
from utils.files import atomic_write

MAX_NAMED = 40
"""Classes whose names fit along a confusion matrix; beyond that the axes count them."""
MAX_WRITTEN = 25
"""Classes whose figures fit into the cells of a confusion matrix."""
INK, FAINT = "#24292f", "#d0d7de"
COLOURS = (
    *("#0969da", "#d1442f", "#1a7f37", "#8250df", "#bf8700"),
    *("#0a7d8c", "#bf3989", "#57606a", "#7c3f00", "#4c4fd6"),
)
"""Of the runs, in their order; told apart by colour-blind readers through the markers too."""
MARKERS = "os^Dv*PhX<"
REFERENCE = "#8b949e"
"""Of lines to compare with."""


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Where the pixels of each class went: `matrix` (C,C), each row in percent of its sum.

    A row without ground truth is left grey. Names along the axes up to 40 classes, counts beyond.
    """
    count = len(matrix)
    totals = matrix.sum(axis=1, keepdims=True)
    parts = np.where(totals > 0, 100 * matrix / np.maximum(totals, 1), np.nan)
    side = 4.5 + min(0.27 * count, 7.5)
    figure = Figure(figsize=(side + 0.3, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#e6e6e6")
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    bar = figure.colorbar(image, cax=axes.inset_axes((1.015, 0, 0.025, 1)))
    bar.outline.set_visible(False)
    bar.set_label("percent of the class's pixels")
    bar.ax.tick_params(length=0, labelsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth")
    if count <= MAX_NAMED:
        names = [shorten(name, 16) for name in class_names[:count]]
        axes.set_xticks(range(count), names, rotation=90, fontsize=8)
        axes.set_yticks(range(count), names, fontsize=8)
    else:
        axes.set_xticks(range(0, count, 10))
        axes.set_yticks(range(0, count, 10))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    if count <= MAX_WRITTEN:
        _write_cells(axes, parts)
    return figure


def _write_cells(axes: Axes, parts: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(np.nan_to_num(parts) >= 0.5), strict=True):
        value = parts[row, column]
        axes.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if value > 60 else INK,
        )


def curve(
    path: Path,
    seeds_by_run: Mapping[str, Sequence[Sequence[Row]]],
    num_first: int,
    title: str = "",
    group_names: tuple[str, str] | None = None,
) -> None:
    """Write a PNG of the mIoU after each step, a line per run, in three panels of one scale.

    A run is the rows of one seed, or of several that have the same steps: then the line is their mean, in a band from
    the lowest to the highest. Panels: the first step's classes (`num_first`, background included), the later ones,
    all. `group_names` says what to call the first two. A task without later classes (domains) gets the last panel only.
    """
    num_classes = next(iter(seeds_by_run.values()))[0][0].num_classes
    groups = curve_groups(num_first, num_classes, group_names)
    figure = Figure(figsize=(0.8 + 3.4 * len(groups), 3.7), dpi=160, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, figure_of) in zip(panels, groups, strict=True):
        draw_panel(axes, name, figure_of, seeds_by_run)
    panels[0].set_ylabel("mIoU in percent", color=INK)
    handles, labels = panels[-1].get_legend_handles_labels()
    if len(seeds_by_run) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def curve_groups(
    num_first: int, num_classes: int, names: tuple[str, str] | None = None
) -> list[tuple[str, Callable[[Row], float]]]:
    """Titles of the panels of `curve`, and the figure of a row that each shows."""
    groups = [("all classes so far", lambda row: row.mean_iou)]
    if num_first < num_classes:
        first, later = names or (
            _group("of step 0", 0, num_first),
            _group("of later steps", num_first, num_classes),
        )
        groups[:0] = [
            (first, lambda row: row.first_mean(num_first)),
            (later, lambda row: row.later_mean(num_first)),
        ]
    return groups


def _group(name: str, start: int, end: int) -> str:
    return f"classes {name}  ({start}–{end - 1})" if end - start > 1 else f"class {name}  ({start})"


def draw_panel(
    axes: Axes,
    name: str,
    figure_of: Callable[[Row], float],
    seeds_by_run: Mapping[str, Sequence[Sequence[Row]]],
    references: Collection[str] = (),
) -> None:
    """One diagram of `curve`: a line per run and its last value beside its end; `references` are grey and dashed."""
    lines = {
        run: ([row.step for row in seeds[0]], 100 * np.array([[figure_of(row) for row in rows] for rows in seeds]))
        for run, seeds in seeds_by_run.items()
    }
    colours = [REFERENCE if run in references else COLOURS[index % len(COLOURS)] for index, run in enumerate(lines)]
    for index, (run, (steps, values)) in enumerate(lines.items()):
        style = {"linestyle": "--", "linewidth": 1.2} if run in references else {"linewidth": 2}
        style |= {"marker": MARKERS[index % len(MARKERS)], "markersize": 3 if run in references else 5}
        mean = values.mean(0)
        axes.plot(steps, mean, color=colours[index], label=run, clip_on=False, **style)
        if len(values) > 1:
            axes.fill_between(steps, values.min(0), values.max(0), color=colours[index], alpha=0.15, linewidth=0)
    axes.set_title(name, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("step", color=INK)
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11, min_n_ticks=1))
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    last = [(steps[-1], values[:, -1].mean(), index) for index, (steps, values) in enumerate(lines.values())]
    for step, at, height, index in _spread(last):
        axes.annotate(
            f"{at:.1f}",
            (step, height),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=colours[index],
            annotation_clip=False,
        )


def _spread(ends: list[tuple[int, float, int]], gap: float = 5.5) -> list[tuple[int, float, float, int]]:
    """(step, value, height of its label, index), labels at least `gap` points apart; NaN values have none."""
    placed: list[tuple[int, float, float, int]] = []
    for step, value, index in sorted((end for end in ends if not np.isnan(end[1])), key=lambda end: end[1]):
        height = max(value, placed[-1][2] + gap) if placed else value
        placed.append((step, value, height, index))
    # What would grow out of the panel goes down instead, so that all panels keep their height.
    for above, (step, value, height, index) in enumerate(reversed(placed)):
        placed[-1 - above] = (step, value, min(height, 100 - above * gap), index)
    return placed
