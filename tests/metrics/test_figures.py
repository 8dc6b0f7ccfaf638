"""Diagrams: the right figures in the right places."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from methods import METHODS
from metrics.figures import (
    COLOURS,
    LABEL_GAP,
    OF_METHODS,
    apart,
    confusion_figure,
    curve,
    curve_groups,
    draw_panel,
    places,
)
from metrics.results import Row
from tests.published import RUNS

ROWS = RUNS["2022-10-17_voc_15-5s_RCIL_overlap"]


def test_confusion_rows_are_normalised_and_absent_classes_empty():
    axes = confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 8]]), ["ground", "cat", "dog"]).axes[0]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown.filled(-1), [[75, 25, 0], [-1, -1, -1], [0, 0, 100]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ground", "cat", "dog"]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "75", (1, 0): "25", (2, 2): "100"}


def test_many_classes_are_counted_instead_of_named():
    axes = confusion_figure(np.eye(151, dtype=np.int64), [f"name{position}" for position in range(151)]).axes[0]
    assert not any("name" in label.get_text() for label in axes.get_yticklabels())
    assert not axes.texts


def test_a_curve_has_three_panels_and_of_domains_one(tmp_path):
    path = tmp_path / "new" / "curve.png"
    domains = [Row(step, (0.5, 0.7), 2, 0.6) for step in range(2)]
    for rows, num_first, num_runs, shape in ((ROWS, 16, 3, (2, 4)), (domains, 2, 1, (0, 1.5))):
        curve(path, {f"run {index}": [rows] for index in range(num_runs)}, num_first, title="VOC 15-1")
        with Image.open(path) as picture:
            assert picture.format == "PNG" and shape[0] < picture.width / picture.height < shape[1]
        assert list(path.parent.iterdir()) == [path]


def test_labels_at_the_ends_keep_apart_and_inside_the_panel():
    axes = Figure().add_subplot()
    rows = {str(n): [[Row(0, (value,), 1, value)]] for n, value in enumerate((0.99, 0.98, 0.5, math.nan, 0.97))}
    draw_panel(axes, curve_groups(1, 1)[0], rows)
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 4 and heights[0] == pytest.approx(50) and heights[-1] <= 100
    assert all(high - low >= 5.5 - 1e-9 for low, high in pairwise(heights))


def test_no_text_of_a_panel_lies_on_another():
    figure = Figure(figsize=(4, 3.7), layout="constrained")
    runs = {f"run {n}": [[Row(row.step, (), 21, row.overall * (1 - n / 20)) for row in ROWS]] for n in range(10)}
    draw_panel(figure.add_subplot(), curve_groups(21, 21)[0], runs)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert len(boxes) > 20
    for one, other in combinations(boxes, 2):
        wide, high = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert wide <= 1 or high <= 4


@given(st.lists(st.floats(0, 100), min_size=1, max_size=18))
def test_labels_stand_in_their_order_apart_and_inside_the_panel(values: list[float]):
    values = sorted(values)
    heights = apart(values)
    assert all(high - low >= LABEL_GAP - 1e-6 for low, high in pairwise(heights))
    assert heights[0] >= -1e-6 and heights[-1] <= 100 + 1e-6
    if all(high - low >= LABEL_GAP for low, high in pairwise(values)):
        assert heights == pytest.approx(values)


def test_no_two_runs_look_alike():
    axes = Figure().add_subplot()
    runs = [*METHODS, *(f"{number}" for number in range(10)), "RCIL-nocube"]
    draw_panel(axes, curve_groups(21, 21)[0], {run: [ROWS] for run in runs})
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == len(runs)
    # Those of the methods also where the lines lie so close that the markers merge.
    assert len({(colour, line) for colour, _, line in looks[: len(METHODS)]}) == len(METHODS)


def test_a_method_looks_the_same_in_each_diagram():
    """Also under the name of a run of it; a second run of it looks like none."""
    assert {*METHODS} <= {*OF_METHODS}
    alone = {method: places([method])[0] for method in METHODS}
    assert places(["mine", *METHODS])[1:] == list(alone.values()) and len({*alone.values()}) == len(METHODS)
    assert places(["RCIL_overlap", "SSUL-M-seed1", "LWF-MC"]) == [alone["RCIL"], alone["SSUL-M"], alone["LWF-MC"]]
    assert places(["RCIL", "RCIL-nocube", "MiBother"]) == [alone["RCIL"], len(OF_METHODS), len(OF_METHODS) + 1]


def seen_by(colour: str, loss: str) -> np.ndarray:
    """L, a, b of a colour as one sees it who lacks a kind of cone (Vienot, Brettel and Mollon 1999, and CIE 1976)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if loss:
        lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
        lacks = {
            "red": [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
            "green": [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
        }
        linear = np.clip(np.linalg.inv(lms) @ np.array(lacks[loss]) @ lms @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("loss", ["", "red", "green"])
def test_colours_are_told_apart_and_read_on_white(loss: str):
    seen = [seen_by(colour, loss) for colour in COLOURS]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 25
    for lightness, *_ in seen:
        luminance = ((lightness + 16) / 116) ** 3
        assert loss or 1.05 / (luminance + 0.05) >= 4.5  # of WCAG, for text


def test_names_are_no_formulas(tmp_path):
    names = ["$\\frac{", "$$", "a$b", "\\alpha", "x_$1$"]
    FigureCanvasAgg(figure := confusion_figure(np.eye(5, dtype=int), names)).draw()
    assert {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()} >= set(names)
    curve(tmp_path / "a.png", {name: [[Row(0, (0.1, 0.2), 2, 0.15), Row(1, (0.1, 0.2), 2, 0.15)]] for name in names}, 1)
