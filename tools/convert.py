"""Checkpoints of the code of RCIL's authors, of PLOP and of MiB to ours and back, bit for bit.

    python tools/convert.py --ckpt THEIR.pth --to ours --dataset voc --task 15-1 --scenario overlapped --out OUR.pth
    python tools/convert.py --ckpt OUR.pth --to authors --out THEIR.pth

Ours has other names of weights (modules/authors_names.py), and says what it is of, so that tools/predict.py,
tools/export.py and run.py need not be told. What only the authors' file has is kept in it for the way back.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from checkpoints import SCHEMA, Checkpoint, Identity, about
from config import DataConfig
from dataset import DATASETS, scenario_of
from modules.authors_names import COUNTER, PREFIX, to_authors
from segmentation_module import form_of, heads_of, sizes_of
from tasks import Task, get_task
from tools.checkpoint_options import add_checkpoint_options, load_named
from trained import TrainedNetwork
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError, one_line

ENTRIES = ("epoch", "model_state", "optimizer_state", "scheduler_state", "best_score", "trainer_state")
"""Of a checkpoint of the authors' code (SPEC 9)."""
FOREIGN = "foreign"
"""Entry of our `trainer_state` with what a converted checkpoint held beside its weights, and how it named them."""
IMPORTANCES = ("fisher", "score", "path_score")
"""What EWC, RW and PI leave to their next step."""
FORMS = {
    "plain": "one branch",
    "dual": "two branches, not merged yet",
    "frozen": "two branches, one of them merged and frozen",
    "merged": "merged into one branch",
}


def convert(options: argparse.Namespace) -> None:
    """Write the checkpoint in the other form, and print what it is of. UserError for what cannot be converted."""
    if options.out.resolve() == options.ckpt.resolve():
        raise UserError(f"--out {options.out} is the checkpoint itself: name another file")
    if options.out.exists() and not options.overwrite:
        raise UserError(f"--out {options.out} is there already: name another file, or give --overwrite")
    raw = load_checkpoint(options.ckpt, "the checkpoint")
    require_one_prefix(raw["model_state"], options.ckpt)
    ours = "identity" in (raw["trainer_state"] or {})
    if ours == (options.to == "ours"):
        found = "is one of ours already" if ours else "is none of ours"
        raise UserError(f"{options.ckpt} {found}: --to {'authors' if ours else 'ours'} is the other way")
    for name in ("step", "scenario", "label_protocol") if ours else ():
        if getattr(options, name) is not None:
            raise UserError(f"--{name}: {options.ckpt} says that itself; leave it out")
    trained = load_named(options)
    refuse_importances(trained, options.ckpt)
    if not trained.finished:
        raise UserError(f"{options.ckpt} is a half-done step {trained.step}: resume it first")
    identity = trained.identity if ours else identity_in(trained, options)
    converted = authors_form(trained, raw, options.ckpt) if ours else our_form(trained, raw, identity)
    print("\n".join(described(trained, raw, identity)))
    save_checkpoint(options.out, converted)
    print(f"{options.out}: written")


def refuse_importances(trained: TrainedNetwork, path: Path) -> None:
    """UserError for what a file of EWC, RW or PI carries, in either form: without it no penalty would be left."""
    entries = {name.split(".")[0] for name in trained.checkpoint["method_state"]}
    carried = next((entry for entry in IMPORTANCES if entry in entries), None)
    if carried or trained.checkpoint["trainer_state"].get("regularizer") is not None:
        raise UserError(
            f"{path} carries the {carried or 'regularizer'} of EWC, RW or PI, which cannot be converted: the next step "
            "would run without its penalty; train both steps with one code"
        )


def require_one_prefix(weights: dict[str, Any], path: Path) -> None:
    """UserError where a weight is there twice, with the prefix and without: either might be the one that counts."""
    bare = [name.removeprefix(PREFIX) for name in weights]
    if twice := sorted({name for name in bare if bare.count(name) > 1} if len({*bare}) < len(bare) else ()):
        raise UserError(f"{path} has {twice[0]} twice, with and without the prefix {PREFIX!r}")


def identity_in(trained: TrainedNetwork, options: argparse.Namespace) -> Identity:
    """The identity of a foreign network, completed by what only the user knows."""
    spec = DATASETS[trained.dataset](None)
    protocol = options.label_protocol or DataConfig.label_protocol
    config = DataConfig(dataset=trained.dataset, scenario=options.scenario, label_protocol=protocol)
    if options.scenario and options.scenario not in spec.scenarios:
        raise UserError(f"--scenario {options.scenario}: {spec.name} has {', '.join(spec.scenarios)}")
    identity = dict(trained.identity)
    branches = 2 if trained.saved.form in ("dual", "frozen") else 1
    if identity["stem_activation"] is None:
        identity["stem_activation"] = branches == 1
    task = get_task(spec.facts, options.task)
    step = step_of(task, trained.step, options.step)
    of_data = {"label_protocol": protocol}
    if options.scenario or len(spec.scenarios) == 1:  # what nobody says is not claimed: any run may take it
        of_data["scenario"] = scenario_of(config, spec)
    of_task = {"step": step, "task": [list(arrived) for arrived in task.arrivals[: step + 1]]}
    return identity | of_data | of_task | {"branches": branches}


