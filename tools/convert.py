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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from checkpoints import SCHEMA, Checkpoint, Identity, about
from config import DataConfig
from dataset import DATASETS, scenario_of
from modules.authors_names import COUNTER, PREFIX, to_authors
from segmentation_module import form_of, heads_of, sizes_of
from tasks import get_task
from trained import TrainedNetwork, add_checkpoint_options, load_named
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError, exit_code
from utils.options import ToolParser, a_path

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
    path, out = options.ckpt, options.out
    if out.resolve() == path.resolve():
        raise UserError(f"--out {out} is the checkpoint itself: name another file")
    if out.exists() and not options.overwrite:
        raise UserError(f"--out {out} is there already: name another file, or give --overwrite")
    raw = load_checkpoint(path, "the checkpoint")
    if twice := sorted(name for name in raw["model_state"] if PREFIX + name in raw["model_state"]):
        raise UserError(f"{path} has {twice[0]} twice, with and without the prefix {PREFIX!r}")
    ours = "identity" in (raw["trainer_state"] or {})
    if ours == (options.to == "ours"):
        found = "is one of ours already" if ours else "is none of ours"
        raise UserError(f"{path} {found}: --to {'authors' if ours else 'ours'} is the other way")
    for name in ("step", "scenario", "label_protocol") if ours else ():
        if getattr(options, name) is not None:
            raise UserError(f"--{name}: {path} says that itself; leave it out")
    trained = load_named(options, finished=True)
    entries = {name.split(".")[0] for name in trained.checkpoint["method_state"]}
    carried = [entry for entry in IMPORTANCES if entry in entries]
    if carried or trained.checkpoint["trainer_state"].get("regularizer") is not None:
        raise UserError(
            f"{path} carries the {(*carried, 'regularizer')[0]} of EWC, RW or PI, which cannot be converted: the next "
            "step would run without its penalty; train both steps with one code"
        )
    identity = trained.identity if ours else identity_in(trained, options)
    converted = authors_form(trained, raw, path) if ours else our_form(trained, raw, identity)
    describe(trained, raw, identity)
    save_checkpoint(out, converted)
    print(f"{out}: written")


def identity_in(trained: TrainedNetwork, options: argparse.Namespace) -> Identity:
    """The identity of a foreign network, completed by what only the user knows.

    Its step is that of its classifiers; but where domains arrive it has one classifier all along.
    """
    spec, scenario = DATASETS[trained.dataset](DataConfig()), options.scenario
    protocol = options.label_protocol or DataConfig.label_protocol
    config = DataConfig(dataset=trained.dataset, scenario=scenario, label_protocol=protocol)
    if scenario and scenario not in spec.scenarios:
        raise UserError(f"--scenario {scenario}: {spec.name} has {', '.join(spec.scenarios)}")
    task = get_task(spec.facts, options.task)
    steps = range(task.num_steps) if task.kind == "domain" else (trained.step,)
    step = steps[0] if options.step is None else options.step
    if options.step is None and len(steps) > 1:
        raise UserError(f"give --step N: a network that learns domains looks the same after each of {len(steps)} steps")
    if step not in steps:
        raise UserError(f"--step {step}: it is of step {' or '.join(map(str, steps))}")
    branches = 2 if trained.saved.form in ("dual", "frozen") else 1
    identity = trained.identity | {"label_protocol": protocol, "step": step, "branches": branches}
    identity["task"] = [list(arrived) for arrived in task.arrivals[: step + 1]]
    if identity["stem_activation"] is None:
        identity["stem_activation"] = branches == 1
    if scenario or len(spec.scenarios) == 1:  # what nobody says is not claimed: any run may take it
        identity["scenario"] = scenario_of(config, spec)
    return identity


def our_form(trained: TrainedNetwork, raw: Checkpoint, identity: Identity) -> Checkpoint:
    """The authors' checkpoint as a finished step of ours: the same weights, what they are of, and the way back."""
    names = list(raw["model_state"])
    kept = {
        "entries": {name: None if name == "model_state" else value for name, value in raw.items()},
        "names": names,
        "counters": {name: raw["model_state"][name] for name in names if name.endswith(COUNTER)},
    }
    state = {"identity": identity, "finished": True, FOREIGN: kept}
    own = {"model_state": trained.checkpoint["model_state"], "method_state": {}, "trainer_state": state}
    return {"schema": SCHEMA} | dict.fromkeys(ENTRIES) | own


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


def describe(trained: TrainedNetwork, raw: Checkpoint, identity: Identity) -> None:
    """Print what was found."""
    weights = trained.checkpoint["model_state"]
    heads, sizes = heads_of(weights), sizes_of(weights)
    empty = [name for name, value in raw.items() if value is None or (isinstance(value, dict | list) and not value)]
    beside = [name for name in raw if name not in ("model_state", *empty)]
    network = "{backbone}, width {width}, head of {head_channels} channels".format(**sizes)
    by_step = " + ".join(map(str, heads))
    print(f"step {identity['step']} of {trained.dataset}: {sum(heads)} classes, by step {by_step}")
    print(f"classes: {', '.join(trained.class_names)}")
    print(f"network: {network}, {FORMS[form_of(weights)]}")
    print(f"norm {trained.identity['norm_act']}, output stride {trained.identity['output_stride']}")
    print(f"{len(raw['model_state'])} tensors, bit for bit; beside them: {', '.join(beside) or 'nothing'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Convert checkpoints of RCIL's authors, PLOP and MiB, and back.")
    add_checkpoint_options(parser)
    add = parser.add_argument
    add("--to", required=True, choices=("ours", "authors"), help="form that is wanted")
    add("--out", type=a_path, required=True, metavar="FILE", help="checkpoint to write")
    add("--overwrite", action="store_true", help="though it is there already")
    add("--step", type=int, metavar="N", help="step, where domains arrive: weights do not say it")
    add("--scenario", metavar="NAME", help="which images served a step; without it runs of any scenario take the file")
    text = "whose labels it learnt: mib for checkpoints of MiB's own code [plop]"
    add("--label_protocol", choices=("plop", "mib"), help=text)
    return exit_code(convert, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
