"""Checkpoints of a run: where they lie, what they hold, and whether one may be resumed or built upon (SPEC 9).

Nothing else knows what a checkpoint holds. Schema 2: `schema`; `model_state`, the network under our own names;
`method_state`, the state dict of the method; `optimizer_state`, `scheduler_state`, `epoch`, `best_score`; and
`trainer_state`, the position in the step with what the step was made of. Files without `schema`, of the authors' code
or of ours before it, have the authors' names of weights; they are read, too. So are merged weights as tools/export.py
writes them, safetensors with what they are of as metadata.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from config import ModelConfig, RunConfig, at_step, shown
from dataset import TaskData, scenario_of
from dataset.base import DatasetSpec, Sample
from dataset.catalogue import images_digest
from dataset.memory import Memory, read_memory
from methods import METHODS
from modules.authors_names import from_authors
from segmentation_module import SegmentationNet, find_pretrained, heads_of, load_network
from tasks import Step
from utils.checkpoint import SAFETENSORS, fingerprint_of, load_checkpoint, load_safetensors, save_checkpoint
from utils.distributed import Dist, barrier, require_same, require_shared, told_by_main
from utils.errors import UserError
from utils.files import digest_of
from utils.log import log

SCHEMA = 2
BESIDE_IDENTITY = ("settings", "pooling", "palette", "mean", "std", "made_by")
"""Entries of the metadata of a merged network, which has its identity and these."""
LOCK_SECONDS = 10
"""How long a lock is waited for: the loader processes of a run that was killed hold it for a few seconds more."""

Checkpoint = dict[str, Any]
Identity = dict[str, Any]
"""Option -> value, for all that makes a step's network what it is."""
Settings = dict[str, Any]
"""Option -> value, for all that its training depends on beside that."""


class Saved(NamedTuple):
    """A checkpoint that was read."""

    path: Path
    network: SegmentationNet
    checkpoint: Checkpoint
    finished: bool
    memory: Memory = ()


