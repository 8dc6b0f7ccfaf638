"""What to train on a data set, and with what: the end of tools/check_data.py, with a command line to copy.

Its numbers are rules of thumb, for a start. Nothing of a run depends on them.
"""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median_low
from typing import NamedTuple

import torch

from config import LONGEST_NAME, DataConfig
from dataset.base import DatasetSpec
from dataset.catalogue import scenario_of
from dataset.splits import StepSets
from tasks import Facts, Kind, get_task
from utils.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]
LATER_STEPS = 5
"""As many in the longer of the tasks, or fewer."""
MULTIPLE = 32
"""Of a crop: a body halves its maps up to five times."""
USABLE = 0.8
"""Of the free memory: loaders, libraries and fragments take the rest."""
OF_STEP_0, OF_LATER_STEPS, MOST_EPOCHS = 330, 100, 30
"""Iterations without a GPU, about: minutes, for a first look."""


class Network(NamedTuple):
    """A network to train, the most of a crop and of a batch, and the bytes that a step of RCIL takes with it: at first,
    for each pixel of a batch, and for each pixel and class. docs/PERFORMANCE.md says how these were found."""

    name: str
    options: str
    crop: int
    batch: int
    at_first: float
    per_pixel: float
    per_logit: float = 0.0

    def bytes(self, batch: int, crop: int, classes: int) -> float:
        """Its peak of memory with `batch` images of `crop` x `crop` pixels."""
        return self.at_first + batch * crop**2 * (self.per_pixel + self.per_logit * classes)


PAPERS = Network("the paper's ResNet-101", "--opt_level O1", 512, 24, 2.0e9, 1650, 7.5)
SMALL = Network("a small ResNet-26", "--backbone resnet26 --width 32 --head_channels 128", 256, 16, 0.95e9, 1500, 19)
OF_IMAGES = Network("a ResNet-18", "--opt_level O1", 224, 64, 0.93e9, 900)
SMALL_OF_IMAGES = Network("a small ResNet-18", "--width 16", 224, 16, 0.8e9, 240)

LEARNING: dict[Kind, str] = {
    "class": "--lr 0.05 0.03 --loss_kd 10 --spatial_factors 0.0001 0.000005 --channel_factors 0.0001 0.000005",
    "domain": "--lr 0.05 0.03",
    "image": "--lr 0.05 0.005 --loss_kd 30",
}
"""RCIL's own rates and weights are for the paper's network. These were chosen for small ones: docs/RESULTS.md."""


class Machine(NamedTuple):
    """What there is to train on."""

    gpu: str | None  # its name
    free: float  # bytes of its memory, or of the host's where there is no GPU; inf where nobody says


MEMORY = {"/proc/meminfo": (r"MemAvailable:\s+(\d+) kB", 1024), "/sys/fs/cgroup/memory.max": (r"^(\d+)$", 1)}
"""Where Linux says what is free, and what a container may use."""


def this_machine() -> Machine:
    """The first GPU, or else the host."""
    if torch.cuda.is_available():
        return Machine(torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0])
    said = {Path(name): rule for name, rule in MEMORY.items() if Path(name).is_file()}
    found = [(re.search(pattern, path.read_text()), unit) for path, (pattern, unit) in said.items()]
    return Machine(None, min([unit * int(match[1]) for match, unit in found if match], default=math.inf))


def tasks_of(facts: Facts) -> list[str]:
    """Tasks that divide the data set: those of the papers, where there are any, else at most four, in which a quarter
    or half of the classes come later, at once or in steps; the easiest first. `offline` where there is one class."""
    published = [name for name in facts.published if name != "offline" and _divides(facts, name)]
    if published:
        return sorted(published, key=lambda name: name != DataConfig.task)
    found = []
    for share in (4, 2) if facts.num_units > 1 else ():
        later = max(1, round(facts.num_units / share))
        steps = min(LATER_STEPS, later)
        each = round(later / steps)
        found += [f"{facts.num_units - steps * each}-{count}" for count in (steps * each, each)]
    return list(dict.fromkeys(found)) or ["offline"]


def _divides(facts: Facts, name: str) -> bool:
    try:
        return bool(get_task(facts, name))
    except UserError:
        return False


