"""Writes docs/ARCHITECTURE.md and its picture from the code: python docs/make/architecture.py

Rooms and arrows are the files and packages of the program and their imports. A walk names functions, and each must be
there: a sentence about code that is gone ends this script, and a test.
"""

import ast
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

ROOT = Path(__file__).resolve().parents[2]
PAGE, PICTURE = ROOT / "docs" / "ARCHITECTURE.md", ROOT / "docs" / "architecture.png"
OUTSIDE = {"tests", "tools", "benchmarks", "scripts", "docs"}
INK, FAINT, ROOM = "#24292f", "#8b949e", "#dbe7f5"

BATCH = (
    ("dataset/__init__.py: TrainBatches.epoch", "gives images and labels, uint8, as the step sees them"),
    ("train.py: Trainer.train_epoch", "takes one batch, and yields at the end of its iteration"),
    ("train.py: Objective.forward", "shows it to the teacher, which is frozen, and to the student"),
    ("segmentation_module.py: SegmentationNet.forward", "gives logits and features, a SegOutput, for either"),
    ("methods/base.py: Method.losses", "turns both into losses by name; their sum is minimised"),
    ("utils/optim.py: Updater.update", "runs the backward pass, lets the method add penalties, and takes a step"),
    ("metrics/meter.py: LossMeter.add", "keeps the losses on the device until they are reported"),
)
CHECKPOINT = (
    ("run.py: save_or_stop", "asks utils/stopping.py after each iteration whether to save or to stop"),
    ("train.py: Trainer.state_dict", "collects weights, method, optimiser, schedule, position and random numbers"),
    ("checkpoints.py: CheckpointStore.write", "adds what the step was made of: options, data, the step before"),
    ("utils/checkpoint.py: save_checkpoint", "writes the file, whole or not at all"),
    ("checkpoints.py: read_checkpoint", "reads it in the next run; older files, and the authors', are converted"),
    (
        "checkpoints.py: CheckpointStore.resumable",
        "refuses what is of other options, other data or another step before",
    ),
    ("train.py: Trainer.load_state_dict", "puts everything back, so that the run ends as if never interrupted"),
    ("checkpoints.py: CheckpointStore.previous", "hands the finished step to the next one as its previous network"),
    ("methods/base.py: Method.inherit", "hands the method what it left there"),
)
PLACES = (
    (
        "methods/__init__.py: METHODS",
        "**A method** is a file in methods/ and a line in `METHODS`: [a worked example](ADDING_A_METHOD.md).",
    ),
    (
        "modules/backbones.py: BACKBONES",
        "**A body** is a file in modules/ and a line in `BACKBONES`: modules/backbones.py says what it must give.",
    ),
    (
        "dataset/__init__.py: DATASETS",
        "**A data set** is a file in dataset/ and a line in `DATASETS`: [a worked example](ADDING_A_DATA_SET.md).",
    ),
)


@cache
def rooms() -> dict[str, list[Path]]:
    """The files of each top-level module or package of the program."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        top = path.relative_to(ROOT).parts[0]
        if top not in OUTSIDE and not top.startswith("."):
            found.setdefault(top.removesuffix(".py"), []).append(path)
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports from."""
    return {room: {name for path in paths for name in imported(path)} - {room} for room, paths in rooms().items()}


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & rooms().keys()


def levels() -> dict[str, int]:
    """Room -> how many rooms lie below it in the longest chain of imports. ValueError where imports run in a circle."""
    found: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise ValueError(f"imports run in a circle: {' -> '.join((*above, room))}")
        if room not in found:
            # Errors are raised everywhere, the leaves included; utils as a whole reads the leaves.
            below = imports()[room] - ({"utils"} if room in ("config", "tasks") else set())
            found[room] = 1 + max((level(other, (*above, room)) for other in below), default=-1)
        return found[room]

    for room in rooms():
        level(room)
    return found


def arrows() -> list[tuple[str, str]]:
    """Imports that no chain of other imports implies."""
    height = levels()

    @cache
    def reach(room: str) -> frozenset[str]:
        below = {other for other in imports()[room] if height[other] < height[room]}
        return frozenset(below.union(*(reach(other) for other in below)))

    found = []
    for room in rooms():
        below = {other for other in imports()[room] if height[other] < height[room]}
        implied = set().union(*(reach(other) for other in below)) if below else set()
        found += [(room, other) for other in sorted(below - implied)]
    return found


