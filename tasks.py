"""Tasks: in which order the classes, or the domains, of a data set arrive (SPEC 1).

`X-Y` means X classes in step 0 (the background comes on top) and Y in every later step. Orders that no rule
can say are facts in data/DATASET_class_orders.json: the list of classes of each step, by task name. A user's own
order is a text file with a line a step.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utils.errors import UserError
from utils.files import read_text

ORDERS_FOLDER = Path(__file__).parent / "data"


Kind = Literal["class", "domain", "image"]
"""What arrives: classes of pixels, beside a background; domains, all of the same classes; or classes of whole images,
which have no background."""
SETTINGS: dict[Kind, str] = {"class": "classes", "domain": "domains", "image": "images"}
"""What a method says of them that it serves."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the X-Y rule needs of a data set. A unit is what arrives: a class (no background), or a domain."""

    dataset: str
    kind: Kind = "class"
    num_units: int
    num_classes: int  # outputs at the end, background included where there is one
    published: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()  # (what users type, the task that is meant)

    @property
    def units(self) -> str:
        """What they are called."""
        return "domains" if self.kind == "domain" else "classes"

    @property
    def has_background(self) -> bool:
        """Whether class 0 is the background."""
        return self.kind == "class"


@dataclass(frozen=True)
class Task:
    """One order of arrival. Class ids are those of the data set, 0 the background; domain ids count from 0.

    `arrivals`: what each step brings. Classes, with the background 0 first in step 0; kind "domain": domains, each of
    which shows all `num_classes_total` classes; kind "image": classes, which count from 0, without a background.
    `scenario`: which training images a step has, as --scenario says.
    """

    name: str
    dataset: str
    kind: Kind
    arrivals: tuple[tuple[int, ...], ...]
    num_classes_total: int
    scenario: str = "disjoint"

    @property
    def num_steps(self) -> int:
        """Number of steps, T + 1 in the notation of the SPEC."""
        return len(self.arrivals)

    def step(self, number: int) -> "Step":
        """The step of that number, counted from 0."""
        return Step(self, number)

    @property
    def steps(self) -> tuple["Step", ...]:
        """All steps in order."""
        return tuple(Step(self, number) for number in range(self.num_steps))


@dataclass(frozen=True)
class Step:
    """One step of a task: which classes, or domains, it brings and which are known (SPEC 1)."""

    task: Task
    number: int

    def __str__(self) -> str:
        return str(self.number)

    @property
    def classes_arrive(self) -> bool:
        """Whether steps bring new classes; otherwise they bring new domains of the same classes."""
        return self.task.kind != "domain"

    @property
    def has_background(self) -> bool:
        """Whether class 0 is the background, in which the classes of other steps hide."""
        return self.task.kind == "class"

    @property
    def arriving(self) -> tuple[int, ...]:
        """Classes, the background first in step 0, or domains that this step brings."""
        return self.task.arrivals[self.number]

    @property
    def domains(self) -> tuple[int, ...]:
        """Domains that arrive; none where classes arrive."""
        return () if self.classes_arrive else self.arriving

    @property
    def new_classes(self) -> tuple[int, ...]:
        """Classes that this step trains, without the background; where domains arrive: all classes."""
        if not self.classes_arrive:
            return tuple(range(self.task.num_classes_total))
        return self._classes(self.arriving)

    @property
    def old_classes(self) -> tuple[int, ...]:
        """Classes of all earlier steps, in order of arrival, without the background; where domains arrive: none."""
        if not self.classes_arrive:
            return ()
        return tuple(label for arrived in self.task.arrivals[: self.number] for label in self._classes(arrived))

    def _classes(self, arrived: tuple[int, ...]) -> tuple[int, ...]:
        """All but the background."""
        return tuple(label for label in arrived if label != 0 or not self.has_background)

    @property
    def order(self) -> tuple[int, ...]:
        """Classes seen after this step, a background first: class order[i] is output i of the network."""
        if not self.classes_arrive:
            return tuple(range(self.task.num_classes_total))
        return (*((0,) if self.has_background else ()), *self.old_classes, *self.new_classes)

    @property
    def num_old(self) -> int:
        """Outputs of the teacher, 0 in step 0."""
        return len(self.task.step(self.number - 1).order) if self.number > 0 else 0

    @property
    def num_seen(self) -> int:
        """Outputs of the network after this step: |K_t|."""
        return len(self.order)

    @property
    def num_new(self) -> int:
        """Outputs that this step trains: |C_t|, the background counted in step 0; where domains arrive: all."""
        return len(self.arriving) if self.classes_arrive else self.task.num_classes_total

    @property
    def classes_per_head(self) -> tuple[int, ...]:
        """Outputs of each classifier of the network; where domains arrive: one classifier for all."""
        if not self.classes_arrive:
            return (self.task.num_classes_total,)
        return tuple(len(arrived) for arrived in self.task.arrivals[: self.number + 1])