def propose(
    config: DataConfig,
    spec: DatasetSpec,
    tasks: Mapping[str, Sequence[StepSets]],
    sides: Sequence[int],
    machine: Machine,
) -> list[str]:
    """Lines to print, the last of them a command line.

    `tasks`: the images of each step of each task, the one to train first; `sides`: the shorter side of each picture,
    in pixels.
    """
    tasks = {name: sets for name, sets in tasks.items() if all(map(_can_train, sets))}
    if not tasks:
        return ["too few images for the tasks that divide the classes"]
    task, sets = next(iter(tasks.items()))
    usual, small = (OF_IMAGES, SMALL_OF_IMAGES) if spec.facts.kind == "image" else (PAPERS, SMALL)
    usable, classes = USABLE * machine.free, spec.facts.num_classes
    side = max(MULTIPLE, median_low(sides) // MULTIPLE * MULTIPLE)
    network = usual if machine.gpu and usual.bytes(2, min(usual.crop, side), classes) <= usable else small
    is_published = task in spec.facts.published and not config.class_order
    as_published = is_published and network is usual
    crop = network.crop if as_published else min(network.crop, side)
    # Even, so that it can go in parts, and so small that an epoch of each step has a few.
    batch = max(2, min(network.batch, min(len(of_step.train) for of_step in sets) // 4) // 2 * 2)
    possible = [count for count in range(1, batch // 2 + 1) if batch % count == 0]
    fits = [count for count in possible if network.bytes(batch // count, crop, classes) <= usable]
    parts = min(fits, default=batch // 2)
    lines = [
        f"to train on {machine.gpu or 'this machine, which has no GPU'}:",
        f"  tasks: {', '.join(f'{name} ({len(steps)} steps)' for name, steps in tasks.items())}",
        f"  {network.name}, crops of {crop}, batches of {batch}{f' in {parts} parts' * (parts > 1)}: "
        f"about {network.bytes(batch // parts, crop, classes) / 1e9:.1f} GB"
        + (f" of {machine.free / 1e9:.1f} GB that are free" if machine.free < math.inf else ""),
    ]
    if is_published and not as_published:
        lines.append(f"  as published, on a larger machine: {_script(config, spec, task)}")
    in_parts = f" --accumulate {parts}" * (parts > 1)
    if as_published:
        own_batch = f"BATCH_SIZE={batch} " * (batch != network.batch)
        return [*lines, f"{_before(network)}{own_batch}{_script(config, spec, task)}{in_parts}"]
    words = f"{_start(config, spec, task)} {network.options} --crop_size {crop} --batch_size {batch}{in_parts}"
    first_look = "" if network is usual else f" {_first_look(spec, sets, batch)}"
    return [*lines, f"{_before(network)}{words}{first_look}"]


def _can_train(sets: StepSets) -> bool:
    """Images enough for a batch, and some to score."""
    return bool(len(sets.train) > 1 and sets.val and sets.test)


def _script(config: DataConfig, spec: DatasetSpec, task: str) -> str:
    """The launcher of a published setting."""
    setting = "" if len(spec.scenarios) == 1 else " disjoint" if config.scenario == "disjoint" else " overlap"
    script = f"sh scripts/train.sh RCIL {spec.name} {task}{setting}"
    return f"DATA_ROOT={shlex.quote(str(_root(config)))} {script}"


def _start(config: DataConfig, spec: DatasetSpec, task: str) -> str:
    """The program, and what says which data it learns."""
    name = config.data_root.absolute().name
    words = ["--dataset", spec.name, "--data_root", str(_root(config))]
    words += ["--class_order", str(config.class_order.absolute())] if config.class_order else ["--task", task]
    if len(spec.scenarios) > 1:
        words += ["--overlap"] if scenario_of(config, spec) == "overlapped" else ["--scenario", config.scenario]
    if re.fullmatch(r"\w[\w-]*", name) and len(name) <= LONGEST_NAME:
        words += ["--name", name]
    return f"python run.py {shlex.join(words)}"


def _root(config: DataConfig) -> Path:
    return config.data_root if Path.cwd() == CHECKOUT else config.data_root.absolute()


def _before(network: Network) -> str:
    """What comes first: the way to the checkout, and the weights of the body, where they are not there yet."""
    words = "" if Path.cwd() == CHECKOUT else f"cd {shlex.quote(str(CHECKOUT))} && "
    if network is PAPERS and not any((CHECKOUT / "pretrained").glob("resnet101[_-]*.pth*")):
        words += "sh pretrained/download.sh && "
    return words


def _first_look(spec: DatasetSpec, sets: Sequence[StepSets], batch: int) -> str:
    """Options with which a small network learns in minutes."""
    first, *later = [len(of_step.train) // batch for of_step in sets]
    epochs = [_epochs(OF_STEP_0, first), *([_epochs(OF_LATER_STEPS, mean(later))] if later else [])]
    shape = f"--warmup_share 0.1 --epochs {' '.join(map(str, epochs))}"
    return f"--num_workers 0 {LEARNING[spec.facts.kind]} {shape}"


def _epochs(iterations: int, of_epoch: float) -> int:
    return max(1, min(MOST_EPOCHS, round(iterations / of_epoch)))