def placed() -> dict[Any, tuple[float, float]]:
    """Room -> where its middle is drawn; and (room, other room, level) -> where an arrow passes a level between them.

    Each level is a row, ordered so that what is joined lies close together.
    """
    height = levels()
    rows: list[list[Any]] = [
        sorted(room for room in height if height[room] == y) for y in range(max(height.values()) + 1)
    ]
    joined: dict[Any, list[Any]] = {room: [] for room in rooms()}
    for room, other in arrows():
        passes = [(room, other, y) for y in range(height[room] - 1, height[other], -1)]
        for stop in passes:
            rows[stop[2]].append(stop)
        for above, below in pairwise([room, *passes, other]):
            joined.setdefault(above, []).append(below)
            joined.setdefault(below, []).append(above)
    at: dict[Any, tuple[float, float]] = {}
    for _ in range(8):
        for y, row in enumerate(rows):
            means = {
                node: fmean(at[other][0] for other in known)
                for node in row
                if (known := [other for other in joined[node] if other in at])
            }
            row.sort(key=lambda node: means.get(node, 0.0))
            widths = [2.7 if node in height else 0.9 for node in row]
            lefts = [sum(widths[:column]) - sum(widths) / 2 for column in range(len(row))]
            at |= {node: (left + width / 2, 1.4 * y) for node, left, width in zip(row, lefts, widths, strict=True)}
    return at


def draw(path: Path) -> None:
    """Write the picture; its description says what it shows."""
    at, height = placed(), levels()
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for room, other in arrows():
        passes = [at[room, other, y] for y in range(height[room] - 1, height[other], -1)]
        # A level between is passed straight down.
        beside = [(x, y + side) for x, y in passes for side in (0.36, -0.36)]
        ends = (at[room][0], at[room][1] - 0.36), (at[other][0], at[other][1] + 0.36)
        line = Line([ends[0], *beside, ends[1]])
        style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": FAINT, "fill": False, "linewidth": 1.2}
        axes.add_patch(FancyArrowPatch(path=line, **style))
    for room in height:
        x, y = at[room]
        name = room + (".py" if (ROOT / f"{room}.py").is_file() else "/")
        corner, size = (x - 1.1, y - 0.3), (2.2, 0.6)
        axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0.06", fc=ROOM, ec=INK, zorder=2))
        axes.text(x, y, name, ha="center", va="center", fontsize=11, color=INK, zorder=3)
    axes.set_xlim(-6, 6)
    axes.set_ylim(-0.6, 1.4 * max(height.values()) + 0.6)
    axes.axis("off")
    figure.savefig(path, dpi=80, metadata={"Software": None, "Description": described()})


def described() -> str:
    """What the picture shows, as text."""
    return json.dumps({"rooms": levels(), "arrows": arrows()}, sort_keys=True)


def walk(stations: tuple[tuple[str, str], ...]) -> str:
    """A numbered list. ValueError where a station is not in the code."""
    lines = []
    for number, (place, text) in enumerate(stations, 1):
        require(place)
        file, _, symbol = place.partition(": ")
        lines.append(f"{number}. `{symbol}` in [{file}](../{file}) {text}.")
    return "\n".join(lines)


def require(place: str) -> None:
    """ValueError unless "FILE: NAME" or "FILE: CLASS.METHOD" is in the code."""
    file, _, symbol = place.partition(": ")
    body = ast.parse((ROOT / file).read_text()).body
    for name in symbol.split("."):
        found = next((node for node in body if name in names_of(node)), None)
        if found is None:
            raise ValueError(f"{place}: there is no {name}")
        body = getattr(found, "body", [])


def names_of(node: ast.AST) -> set[str]:
    """What a statement defines."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)}


def summary(room: str) -> str:
    """The first sentence of what a room says of itself."""
    docstring = None
    for path in (ROOT / f"{room}.py", ROOT / room / "__init__.py"):  # checkpoints/ of a run is no room
        if path.is_file() and docstring is None:
            docstring = ast.get_docstring(ast.parse(path.read_text()))
    return (docstring or PACKAGES[room]).split("\n\n")[0].replace("\n", " ")


PACKAGES = {
    "modules": "Parts of the network: bodies, head, two parallel branches, norms, and the authors' names of weights.",
    "metrics": "Scores, results table, journal, TensorBoard and pictures.",
    "utils": "Files, processes, signals, optimiser, random numbers and the log.",
}


def page() -> str:
    """The page as it should be."""
    order = sorted(rooms(), key=lambda room: (-levels()[room], room))
    table = "\n".join(f"| `{room}` | {summary(room)} |" for room in order)
    for place, _ in PLACES:
        require(place)
    places = "\n".join(f"- {text}" for _, text in PLACES)
    return TEXT.format(table=table, batch=walk(BATCH), checkpoint=walk(CHECKPOINT), places=places)


TEXT = """# Architecture

Made by `python docs/make/architecture.py` from the code; a test compares.

![the rooms of the program and their imports](architecture.png)

An arrow is an import, and all point one way. What follows from other arrows is left out.

| room | what it is |
|---|---|
{table}

`tools/` and `benchmarks/` use the program and are not used by it.

## The walk of one batch

{batch}

## The walk of one checkpoint

{checkpoint}

## Where to add something

{places}

Each needs nothing else: a test adds one of each to a copy of the tree.
"""


if __name__ == "__main__":
    draw(PICTURE)
    PAGE.write_text(page())