def get_task(facts: Facts, name: str) -> Task:
    """The task that a user calls `name`. Aliases become the name they stand for, in `Task.name` too.

    Raises UserError where the task does not divide the data set.
    """
    name = dict(facts.aliases).get(name, name)
    orders = _named_orders(facts.dataset)
    if name in orders:
        steps = orders[name]
    elif name == "offline":
        steps = _steps_by_rule(facts, facts.num_units, 0)
    else:
        first, later = _parse_rule(facts, name, tuple(orders))
        steps = _steps_by_rule(facts, first, later)
        name = f"{first}-{later}"
    return Task(name, facts.dataset, facts.kind, steps, facts.num_classes)


def read_class_order(facts: Facts, path: Path, class_names: Sequence[str]) -> Task:
    """The task that a text file spells: a line a step, its classes by name or number, with commas in between.

    Empty lines and what follows a # are skipped; the background belongs to step 0 whether it is named or not. The
    task is called as the file. UserError unless each class arrives in exactly one step.
    """
    if facts.kind == "domain":
        raise UserError(f"--class_order {path}: {facts.dataset} learns domains, not classes; use --task")
    lines = read_text(path, "give a text file, a line a step", named=f"--class_order {path}").splitlines()
    steps: list[list[int]] = []
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in line.split("#")[0].split(",")]
        if any(words):
            place = f"--class_order {path}, line {number}"
            steps.append([_class_id(word, class_names, place) for word in words if word])
    arrived = [label for step in steps for label in step]
    twice = sorted(label for label, times in Counter(arrived).items() if times > 1)
    missing = sorted({*range(int(facts.has_background), facts.num_classes)} - {*arrived})
    for labels, fault in ((twice, "more than once"), (missing, "nowhere")):
        if labels:
            named = ", ".join(f"{label} ({class_names[label]})" for label in labels)
            raise UserError(f"--class_order {path}: each class belongs on one line; {fault}: {named}")
    if facts.has_background:
        if 0 in arrived and 0 not in steps[0]:
            raise UserError(f"--class_order {path}: class 0 ({class_names[0]}) belongs to the first line")
        steps[0] = [0, *(label for label in steps[0] if label != 0)]
        if steps[0] == [0]:
            raise UserError(f"--class_order {path}: the first line names the background alone; add a class to it")
    return Task(path.stem, facts.dataset, facts.kind, tuple(map(tuple, steps)), facts.num_classes)


def _class_id(word: str, class_names: Sequence[str], place: str) -> int:
    """The class that `word`, a name or a number, means."""
    if word in class_names:
        return list(class_names).index(word)
    # What is longer is no number of a class, and no name whose letters are worth minutes of comparing.
    start = word[:40]
    if start == word and word.isdecimal() and int(word) < len(class_names):
        return int(word)
    near = difflib.get_close_matches(start, class_names, n=1, cutoff=0.0)[0]
    shown = repr(start) if start == word else f"{start!r}..."
    raise UserError(
        f"{place}: no class {shown}; give names or numbers up to {len(class_names) - 1}; the nearest name is {near}"
    )


def _named_orders(dataset: str) -> dict[str, tuple[tuple[int, ...], ...]]:
    path = ORDERS_FOLDER / f"{dataset}_class_orders.json"
    if not path.is_file():
        return {}
    orders = json.loads(path.read_text())
    return {name: tuple(tuple(arrived) for arrived in steps) for name, steps in orders.items()}


def _parse_rule(facts: Facts, name: str, named: tuple[str, ...]) -> tuple[int, int]:
    """(X, Y) of an X-Y task that divides the data set, else UserError."""
    dataset = facts.dataset
    units = facts.units
    known = ", ".join((*facts.published, *dict(facts.aliases))) or "offline"
    if named:
        known += f", {named[0]} .. {named[-1]}"
    match = re.fullmatch(r"(\d+)-(\d+)", name)
    if match is None:
        raise UserError(f"--task {name}: {dataset} takes X-Y (X {units} first, then Y a step) or one of {known}")
    first, later = int(match[1]), int(match[2])
    left = facts.num_units - first
    if facts.num_units == 1:
        unit = "domain" if facts.kind == "domain" else "class"
        raise UserError(f"--task {name}: {dataset} has one {unit}, too few for steps; use --task offline")
    if first < 1 or left < 1:
        raise UserError(
            f"--task {name}: {dataset} has {facts.num_units} {units}, so step 0 takes 1 to "
            f"{facts.num_units - 1} of them (all: --task offline); known tasks: {known}"
        )
    if later < 1 or left % later != 0:
        possible = ", ".join(f"{first}-{count}" for count in range(1, left + 1) if left % count == 0)
        raise UserError(
            f"--task {name}: {dataset} has {left} {units} left after the first {first}, which steps of "
            f"{later} do not divide; possible: {possible}; known tasks: {known}"
        )
    return first, later


def _steps_by_rule(facts: Facts, first: int, later: int) -> tuple[tuple[int, ...], ...]:
    """Units in their natural order: `first` of them, then `later` a step (not read when none is left)."""
    start = int(facts.has_background)
    units = list(range(start, start + facts.num_units))
    steps = [units[:first]] + [units[at : at + later] for at in range(first, facts.num_units, later or 1)]
    if facts.has_background:
        steps[0] = [0, *steps[0]]
    return tuple(tuple(step) for step in steps)
