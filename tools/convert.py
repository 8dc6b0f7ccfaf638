"""Checkpoints of the authors' code, of PLOP's and of MiB's to ours and back, bit for bit.

    python tools/convert.py --ckpt THEIRS.pth --to ours --dataset voc --task 15-1 --scenario overlapped --out OURS.pth
    python tools/convert.py --ckpt OURS.pth --to theirs --out THEIRS.pth

All of them keep the weights under the same names. Ours says besides what it is of, so that tools/predict.py,
tools/export.py and run.py need not be told; what only theirs has is kept in it for the way back.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS, scenario_of
from modules.public_names import PREFIX, branch_form, heads_of, sizes_of
from tasks import Task, get_task
from tools.checkpoint_options import add_checkpoint_options, load_named
from trained import TrainedNetwork
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError, one_line
from utils.identity import Identity

ENTRIES = ("epoch", "model_state", "optimizer_state", "scheduler_state", "best_score", "trainer_state")
"""Of a checkpoint of theirs (SPEC 9)."""
FOREIGN = "foreign"
"""Entry of our `trainer_state` with what a converted checkpoint held beside its weights."""
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
    checkpoint = load_checkpoint(options.ckpt, "the checkpoint")
    require_one_prefix(checkpoint["model_state"], options.ckpt)
    ours = "identity" in (checkpoint["trainer_state"] or {})
    if ours == (options.to == "ours"):
        found = "is one of ours already" if ours else "is none of ours"
        raise UserError(f"{options.ckpt} {found}: --to {'theirs' if ours else 'ours'} is the other way")
    for name in ("step", "scenario", "label_protocol") if ours else ():
        if getattr(options, name) is not None:
            raise UserError(f"--{name}: {options.ckpt} says that itself; leave it out")
    trained = load_named(options)
    if not trained.finished:
        raise UserError(f"{options.ckpt} is a half-done step {trained.step}: go on with it first")
    if ours and not isinstance(checkpoint["trainer_state"].get(FOREIGN, {}), dict):
        raise UserError(f"{options.ckpt} was changed: what is kept of the converted checkpoint has no names")
    identity = trained.identity if ours else identity_in(trained, options)
    converted = to_theirs(checkpoint) if ours else to_ours(checkpoint, identity)
    print("\n".join(described(trained, checkpoint, identity)))
    save_checkpoint(options.out, converted)
    print(f"{options.out}: written")


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
    network = trained.saved
    identity = dict(trained.identity)
    branches = 2 if network.form in ("dual", "frozen") else 1
    if identity["stem_activation"] is None:
        identity["stem_activation"] = branches == 1
    task = get_task(spec.facts, options.task)
    step = step_of(task, trained.step, options.step)
    of_data = {"label_protocol": protocol}
    if options.scenario or len(spec.scenarios) == 1:  # what nobody says is not claimed: any run may take it
        of_data["scenario"] = scenario_of(config, spec)
    of_task = {"step": step, "task": [list(arrived) for arrived in task.steps[: step + 1]]}
    return identity | of_data | of_task | {"branches": branches}


def step_of(task: Task, found: int, said: int | None) -> int:
    """The step of a foreign network: `found` from its classifiers, but where domains arrive it has one all along."""
    steps = range(task.num_steps) if task.kind == "domain" else (found,)
    if said is None and len(steps) > 1:
        raise UserError(f"give --step N: a network that learns domains looks the same after each of {len(steps)} steps")
    if said is not None and said not in steps:
        raise UserError(f"--step {said}: it is of step {' or '.join(map(str, steps))}")
    return steps[0] if said is None else said


def to_ours(checkpoint: dict[str, Any], identity: Identity) -> dict[str, Any]:
    """A checkpoint of theirs as a finished step of ours: the same weights, and what they are of."""
    foreign = {name: None if name == "model_state" else value for name, value in checkpoint.items()}
    return {
        **dict.fromkeys(ENTRIES),
        "model_state": checkpoint["model_state"],
        "trainer_state": {"identity": identity, "finished": True, FOREIGN: foreign},
    }


def to_theirs(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of ours as theirs: as it once came, if it did; else with nothing of the training but its end."""
    if (foreign := checkpoint["trainer_state"].get(FOREIGN)) is not None:
        return foreign | {"model_state": checkpoint["model_state"]}
    own = {"epoch": checkpoint.get("epoch"), "best_score": checkpoint.get("best_score")}
    return dict.fromkeys(ENTRIES) | {"model_state": checkpoint["model_state"]} | own


def described(trained: TrainedNetwork, checkpoint: dict[str, Any], identity: Identity) -> list[str]:
    """What was found, in lines."""
    weights = checkpoint["model_state"]
    heads, sizes = heads_of(weights), sizes_of(weights)
    beside = [name for name in checkpoint if name != "model_state" and checkpoint[name] not in (None, {}, [])]
    step = identity["step"]
    return [
        f"step {step} of {trained.dataset}: {sum(heads)} classes, by step {' + '.join(map(str, heads))}",
        f"classes: {', '.join(trained.class_names)}",
        f"network: {sizes['backbone']}, width {sizes['width']}, head of {sizes['head_channels']} channels, "
        f"{FORMS[branch_form(weights)]}",
        f"norm {trained.identity['norm_act']}, output stride {trained.identity['output_stride']}",
        f"{len(weights)} tensors, taken over as they are; beside them: {', '.join(beside) or 'nothing'}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Convert checkpoints of the authors' code, PLOP and MiB, and back.")
    add_checkpoint_options(parser)
    parser.add_argument("--to", required=True, choices=("ours", "theirs"), help="form that is wanted")
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
