"""Diagrams: the right figures in the right places."""

import numpy as np
import pytest
from PIL import Image

from metrics.figures import confusion_figure, curve
from metrics.results import Row
from tools.reporting.published import all_runs

ROWS = all_runs()["2022-10-17_voc_15-5s_RCIL_overlap"]


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


@pytest.mark.parametrize("num_runs", [1, 3])
def test_curve_is_a_picture(tmp_path, num_runs):
    path = tmp_path / "new" / "curve.png"
    curve(path, {f"run {index}": [ROWS] for index in range(num_runs)}, num_first=16, title="VOC 15-1")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > 2 * picture.height
    assert list(path.parent.iterdir()) == [path]


def test_curve_of_domains_has_one_panel(tmp_path):
    rows = [Row(step, (0.5, 0.7), 2, 0.6) for step in range(2)]
    curve(tmp_path / "curve.png", {"RCIL": [rows]}, num_first=2)
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width < 1.5 * picture.height