def step_of(task: Task, found: int, said: int | None) -> int:
    """The step of a foreign network: `found` from its classifiers, but where domains arrive it has one all along."""
    steps = range(task.num_steps) if task.kind == "domain" else (found,)
    if said is None and len(steps) > 1:
        raise UserError(f"give --step N: a network that learns domains looks the same after each of {len(steps)} steps")
    if said is not None and said not in steps:
        raise UserError(f"--step {said}: it is of step {' or '.join(map(str, steps))}")
    return steps[0] if said is None else said


def our_form(trained: TrainedNetwork, raw: Checkpoint, identity: Identity) -> Checkpoint:
    """The authors' checkpoint as a finished step of ours: the same weights, what they are of, and the way back."""
    names = list(raw["model_state"])
    kept = {
        "entries": {name: None if name == "model_state" else value for name, value in raw.items()},
        "names": names,
        "counters": {name: raw["model_state"][name] for name in names if name.endswith(COUNTER)},
    }
    return {
        "schema": SCHEMA,
        **dict.fromkeys(ENTRIES),
        "model_state": trained.checkpoint["model_state"],
        "method_state": {},
        "trainer_state": {"identity": identity, "finished": True, FOREIGN: kept},
    }


def authors_form(trained: TrainedNetwork, raw: Checkpoint, path: Path) -> Checkpoint:
    """A checkpoint of ours as the authors': as it once came, if it did; else with nothing of the training but its end.

    UserError where what is kept of the authors' file is none.
    """
    with about(path):
        weights = to_authors(trained.checkpoint["model_state"])
    foreign = raw["trainer_state"].get(FOREIGN)
    if foreign is None:
        own = {"epoch": raw.get("epoch"), "best_score": raw.get("best_score")}
        return dict.fromkeys(ENTRIES) | {"model_state": weights, "trainer_state": {"regularizer": None}} | own
    try:
        if "schema" not in raw:  # converted before there was one: the weights have the authors' names as they came
            return foreign | {"model_state": raw["model_state"]}
        bare = {name.removeprefix(PREFIX): tensor for name, tensor in (weights | foreign["counters"]).items()}
        named = {name: bare[name.removeprefix(PREFIX)] for name in foreign["names"]}
        return foreign["entries"] | {"model_state": named}
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{path} was changed: what is kept of the converted checkpoint has no names") from None


def described(trained: TrainedNetwork, raw: Checkpoint, identity: Identity) -> list[str]:
    """What was found, in lines."""
    weights = trained.checkpoint["model_state"]
    heads, sizes = heads_of(weights), sizes_of(weights)
    empty = [name for name, value in raw.items() if value is None or (isinstance(value, dict | list) and not value)]
    beside = [name for name in raw if name not in ("model_state", *empty)]
    step = identity["step"]
    return [
        f"step {step} of {trained.dataset}: {sum(heads)} classes, by step {' + '.join(map(str, heads))}",
        f"classes: {', '.join(trained.class_names)}",
        f"network: {sizes['backbone']}, width {sizes['width']}, head of {sizes['head_channels']} channels, "
        f"{FORMS[form_of(weights)]}",
        f"norm {trained.identity['norm_act']}, output stride {trained.identity['output_stride']}",
        f"{len(raw['model_state'])} tensors, bit for bit; beside them: {', '.join(beside) or 'nothing'}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Convert checkpoints of RCIL's authors, PLOP and MiB, and back.")
    add_checkpoint_options(parser)
    parser.add_argument("--to", required=True, choices=("ours", "authors"), help="form that is wanted")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="checkpoint to write")
    parser.add_argument("--overwrite", action="store_true", help="though it is there already")
    parser.add_argument("--step", type=int, metavar="N", help="step, where domains arrive: weights do not say it")
    text = "which images served a step; without it runs of any scenario take the file"
    parser.add_argument("--scenario", metavar="NAME", help=text)
    text = "whose labels it learnt: mib for checkpoints of MiB's own code [plop]"
    parser.add_argument("--label_protocol", choices=("plop", "mib"), help=text)
    options = parser.parse_args(arguments)
    try:
        convert(options)
        return 0
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or options.out}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