class CheckpointStore:
    """The checkpoints of a run over the steps of a task, of which `steps` run."""

    def __init__(self, config: RunConfig, data: TaskData, steps: tuple[Step, ...], dist: Dist) -> None:
        self.config = config
        self.data = data
        self.steps = steps
        self.dist = dist
        self._seen: dict[int, tuple[Path, str]] = {}  # by step, finished checkpoints and their fingerprints

    def path(self, step: int) -> Path:
        """CHECKPOINT/TASK-DATASET_NAME_STEP.pth, which `step` writes."""
        task = self.data.task
        return self.config.checkpoint / f"{task.name}-{task.dataset}_{self.config.name}_{step}.pth"

    def _is_given(self, step: Step) -> bool:
        """Whether `step` is the file of `--step_ckpt`, which is scored and built upon, and not trained."""
        return bool(self.config.step_ckpt) and step.number == 0 == self.steps[0].number

    @contextmanager
    def alone(self, *more: Path) -> Iterator[None]:
        """Keep other runs from writing here and to the places `more` during the block.

        UserError if one does, or if the processes of this run were not all given the same.
        """
        told = [[identity_of(self.config, self.data.spec, step), self._settings(step)] for step in self.steps]
        require_same({"code": _code_digest(), "torch": str(torch.__version__), "configuration": fingerprint_of(told)})
        first = self.path(0)
        places = [first.with_name(f"{first.stem.removesuffix('_0')}.lock"), *more]
        require_shared(first.parent)
        with contextlib.ExitStack() as stack:
            for place in places if self.dist.is_main else ():
                stack.enter_context(_locked(place.with_name(f".{place.name}")))
            yield

    def resumable(self, step: Step) -> Saved | None:
        """What there is of `step`, half-done or finished; None where it is to start.

        Step 0 is finished where it is the file of `--step_ckpt`, which may be of another method. UserError where it is
        of other options, other data or another step before.
        """
        if self._is_given(step):
            return self.finished(step)
        path = self.config.ckpt or self.path(step.number)
        # Told, as processes that decide for themselves could part.
        if not self.config.ckpt and not told_by_main(self.config.resume and path.exists()):
            return None
        saved = self._read(path, step)
        state = saved.checkpoint["trainer_state"]
        if not {"settings", "finished", "images", "predecessor"} <= state.keys():
            raise UserError(f"{path} is of another code base: it can be tested (--test) or built upon (--step_ckpt)")
        check_settings(state["settings"], self._settings(step), path, step=step, finished=saved.finished)
        if not self._has_same_images(step, saved):
            kind = "finished" if saved.finished else "half-done"
            raise UserError(
                f"{path} is a {kind} step {step} with other training images than there are now in {self.data.root}; "
                "put those of then back, or train the step anew with --no_resume"
            )
        if saved.finished:
            if self.config.step_ckpt and step == self.steps[0]:
                self.previous(step)  # it was named, and might be another one than then
            self.require_predecessor(step, saved)
        return saved

    def finished(self, step: Step) -> Saved:
        """The checkpoint of `step`, to be scored. UserError if the step is half-done."""
        given = self.config.step_ckpt if self._is_given(step) else None
        return self._read_finished(self.config.ckpt or given or self.path(step.number), step)

    def previous(self, step: Step) -> Saved | None:
        """The finished step before, of its checkpoint the method's state alone; None at step 0.

        `--step_ckpt` names its file for the first step that trains.
        """
        if step.number == 0:
            return None
        before = step.task.step(step.number - 1)
        given = self._is_given(before) or step == self.steps[0]
        named = self.config.step_ckpt if given else None
        saved = self._read_finished(named or self.path(before.number), before)
        if not self._has_same_images(before, saved):
            fault = f"{saved.path} was trained on other images than there are now in {self.data.root}"
            if not named:
                raise UserError(f"{fault}; put those of then back, or name this file with --step_ckpt to build on it")
            log.warning(fault)
        # Without the state of the optimiser, which takes as much memory as the network.
        return saved._replace(checkpoint={"method_state": saved.checkpoint["method_state"]})

    def network_before(self, step: Step) -> SegmentationNet | None:
        """The network of the step before; None at step 0."""
        saved = self.previous(step)
        return saved.network if saved else None

    def require_predecessor(self, step: Step, saved: Saved) -> None:
        """UserError if `step` was built on another network of the step before than this run has seen, if any."""
        built_on = saved.checkpoint["trainer_state"]["predecessor"]
        path, seen = self._seen.get(step.number - 1, (None, None))
        if seen and str(built_on) != seen:
            raise UserError(
                f"{saved.path} was built on another step {step.number - 1} than {path} holds now; put that one back, "
                f"or train step {step} anew with --no_resume"
            )

    def write(self, step: Step, state: Checkpoint, *, finished: bool = False, wait: bool = True) -> None:
        """Write the checkpoint of `step`, whole or not at all; `state`: the state dict of its trainer.

        To be called in all processes, which then `wait` until it is there.
        """
        trainer_state = state["trainer_state"] | {
            "identity": identity_of(self.config, self.data.spec, step),
            "settings": self._settings(step),
            "images": images_digest(self._images(step, read_memory(state["trainer_state"]["memory"]))),
            "predecessor": self._seen.get(step.number - 1, (None, None))[1],
            "palette": [list(self.data.spec.palette[label]) for label in step.order],
            "finished": finished,
        }
        if finished:
            self._seen[step.number] = self.path(step.number), _fingerprint({"schema": SCHEMA} | state)
        if self.dist.is_main:
            save_checkpoint(self.path(step.number), {"schema": SCHEMA} | state | {"trainer_state": trainer_state})
        if wait:
            # Else another process might end, and torchrun this one with it, before the file is whole.
            barrier()

    def _images(self, step: Step, memory: Memory) -> list[Sample]:
        """What `step` trains on."""
        return [*self.data.sets[step.number].train, *self.data.samples_of(memory)]

    def _has_same_images(self, step: Step, saved: Saved) -> bool:
        """Whether `saved` was trained on the images that there are now, or does not say."""
        if (then := saved.checkpoint["trainer_state"].get("images")) is None:
            return True
        with about(saved.path):
            now = self._images(step, saved.memory)
        return then in (images_digest(now), images_digest(now, with_bytes=False))

    def _settings(self, step: Step) -> Settings:
        """What the training of `step` depends on, in plain values. The batch is that of all processes."""
        config, data, model, optim = self.config, self.config.data, self.config.model, self.config.optim
        rates = {"lr": at_step(optim.lr, step.number), "epochs": at_step(optim.epochs, step.number)}
        options = asdict(optim) | rates | asdict(config.method)
        of_one = {"pretrained": self._pretrained} if step.number == 0 else {}
        if step.number and METHODS[config.method_name].auxiliary:
            of_one = {"aux_root": str(self.data.auxiliary or "images of the step")}
        return {
            "method": config.method_name,
            "crop_size": data.crop_size,
            "data_masking": data.data_masking,
            "batch_size": data.batch_size * self.dist.world_size,
            "no_pretrained": model.no_pretrained,
            "drop_path": model.drop_path,
            "freeze": model.freeze,
            "fix_bn": model.fix_bn,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
            **of_one,
            "opt_level": config.opt_level,
            "accumulate": config.accumulate,
            "random_seed": config.random_seed,
        }

    @cached_property
    def _pretrained(self) -> str | None:
        """A digest of the ImageNet weights that step 0 starts from; None without, or where the file is not there."""
        if self.config.model.no_pretrained or self.config.test:  # a test does not fetch them, and compares no settings
            return None
        with contextlib.suppress(UserError):
            return digest_of(find_pretrained(self.config.model)).hexdigest()[:16]
        return None

    def _read(self, path: Path, step: Step) -> Saved:
        """Network and checkpoint of `step` from the file `path`. UserError if it is of anything else."""
        checkpoint, raw = read_checkpoint(path, f"the checkpoint of step {step}")
        weights, state = checkpoint["model_state"], checkpoint["trainer_state"]
        check_identity(state.get("identity", {}), identity_of(self.config, self.data.spec, step), path)
        heads, found = step.classes_per_head, heads_of(weights)
        if heads != found:
            raise UserError(
                f"{path} has classifiers of {list(found)} classes; step {step} of {step.task.dataset} "
                f"{step.task.name} needs {list(heads)}: give the checkpoint of that step and task"
            )
        with about(path):
            branches = self.config.method.branches
            network = load_network(self.config.model, weights, branches=branches, classes_per_head=heads)
            memory = read_memory(state.get("memory", ()))
        finished = state.get("finished", True)
        if not isinstance(finished, bool):
            raise UserError(f"{path} is of another code base, or was changed: finished is {finished!r}")
        if finished:
            self._seen[step.number] = path, _fingerprint(raw)
        return Saved(path, network, checkpoint, finished, memory)

    def _read_finished(self, path: Path, step: Step) -> Saved:
        saved = self._read(path, step)
        if not saved.finished:
            raise UserError(
                f"{path} is a half-done step {step}, after {saved.checkpoint.get('epoch')} epochs; resume it first: "
                f"--step {step}"
            )
        return saved


