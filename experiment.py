"""What all steps of a run share: its settings, and the networks, files and data that follow from them."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch

from config import RunConfig, at_step
from dataset import Loaders, build_loaders, scenario_of, select_steps, showcase
from dataset.base import DatasetSpec, Sample, StepDataset
from dataset.index import fingerprint
from dataset.splits import StepSets, refuse_empty
from dataset.transform import derive_seed
from methods import METHODS
from methods.base import Method, State
from metrics.report import Reporter
from modules.public_names import heads_of, to_public
from segmentation_module import SegmentationNet, build_first_student, build_student, freeze_parts_, load_network
from tasks import Task
from utils.checkpoint import fingerprint_of, load_checkpoint, save_checkpoint, step_path
from utils.distributed import Dist, barrier, main_process_first, require_same
from utils.errors import UserError
from utils.first_step import find, key_of, lend, remember
from utils.identity import (
    Identity,
    Settings,
    check_identity,
    check_settings,
    code_digest,
    identity_of,
    settings_of,
)
from utils.interrupt import Interrupts
from utils.lock import locked
from utils.log import log
from utils.profiling import Watch, profiled
from utils.random_state import seed_everything

Checkpoint = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One run of run.py over the steps of a task."""

    config: RunConfig
    spec: DatasetSpec
    task: Task
    steps: tuple[int, ...]  # those that run
    dist: Dist
    report: Reporter
    interrupts: Interrupts = field(default_factory=Interrupts)
    fingerprints: dict[int, str] = field(default_factory=dict)
    """By step, of the finished checkpoints that this run has seen."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs from writing where this one does. UserError if one is there, or if the processes of this
        one were not all given the same."""
        told = [[step, self.identity(step), self._settings(step)] for step in self.steps]
        require_same({"code": code_digest(), "torch": str(torch.__version__), "configuration": fingerprint_of(told)})
        first, results = self.path(0), self.report.results
        name = f".{first.stem.removesuffix('_0')}.lock"
        places = [first.with_name(name), self.report.folder / ".lock", results.with_name(f".{results.stem}.lock")]
        with contextlib.ExitStack() as stack:
            for place in places if self.dist.is_main else ():
                stack.enter_context(locked(place))
            yield

    def path(self, step: int) -> Path:
        """The checkpoint that `step` writes."""
        return step_path(self.config.checkpoint, self.task.name, self.task.dataset, self.config.name, step)

    def saved_path(self, step: int) -> Path:
        """The checkpoint that `step` is gone on from, or tested."""
        return self.config.ckpt or self.path(step)

    @cached_property
    def sets(self) -> list[StepSets]:
        """The images of every step of the task. The first look reads the data set, and logs how many they are.

        UserError where a step that runs has none.
        """
        sets = select_steps(self.config.data, self.spec, self.task)
        for step in self.steps:
            refuse_empty(sets[step], self.task, step)
        require_same({"data": fingerprint_of([images_digest(images) for of_step in sets for images in of_step])})
        arriving = [self.spec.arriving(self.task, step) for step in range(self.task.num_steps)]
        self.report.images(arriving, [tuple(map(len, of_step)) for of_step in sets], self.scenario)
        return sets

    @property
    def scenario(self) -> str:
        """Which images serve a step."""
        return scenario_of(self.config.data, self.spec)

    def loaders(self, step: int) -> Loaders:
        """The data of `step` for this process."""
        seed, dist = self.config.random_seed, self.dist
        data = self.config.data, self.spec, self.task, step, self.sets[step]
        return build_loaders(*data, seed=seed, rank=dist.rank, world_size=dist.world_size)

    @cached_property
    def showcase(self) -> StepDataset:
        """The test images that are drawn after every step."""
        images = self.sets[-1].test, self.config.sample_num
        return showcase(self.config.data, self.spec, self.task, *images)

    def identity(self, step: int) -> Identity:
        """What a checkpoint of `step` is of."""
        names = tuple(self.spec.class_names[label] for label in self.task.order(step))
        return identity_of(self.config, self.task, step, scenario=self.scenario, class_names=names)

    def method(self, step: int) -> Method:
        """The method, told about `step`."""
        return METHODS[self.config.method_name](self.config.method, self.task, step)

    def load(self, path: Path, step: int) -> tuple[SegmentationNet, Checkpoint]:
        """Network and checkpoint of `step` from the file `path`. Raises UserError if it is of anything else."""
        checkpoint = load_checkpoint(path, f"the checkpoint of step {step}")
        weights, state = checkpoint["model_state"], checkpoint.get("trainer_state") or {}
        check_identity(checkpoint, self.identity(step), path)
        heads, found = self.task.classes_per_head(step), heads_of(weights)
        if heads != found:
            raise UserError(
                f"{path} has classifiers of {list(found)} classes; step {step} of {self.task.dataset} "
                f"{self.task.name} needs {list(heads)}: give the checkpoint of that step and task"
            )
        branches = self.config.method.branches
        try:
            network = load_network(self.config.model, weights, branches=branches, classes_per_head=heads)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        finished = state.get("finished", True)
        if not isinstance(finished, bool):
            raise UserError(f"{path} is of another code base, or was changed: finished is {finished!r}")
        if finished:
            self.fingerprints[step] = _fingerprint(weights, state.get("method"))
        return network, checkpoint

    def load_finished(self, path: Path, step: int) -> tuple[SegmentationNet, Checkpoint]:
        """As `load`. Raises UserError if the step is half-done, too."""
        network, checkpoint = self.load(path, step)
        if step not in self.fingerprints:
            raise UserError(
                f"{path} is a half-done step {step}, after {checkpoint.get('epoch')} epochs; go on with it first: "
                f"--step {step}"
            )
        return network, checkpoint

    def load_saved(self, step: int) -> tuple[SegmentationNet | None, Checkpoint | None]:
        """The half-done or finished student of `step` with its checkpoint, where there is one to go on from."""
        path = self.saved_path(step)
        if not self.config.ckpt:
            if not self.config.resume:
                return None, None
            if step == 0:
                self.borrow_first_step()
            if not path.exists():
                return None, None
        student, saved = self.load(path, step)
        state = saved.get("trainer_state") or {}
        if not {"settings", "finished", "images", "predecessor"} <= state.keys():
            raise UserError(f"{path} is of another code base: it can be tested (--test) or built upon (--step_ckpt)")
        finished = state["finished"]
        check_settings(state["settings"], self._settings(step), path, step=step, finished=finished)
        if not finished and state["images"] != images_digest(self.sets[step].train):
            raise UserError(
                f"{path} is a half-done step {step} with other training images than there are now; put those of then "
                "back, or train the step anew with --no-resume"
            )
        if finished:
            self.require_predecessor(step, saved)
        return student, saved

    def require_predecessor(self, step: int, saved: Checkpoint) -> None:
        """UserError if `step` was built on another network of the step before than this run has seen, if any."""
        built_on, seen = saved["trainer_state"]["predecessor"], self.fingerprints.get(step - 1)
        if seen and str(built_on) != seen:
            raise UserError(
                f"{self.saved_path(step)} was built on another step {step - 1} than "
                f"{self.path(step - 1)} holds now; put that one back, or train step {step} anew with --no-resume"
            )

    def _settings(self, step: int) -> Settings:
        """What the training of `step` depends on. Methods with the same first step may go on from each other's."""
        method, config = METHODS[self.config.method_name], self.config.method
        if step:
            own = {"method": self.config.method_name} | asdict(config)
        else:
            shaping = {name: getattr(config, name) for options in method.carries.values() for name in options}
            own = {"loss of the first step": method.first_loss} | shaping
        return settings_of(self.config, step, world_size=self.dist.world_size, method=own)

    def first_step_keys(self) -> list[str]:
        """Digests of all that determines step 0: of its network, and with any part of what the method leaves beside
        it. The last is with all of it, which is what this run needs."""
        config, data, optim = self.config, self.config.data, self.config.optim
        method = METHODS[config.method_name]
        rates = {"lr": at_step(optim.lr, 0), "epochs": at_step(optim.epochs, 0)}
        parts = {
            "loss": method.first_loss,
            "identity": self.identity(0),
            "images": fingerprint(self.sets[0].train, Path(), self.spec.label_values),
            "crop_size": data.crop_size,
            "data_masking": data.data_masking,
            "batch": [data.batch_size, self.dist.world_size],
            "model": asdict(config.model),
            "optimiser": asdict(optim) | rates,
            "opt_level": config.opt_level,
            "seed": config.random_seed,
        }
        left = [
            (entry, {name: getattr(config.method, name) for name in options})
            for entry, options in method.carries.items()
        ]
        some = chain.from_iterable(combinations(left, count) for count in range(len(left) + 1))
        return [key_of(parts | {"left": part}) for part in some]

    def borrow_first_step(self) -> None:
        """Take over the finished first step of another run in the folder, if all that determines it is the same."""
        there = self.path(0).exists()
        barrier()  # all have looked, before anything changes
        if there:
            return
        key = self.first_step_keys()[-1]
        with main_process_first() as is_main:
            source = find(self.config.checkpoint, key) if is_main else None
            if source is None:
                return
            try:
                state = load_checkpoint(source, "a first step to share").get("trainer_state") or {}
            except UserError as error:
                log.warning(f"step 0 is trained anew: {error}")
                return
            if key in (state.get("first_step") or ()) and state.get("finished"):
                log.info(f"step 0 is that of {source}: the same network, data and schedule")
                lend(source, self.path(0))

    def load_previous(self, step: int, *, is_first: bool) -> tuple[SegmentationNet | None, State]:
        """The network of the step before, and what the method left for this one; None and nothing at step 0.

        `--step_ckpt` names its file for the first step that runs.
        """
        if step == 0:
            return None, {}
        path = self.config.step_ckpt if is_first and self.config.step_ckpt else self.path(step - 1)
        network, checkpoint = self.load_finished(path, step - 1)
        return network, (checkpoint.get("trainer_state") or {}).get("method", {})

    def new_student(self, step: int, previous: SegmentationNet | None) -> SegmentationNet:
        """The student as `step` begins, before the method prepares it (SPEC 4, 6)."""
        method = self.config.method
        heads = self.task.classes_per_head(step)
        if previous is None:
            return build_first_student(self.config.model, branches=method.branches, classes_per_head=heads)
        return build_student(
            previous,
            new_classes=self.task.num_seen(step) - self.task.num_old(step),
            init_weights=method.init_balanced,
            init_bias=method.sets_bias,
        )

    def networks(
        self, step: int, student: SegmentationNet | None, method: Method, *, dtype: torch.dtype, is_first: bool
    ) -> tuple[SegmentationNet, SegmentationNet | None]:
        """Student, unless there is one to go on with, and teacher of `step`, on the device; None if it has no teacher.

        `dtype`: that of the activations in training. What is not needed of the network before is let go.
        """
        previous, carried = self.load_previous(step, is_first=is_first)
        if student is None:
            student = self.new_student(step, previous)
            method.prepare(student)
        freeze_parts_(student, body=self.config.model.freeze, norms=self.config.model.fix_bn)
        student.place_(self.dist.device, dtype)
        method.begin(student, previous, carried)
        if previous is None or not method.needs_teacher:
            return student, None
        teacher = previous.for_inference().to(self.dist.device)
        teacher.share_frozen_(student)
        return student, teacher

    def save(self, step: int, student: SegmentationNet, *, finished: bool, state: Checkpoint) -> None:
        """Write the checkpoint of `step` (SPEC 9); `state` holds everything but the weights."""
        keys = self.first_step_keys() if step == 0 and finished else []
        trainer_state = state["trainer_state"] | {
            "identity": self.identity(step),
            "settings": self._settings(step),
            "images": images_digest(self.sets[step].train),
            "predecessor": self.fingerprints.get(step - 1),
            "finished": finished,
            "first_step": keys,
        }
        weights = to_public(student.state_dict())
        if finished:
            self.fingerprints[step] = _fingerprint(weights, trainer_state["method"])
        save_checkpoint(self.path(step), state | {"model_state": weights, "trainer_state": trainer_state})
        for key in keys:
            remember(self.config.checkpoint, key, self.path(step))

    def watch(self, step: int) -> Watch:
        """What looks at the batches of the first epoch of `step`: the profiler, if `--profile` asks for it."""
        if not (self.config.profile and self.dist.is_main):
            return iter
        path = self.report.folder / "profile" / f"step{step}.json"
        return partial(profiled, iterations=self.config.profile, path=path)

    def seed(self, step: int, epoch: int, iteration: int = 0) -> None:
        """Seed everything random by step, position and process."""
        position = (epoch, self.dist.rank, iteration) if iteration else (epoch, self.dist.rank)
        seed_everything(derive_seed(self.config.random_seed, step, *position))


def _fingerprint(weights: dict[str, torch.Tensor], method: State | None) -> str:
    """Of all that the next step takes over."""
    return fingerprint_of({"model_state": weights, "method": method or {}})


def images_digest(samples: Sequence[Sample]) -> str:
    """Which images these are, wherever the data set lies: their names and sizes, in order."""
    return fingerprint_of([[sample.image.parent.name, sample.image.name, *sample.size] for sample in samples])
