"""Random data sets, tasks and seeds, for the properties of all layers."""

from hypothesis import Phase, settings
from hypothesis import strategies as st

from tasks import Facts, Step, Task, get_task
from tests.helpers import SPECS

IGNORED = 255

seeds = st.integers(0, 2**32 - 1)

with_networks = settings(max_examples=25, phases=[Phase.generate])
"""For tests that build networks: to look for the simplest counter-example would take minutes."""


def divisors(number: int) -> list[int]:
    return [count for count in range(1, number + 1) if number % count == 0]


@st.composite
def facts(draw: st.DrawFn, min_units: int = 1) -> Facts:
    """One of the data sets, or another one of up to 254 classes or domains."""
    if draw(st.booleans()):
        return draw(st.sampled_from([spec.facts for spec in SPECS.values()]))
    kind, units = draw(st.sampled_from(["class", "domain"])), draw(st.integers(min_units, 254))
    num_classes = units + 1 if kind == "class" else draw(st.integers(1, 254))
    return Facts(dataset="mine", kind=kind, num_units=units, num_classes=num_classes)


@st.composite
def rules(draw: st.DrawFn) -> tuple[Facts, int, int]:
    """A data set and the X and Y of an X-Y that divides it."""
    of = draw(facts(min_units=2))
    first = draw(st.integers(1, of.num_units - 1))
    return of, first, draw(st.sampled_from(divisors(of.num_units - first)))


NAMED = [
    (spec.facts, name)
    for spec in SPECS.values()
    for name in (*spec.facts.published, *dict(spec.facts.aliases), "offline")
] + [(SPECS["voc"].facts, f"15-5s_{letter}") for letter in "bcdefghijklmnopqrstuvw"]

ruled_tasks = st.one_of(
    rules().map(lambda rule: get_task(rule[0], f"{rule[1]}-{rule[2]}")),
    st.sampled_from(NAMED).map(lambda named: get_task(*named)),
)


@st.composite
def shuffled_tasks(draw: st.DrawFn, max_classes: int = 9) -> Task:
    """Classes in any order, any number of them in a step."""
    count = draw(st.integers(1, max_classes))
    order = draw(st.permutations(range(1, count + 1)))
    starts = sorted(draw(st.sets(st.integers(1, count - 1)))) if count > 1 else []
    steps = [tuple(order[start:end]) for start, end in zip([0, *starts], [*starts, count], strict=True)]
    return Task("shuffled", "mine", "class", ((0, *steps[0]), *steps[1:]), count + 1)


def steps_of(tasks: st.SearchStrategy[Task]) -> st.SearchStrategy[Step]:
    """One of the steps of a task."""
    return tasks.flatmap(lambda task: st.sampled_from(task.steps))