@contextmanager
def about(path: Path) -> Iterator[None]:
    """A UserError of the block names the file `path`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_checkpoint(path: Path, what: str) -> tuple[Checkpoint, Checkpoint]:
    """A checkpoint in the present schema, whatever wrote it, and as it lies in the file.

    `what` names it in messages. UserError where it is none, or where its weights have names that no network has.
    """
    raw = _exported(path) if path.suffix == SAFETENSORS else load_checkpoint(path, what)
    schema = raw.get("schema", 1)
    if not isinstance(schema, int) or schema not in (1, SCHEMA):
        raise UserError(
            f"{path} has schema {schema!r}; this version reads 1 and {SCHEMA}: use the version that wrote it"
        )
    state = dict(raw.get("trainer_state") or {})
    if isinstance(identity := state.get("identity"), dict):
        # A file from before there was a choice does not say its head, which is the usual one.
        state["identity"] = {"head": ModelConfig.head} | identity
    if schema == SCHEMA:
        if not isinstance(raw.get("method_state"), dict):
            raise UserError(f"{path} was changed: its method_state is no state dict")
        return raw | {"trainer_state": state}, raw
    if not isinstance(state.get("method"), dict | None):
        raise UserError(f"{path} was changed: what its method kept has no names")
    with about(path):
        return _upgraded(raw, state), raw


def facts_of(state: dict[str, Any], **more: Any) -> dict[str, str]:
    """What the metadata of a merged network says: the identity in a `trainer_state`, its settings, and `more`.

    A value that is no text is written as JSON. A path is nobody else's business.
    """
    settings = {name: value for name, value in state.get("settings", {}).items() if name != "aux_root"}
    facts = state["identity"] | {"branches": 1, "settings": settings} | more
    return {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}


def _exported(path: Path) -> Checkpoint:
    """Merged weights with the metadata of `facts_of`, as the checkpoint of a finished step. UserError for others."""
    weights, about = load_safetensors(path)
    if not {"dataset", "task", "step", "classes"} <= about.keys():
        raise UserError(f"{path} does not say what it is of: name a file that tools/export.py wrote, or a checkpoint")
    facts = {name: _plain(text) for name, text in about.items()}
    beside = {name: facts.pop(name) for name in BESIDE_IDENTITY if name in facts}
    if not isinstance(beside.setdefault("settings", {}), dict):
        raise UserError(f"{path} was changed: its settings are {beside['settings']!r}")
    state = {"identity": facts, "finished": True} | beside
    return {"schema": SCHEMA, "model_state": weights, "method_state": {}, "trainer_state": state}


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _upgraded(checkpoint: Checkpoint, state: dict[str, Any]) -> Checkpoint:
    """A file without schema in the present one."""
    method, schedule = state.pop("method", None) or {}, checkpoint.get("scheduler_state")
    method_state: dict[str, Any] = {}
    if {"fisher", "path_score"} & method.keys():
        count = schedule.get("last_epoch", 0) if isinstance(schedule, dict) else 0
        method_state["_extra_state"] = {"count": count}
    is_half_done = state.get("finished", True) is False
    for entry, value in method.items():
        if isinstance(value, dict) and not (entry in ("score", "path_score") and is_half_done):
            entry = {"before": "snapshot"}.get(entry, entry)
            method_state |= {f"{entry}.{name.replace('.', '/')}": tensor for name, tensor in value.items()}
        elif isinstance(value, torch.Tensor):
            method_state[entry] = value
    settings = state.get("settings")
    if isinstance(settings, dict) and settings.get("loss of the first step") == "binary cross entropy":
        state["settings"] = settings | {"method": "LWF-MC"}
    position = {"phase": 0, "ended": False} if "iteration" in state else {}
    weights = from_authors(checkpoint["model_state"])
    return checkpoint | {
        "schema": SCHEMA,
        "model_state": weights,
        "method_state": method_state,
        "trainer_state": state | position,
    }


def identity_of(config: RunConfig, spec: DatasetSpec, step: Step) -> Identity:
    """What a checkpoint of `step` is of."""
    model, branches = config.model, config.method.branches
    return {
        "dataset": step.task.dataset,
        "task": [list(arrived) for arrived in step.task.arrivals[: step.number + 1]],
        "step": step.number,
        "classes": [spec.class_names[label] for label in step.order],
        "scenario": scenario_of(config.data, spec),
        "label_protocol": config.data.label_protocol,
        "branches": branches,
        "backbone": model.backbone,
        "output_stride": model.output_stride,
        "width": model.width,
        "head": model.head,
        "head_channels": model.head_channels,
        "norm_act": model.norm_act,
        "stem_activation": model.activates_stem(branches),
    }


def check_identity(found: Any, expected: Identity, path: Path) -> None:
    """Raise UserError naming the first difference. A file of another code base, without identity, passes."""
    if not isinstance(found, dict):
        raise UserError(f"{path} is of another code base, or was changed: its identity is {found!r}")
    for option, value in found.items():
        if expected.get(option) != value:
            named = "data_root" if option == "classes" else option
            raise UserError(
                f"{path} is of another run: it has {option} {value}, this run {expected.get(option)}; "
                f"give the file of this run, or another --name, or correct --{named}"
            )


def check_settings(found: Any, expected: Settings, path: Path, *, step: Step, finished: bool) -> None:
    """Raise UserError naming all options that `step` was trained with otherwise than it would be now."""
    if not isinstance(found, dict):
        raise UserError(f"{path} is of another code base, or was changed: its settings are {found!r}")
    changed = [name for name in expected if None not in (found.get(name, None), expected[name])]
    changed = [name for name in changed if found[name] != expected[name]]
    if changed:
        said = ", ".join(f"--{name} {shown(found[name])} then and {shown(expected[name])} now" for name in changed)
        raise UserError(
            f"{path} is a {'finished' if finished else 'half-done'} step {step} with other options: {said}; give those "
            "of then, or another --name, or train the step anew with --no_resume"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` during the block. UserError if another run holds it; a warning where none can be had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise UserError(
            f"{path.parent} is in use by another run of the same name (it holds {path.name}); wait for it, stop it, or "
            "give another --name"
        ) from None
    except (OSError, NotImplementedError) as error:
        log.warning(f"{path} cannot be locked ({error}): see to it that no other run writes there")
    try:
        yield
    finally:
        lock.release()


def _fingerprint(raw: Checkpoint) -> str:
    """Of all that the next step takes over from a checkpoint as it lies in its file."""
    if "schema" in raw:
        return fingerprint_of({name: raw[name] for name in ("model_state", "method_state")})
    method = (raw.get("trainer_state") or {}).get("method") or {}
    return fingerprint_of({"model_state": raw["model_state"], "method": method})


def _code_digest() -> str:
    """Of the program itself: all its Python files but tests, tools and benchmarks."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for folder in (".", "dataset", "methods", "metrics", "modules", "utils"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
