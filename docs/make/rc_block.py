"""Draws the RC block in training, merged, and in the next step: python docs/make/rc_block.py [FILE]. SPEC 3, 4."""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

FROZEN, TRAINS, PLAIN = "#b9cbe3", "#f6b26b", "#ffffff"
LEFT, RIGHT, MIDDLE = 1.2, 3.8, 2.5
WIDTH, HEIGHT = 2.2, 0.72


def main() -> None:
    """Draw into the file that the command line names."""
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "rc_block.png")


def draw(path: Path) -> None:
    """Write the picture as a PNG."""
    figure = Figure(figsize=(14, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    training, merged, later = figure.subplots(1, 3)
    _two_branches(training, "step t, training", "conv2, bn2\n$W_1,\\ s_1$", TRAINS, "conv2_new,\nbn2_new\n$W_2,\\ s_2$")
    _merged(merged)
    _two_branches(later, "step t + 1, training", "merged: $W, b$\nfrozen", FROZEN, "conv2_new,\nbn2_new\ngoes on")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _two_branches(axes: Axes, title: str, left: str, colour: str, right: str) -> None:
    _frame(axes, title)
    _arrow(axes, (MIDDLE, 7.64), (LEFT, 6.75))
    _arrow(axes, (MIDDLE, 7.64), (RIGHT, 6.75))
    _box(axes, LEFT, 6.1, left, colour, height=1.3)
    _box(axes, RIGHT, 6.1, right, TRAINS, height=1.3)
    _arrow(axes, (LEFT, 5.45), (LEFT, 5.06))
    _arrow(axes, (RIGHT, 5.45), (RIGHT, 5.06))
    _box(axes, LEFT, 4.7, "× $w_1 / 2$", PLAIN, width=1.4)
    _box(axes, RIGHT, 4.7, "× $w_2 / 2$", PLAIN, width=1.4)
    _arrow(axes, (LEFT, 4.34), (MIDDLE, 3.86))
    _arrow(axes, (RIGHT, 4.34), (MIDDLE, 3.86))


def _merged(axes: Axes) -> None:
    _frame(axes, "after the step: one convolution", trains=False)
    _arrow(axes, (MIDDLE, 7.64), (MIDDLE, 6.75))
    _box(axes, MIDDLE, 6.1, "merged: $W, b$", FROZEN, height=1.3)
    _arrow(axes, (MIDDLE, 5.45), (MIDDLE, 3.86))
    formula = "$W = \\frac{1}{2} s_1 W_1 + \\frac{1}{2} s_2 W_2$"
    axes.text(MIDDLE, 4.7, formula, ha="center", va="center", fontsize=17, backgroundcolor="white")


def _frame(axes: Axes, title: str, *, trains: bool = True) -> None:
    """What is the same in all panels: the input, both other convolutions, the sum and the shortcut."""
    axes.set(xlim=(-0.1, 6.1), ylim=(0, 9.6))
    axes.set_axis_off()
    axes.set_title(title, fontsize=19)
    colour = TRAINS if trains else FROZEN
    axes.text(MIDDLE, 9.3, "x", ha="center", va="center", fontsize=17)
    _arrow(axes, (MIDDLE, 9.1), (MIDDLE, 8.36))
    _box(axes, MIDDLE, 8.0, "conv1, bn1, leaky", colour, width=3.0)
    _box(axes, MIDDLE, 3.5, "leaky", PLAIN, width=1.4)
    _arrow(axes, (MIDDLE, 3.14), (MIDDLE, 2.66))
    _box(axes, MIDDLE, 2.3, "conv3, bn3", colour, width=2.4)
    _arrow(axes, (MIDDLE, 1.94), (MIDDLE, 1.46))
    _box(axes, MIDDLE, 1.1, "+, leaky", PLAIN, width=1.4)
    _arrow(axes, (MIDDLE, 0.74), (MIDDLE, 0.15))
    axes.plot([MIDDLE + 0.2, 5.5, 5.5], [9.3, 9.3, 1.1], color="black", linewidth=1.5)
    _arrow(axes, (5.5, 1.1), (MIDDLE + 0.7, 1.1))
    axes.text(5.6, 3.2, "shortcut", rotation=90, va="center", ha="left", fontsize=16)


def _box(
    axes: Axes, x: float, y: float, text: str, colour: str, *, width: float = WIDTH, height: float = HEIGHT
) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, ec="black")
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=15 if width > WIDTH or "\n" not in text else 13)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 1.5})


if __name__ == "__main__":
    main()
