"""The training of one step, and evaluation. No paths here, and nothing of which step comes next (SPEC 5, 7, 8)."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from config import RunConfig, at_step
from dataset import TaskData, TrainBatches
from dataset.base import StepDataset
from dataset.memory import Memory, Remembered, choose_memory, plain_memory
from dataset.transform import normalise
from methods.base import Batch, Method
from metrics.meter import Fault, LossMeter
from metrics.pace import Position
from metrics.pictures import DrawnSample
from metrics.scores import ConfusionMatrix
from segmentation_module import SegmentationNet, require_two_values
from tasks import Step
from utils.distributed import LONGEST_SCAN, Dist, all_gather_state, barrier, broadcast_buffers, limit_patience
from utils.errors import NonFiniteError, UserError, one_line
from utils.log import log
from utils.optim import GRADIENT, Precision, Updater, in_fp32, require_all_grouped
from utils.progress import progress
from utils.random_state import derive_seed, random_state, seed_everything, set_random_state


class Objective(nn.Module):
    """A batch to its losses: student, teacher and method as one module, so that DDP averages all their gradients."""

    def __init__(
        self, student: SegmentationNet, teacher: SegmentationNet | None, method: Method, precision: Precision
    ) -> None:
        super().__init__()
        self.student = student
        self.method = method
        self.precision = precision
        self._teacher = [teacher]  # in a list, so that it is no part of this module and stays in eval mode

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        (teacher,) = self._teacher
        images = batch.images if batch.auxiliary is None else torch.cat([batch.images, batch.auxiliary])
        with self.precision.autocast():
            seen_by_teacher = teacher(images) if teacher is not None and self.method.needs_teacher else None
            seen_by_student = self.student(images)
        # On the way out only what the backward pass needs stays in memory.
        return self.method(batch, seen_by_student, seen_by_teacher)


class Trainer:
    """The training of one step: what learns, how, and how far it has come.

    Student and method are placed on the device, and nothing of them is replaced from then on. The state dict has all
    that a run needs to be resumed exactly: weights, optimiser, schedule and scaler, the method's state, the position,
    the losses not reported yet and the random numbers of each process.
    """

    def __init__(
        self,
        student: SegmentationNet,
        teacher: SegmentationNet | None,
        method: Method,
        batches: TrainBatches,
        config: RunConfig,
        dist: Dist,
    ) -> None:
        self.student, self.teacher, self.method, self.batches = student, teacher, method, batches
        self.config, self.dist, self.step = config, dist, method.step
        self.phases = method.phases_of_step
        if student.unknown is not None and not method.knows_unknown:
            raise UserError(
                f"step {self.step.number - 1} was trained with --method SSUL: its classifier of the unknown means "
                f"nothing to {config.method_name}; go on with SSUL, or name another file with --step_ckpt"
            )
        if self.phases:
            self._require_parts()
        self.precision = Precision(dist.device, mixed=config.opt_level == "O1")
        student.place_(dist.device, self.precision.activations)
        student.body.checkpoint_blocks = config.checkpoint_blocks
        method.to(dist.device, memory_format=student.layout)
        if teacher is not None:
            teacher.to(dist.device).share_frozen_(student)
        self.epochs = at_step(config.optim.epochs, self.step.number) if self.phases else 0
        self.meter = LossMeter()
        self.best_score = 0.0
        self.bad_batches = 0
        self.phase = 0
        self.epoch = 0  # whole epochs of the phase, their validation included
        self.iteration = 0  # batches of the epoch after these
        self.has_just_begun = True
        self._timed = (0, 0.0)  # iterations since the last mean losses, and the seconds they took
        self._ended: dict[str, Any] | None = None  # state of the method after its `finish`
        self._random: dict[str, Any] | None = None  # of the checkpoint that is resumed
        self.updater: Updater | None = None  # where nothing trains
        self._begin_phase()
        self.model = self._wrapped()

    def _require_parts(self) -> None:
        """UserError unless a batch can be seen in `--accumulate` parts, and each is large enough for the norms."""
        count, size = self.config.accumulate, self.config.data.batch_size
        if size % count:
            raise UserError(f"--accumulate {count}: choose a number that divides --batch_size {size}")
        if count > 1 and not self.method.by_image:
            raise UserError(
                f"--accumulate {count}: losses of {self.config.method_name} are no means over the images of a batch, "
                "and must see all at once; save memory with --checkpoint_blocks"
            )
        if count > 1 and size // count < 2:
            raise UserError(f"--accumulate {count}: each part of --batch_size {size} needs two images or more")
        require_two_values(self.config.model, size, self.dist.world_size)

    def _begin_phase(self) -> None:
        """A new optimiser, and a schedule over all epochs; neither where nothing trains."""
        if not self.phases:
            return
        self.method.phase = self.phases[self.phase]
        self.method.begin_phase(self.student)
        groups, optim = self.method.groups(self.student), self.config.optim
        require_all_grouped(groups, self.student, self.method)
        lr, iterations = at_step(optim.lr, self.step.number), self.epochs * len(self.batches)
        undo = list(self.student.buffers()) if self.config.skip_bad_batches else []
        self.updater = Updater(groups, optim, self.precision, lr=lr, iterations=iterations, undo=undo)

    def _wrapped(self) -> nn.Module:
        """The objective as it is called in training; both networks compiled, where `--compile` asks for it."""
        if self.config.compile:
            limit_patience(self.dist.device, LONGEST_SCAN)  # it takes minutes, and not as many for all
            self.student.compile()
            if self.teacher is not None:
                self.teacher.compile()
        objective = Objective(self.student, self.teacher, self.method, self.precision)
        if self.dist.world_size == 1 or not self.phases:
            return objective
        barrier()  # GPUs do not wait long for those that build their networks more slowly
        with warnings.catch_warnings():
            # Newer releases of torch warn of the old name, and have no other yet that leaves statistics alone.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            # Statistics are the same everywhere already, or those of the first process count: see train_epoch.
            return DistributedDataParallel(objective, broadcast_buffers=False, gradient_as_bucket_view=True)

    @property
    def is_done(self) -> bool:
        """Whether all epochs of all phases are over."""
        return self.epoch == self.epochs

    @property
    def is_in_last_epoch(self) -> bool:
        """Whether no epoch comes after the present one."""
        return self.phase == len(self.phases) - 1 and self.epoch == self.epochs - 1

    @property
    def epochs_done(self) -> int:
        """Whole epochs of the step so far, over all phases."""
        return self.phase * self.epochs + self.epoch

    @property
    def updates(self) -> int:
        """Iterations of the step so far, over all phases."""
        return self.phase * self.epochs * len(self.batches) + self._count

    @property
    def position(self) -> Position:
        """How far it has come, and what the iterations since the last mean losses took."""
        epochs = len(self.phases) * self.epochs
        images = self.config.data.batch_size * self.dist.world_size
        return Position(self.updates, epochs * len(self.batches), self.epochs_done + 1, epochs, images, *self._timed)

    @property
    def _count(self) -> int:
        """Iterations of the phase so far."""
        return self.updater.count if self.updater else 0

    @property
    def announcement(self) -> str:
        """What it is about to do, in words."""
        if not self.phases:
            images, count = self.batches.num_images, len(self.batches)
            done = "; it is done already" if self._ended is not None else ""
            return f"step {self.step}: {images} training images, one pass over {count} batches, no training{done}"
        phases = f" in each of the phases {', '.join(self.phases)}" if len(self.phases) > 1 else ""
        return (
            f"step {self.step}: {self.batches.num_images} training images, epochs {self.epoch + 1} to {self.epochs} of "
            f"{len(self.batches)} iterations{phases}, learning rate {at_step(self.config.optim.lr, self.step.number):g}"
            + (f"; resumes at {self.place}" if self.updates else "")
        )

    @property
    def place(self) -> str:
        """How far it has come, in words."""
        if not self.phases:
            return "the end of its pass"
        return f"epoch {self.epoch + 1}, iteration {self.iteration}"

    def begin(self) -> None:
        """Let the method see the data of the step. Only where the step starts."""
        self.method.before(self.student, self.teacher, self._seen("before", epoch=0))

    def train_epoch(self) -> Iterator[dict[str, float]]:
        """Train what is left of the present epoch; yields at the end of each iteration.

        What it yields: every `print_interval` iterations the mean losses by name since the last time, else nothing.
        Raises NonFiniteError where more losses or gradients than allowed were not finite.
        """
        self._seed(self.epochs_done, self.iteration)
        epoch = self.batches.epoch_with_auxiliary if self.method.sees_auxiliary else self.batches.epoch
        batches = epoch(self.epochs_done, self.iteration)
        if self._random:
            set_random_state(self._random)
            self._random = None
        self.model.train()
        adds_penalties = type(self.method).after_backward is not Method.after_backward
        penalties = self.method.after_backward if adds_penalties else None
        phase = f" {self.method.phase}" if len(self.phases) > 1 else ""
        title = f"step {self.step}{phase} epoch {self.epoch + 1}/{self.epochs}"
        # No lines of its own where there is no bar: the report says more.
        options = {"unit": "it", "leave": False, "dynamic_ncols": True, "initial": self.iteration}
        bar = tqdm(batches, title, len(self.batches), disable=None if self.dist.is_main else True, **options)
        start = time.monotonic()
        for batch in bar:
            batch = placed(batch, self.dist.device)
            self.updater.clear()
            self.meter.add(self.updater.update(self._losses(batch), penalties))
            self.iteration += 1
            means = {}
            if self.iteration % self.config.print_interval == 0 or self.iteration == len(self.batches):
                self.judge()
                if means := self.meter.means():
                    bar.set_postfix(loss=f"{means['total']:.3f}", refresh=False)
            count, seconds = self._timed
            self._timed = count + 1, seconds + time.monotonic() - start
            yield means
            if means:
                self._timed = (0, 0.0)
            start = time.monotonic()
        self.has_just_begun = False
        self.updater.clear()  # a validation may want the memory of the gradients
        # Norms that do not look at their peers hold statistics of their own: those of the first process count.
        broadcast_buffers(self.student)

    def _losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """The losses of each part of a batch, as shares of their sum. Gradients meet those of peers in the last one."""
        count = self.config.accumulate
        for number, part in enumerate(batch.parts(count), 1):
            alone = number < count and isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if alone else nullcontext():
                losses = self.model(part)
                yield losses if count == 1 else {name: loss / count for name, loss in losses.items()}

    def finish(self, load_previous: Callable[[], SegmentationNet | None]) -> None:
        """Let the method act after the last epoch, once: not again where the run is resumed after it."""
        if self._ended is None and type(self.method).finish is not Method.finish:
            self.method.finish(self.student, load_previous(), self._seen("finish", epoch=self.epochs_done + 1))
            self._ended = self.method.state_dict()

    def end_epoch(self) -> None:
        """The epoch is over, its validation included."""
        self.epoch, self.iteration = self.epoch + 1, 0
        if self.is_done and self.phase < len(self.phases) - 1:
            self.phase, self.epoch = self.phase + 1, 0
            self._begin_phase()

    def judge(self) -> None:
        """NonFiniteError where more losses or gradients of the step than allowed were bad."""
        faults = self.meter.faults()
        if not faults:
            return
        self.bad_batches += len({fault.iterations_ago for fault in faults})
        said, allowed = self._described(faults), self.config.skip_bad_batches
        if self.bad_batches > allowed:
            raise NonFiniteError(
                f"{said}; the last checkpoint is as it was; leave such batches out with --skip_bad_batches N (it is "
                f"{allowed}), or train the step anew, --no_resume, with a lower --lr or a --warmup"
            )
        log.warning(f"{said}; left out, {self.bad_batches} of --skip_bad_batches {allowed}")

    def _described(self, faults: list[Fault]) -> str:
        """The first fault in words: a loss, whose images are those of the processes that had it, before the gradient
        that all share."""
        ago = faults[0].iterations_ago
        first = [fault for fault in faults if fault.iterations_ago == ago]
        losses = [fault for fault in first if fault.term != GRADIENT]
        term = f"the loss {losses[0].term!r}" if losses else "the gradient"
        processes = sorted({fault.process for fault in losses or first})
        images = [name for rank in processes for name in self.batches.names(self.iteration - ago - 1, rank)]
        return (
            f"step {self.step}, epoch {self.epoch + 1}, iteration {self.iteration - ago}: {term} became "
            f"{(losses or first)[0].value} in process {' '.join(map(str, processes))}, images {' '.join(images)}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The entries of a checkpoint that `load_state_dict` reads (SPEC 9); to be called in all processes."""
        alone = self.dist.world_size == 1
        # Nothing that differs between processes is left at the end of an epoch: then none waits for another.
        inside = 0 < self.iteration < len(self.batches)
        buffers = {} if alone else {name: buffer.cpu() for name, buffer in self.student.named_buffers()}
        own = {"random": random_state(), "meter": self.meter.state_dict(), "buffers": buffers} if inside else {}
        state = self.updater.state_dict() if self.updater else {"trainer_state": {}}
        state["trainer_state"] |= {
            "phase": self.phase,
            "iteration": self.iteration,
            "ended": self._ended is not None,
            "bad_batches": self.bad_batches,
            "processes": all_gather_state(own) if inside else [],
            "memory": plain_memory(self.batches.memory),
        }
        return state | {
            "model_state": self.student.state_dict(),
            "method_state": self.method.state_dict() if self._ended is None else self._ended,
            "epoch": self.epoch,
            "best_score": self.best_score,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume what `state_dict` gave. UserError where it is of anything else."""
        try:
            self._load(saved, saved["trainer_state"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                "it cannot be resumed: what it holds beside the weights is not what this run saves "
                f"({type(error).__name__}: {one_line(error)}); train the step anew with --no_resume"
            ) from None

    def _load(self, saved: dict[str, Any], state: dict[str, Any]) -> None:
        self.student.load_state_dict(saved["model_state"])
        self.phase, self.epoch, self.iteration = int(state["phase"]), int(saved["epoch"]), int(state["iteration"])
        if not 0 <= self.phase < max(len(self.phases), 1):
            raise ValueError(f"phase {self.phase}")
        self._begin_phase()
        if self.updater:
            self.updater.load_state_dict(saved)
        if state["ended"]:
            self._ended = saved["method_state"]
        else:
            self.method.load_state_dict(saved["method_state"])
        self.best_score, self.bad_batches = float(saved["best_score"]), int(state["bad_batches"])
        if self.epoch * len(self.batches) + self.iteration != self._count:
            raise ValueError(f"epoch {self.epoch}, iteration {self.iteration}, {self._count} updates")
        if not 0 < self.iteration < len(self.batches):
            return  # nothing random is left of the epoch
        processes = state["processes"]
        if len(processes) != self.dist.world_size:
            log.warning(
                f"step {self.step} was begun by {len(processes)} process(es) and is resumed by "
                f"{self.dist.world_size}: with other random numbers from here on"
            )
            return
        own = processes[self.dist.rank]
        set_random_state(own["random"])  # tried now, where it can still be refused
        self._random = own["random"]
        self.meter.load_state_dict(own["meter"], self.dist.device)
        self.student.load_state_dict(own["buffers"], strict=False)

    def _seed(self, epoch: int, iteration: int = 0) -> None:
        """Seed everything random by step, position and process."""
        position = (epoch, self.dist.rank, iteration) if iteration else (epoch, self.dist.rank)
        seed_everything(derive_seed(self.config.random_seed, self.step.number, *position))

    def _seen(self, title: str, *, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, without training on them."""
        self._seed(epoch)
        options = {"unit": "batch", "total": len(self.batches), "is_main": self.dist.is_main}
        for batch in progress(self.batches.epoch(epoch), f"step {self.step} {title}", **options):
            yield placed(batch, self.dist.device)
        barrier()  # some read faster than others, and what follows may sum over all on the GPUs, which do not wait long


def plan(config: RunConfig, method: type[Method], data: TaskData, steps: Iterable[Step]) -> dict[int, int]:
    """How many iterations the training of each step has, but for those that images of a memory add."""
    counts = {}
    for step in steps:
        epochs = at_step(config.optim.epochs, step.number) * len(method(config.method, step).phases_of_step)
        counts[step.number] = epochs * data.num_batches(step)
    return counts


def placed(batch: tuple[Tensor, ...], device: torch.device) -> Batch:
    """A batch of a loader on the device."""
    images, labels, *more = (part.to(device, non_blocking=True) for part in batch)
    by_kind = {part.dtype: part for part in more}
    auxiliary = by_kind.get(torch.uint8)
    return Batch(
        normalise(images),
        labels.long(),
        saliency=by_kind.get(torch.bool),
        auxiliary=None if auxiliary is None else normalise(auxiliary),
    )


@torch.inference_mode()
def fill_memory(method: Method, previous: SegmentationNet | None, kept: Memory, data: TaskData, dist: Dist) -> Memory:
    """The images of earlier steps that `method` is to see again in its step: none, unless it asks for some.

    Chosen among the training images of the step before and those `kept` until then, by their labels and by what
    `previous`, the network of that step, is sure to see on them. The same in all processes.
    """
    size, rule = method.config.mem_size, method.rule
    if previous is None or not (rule and size):
        return ()
    step = method.step.task.step(method.step.number - 1)
    names, loader = data.search(step, kept, rule)
    classes = range(int(step.has_background), step.num_seen)
    if step.has_background:
        shown = _seen_classes(method, previous, loader, classes, dist)
    else:
        shown = _labelled_classes(loader.dataset, classes)
    known = [()] * (len(names) - len(kept)) + [image.classes for image in kept]
    candidates = [
        Remembered(name, tuple(sorted({*before, *shown[index]})))
        for index, (name, before) in enumerate(zip(names, known, strict=True))
    ]
    memory = choose_memory(candidates, classes, size, seed=derive_seed(data.seed, method.step.number) % 2**32)
    log.info(f"step {method.step}: {len(memory)} of {len(candidates)} images of earlier steps are seen again")
    return memory


def _labelled_classes(images: StepDataset, classes: range) -> dict[int, list[int]]:
    """Of whole images, which need not be looked at: by index the one of `classes` that its label is, if any."""
    labels = [int(images.lut[sample.label]) for sample in images.samples]
    return {index: [label] if label in classes else [] for index, label in enumerate(labels)}


def _seen_classes(
    method: Method, previous: SegmentationNet, loader: DataLoader, classes: range, dist: Dist
) -> dict[int, list[int]]:
    """By index of an image those of `classes` that are labelled on it, or that `previous` is sure to see there."""
    step = method.step.task.step(method.step.number - 1)
    network = previous.for_inference().to(dist.device)
    shown: dict[int, list[int]] = {}
    bar = progress(loader, f"step {method.step} memory", unit="batch", is_main=dist.is_main)
    for indices, (images, labels, *_) in zip(loader.batch_sampler.batches, bar, strict=True):
        images, labels = images.to(dist.device), labels.to(dist.device).long()
        if step.number:
            labels = torch.where(labels == 0, method.confident(network(normalise(images))), labels)
        for index, of_image in zip(indices, labels.cpu(), strict=True):
            shown[index] = [label for label in of_image.unique().tolist() if label in classes]
    for of_process in all_gather_state(shown):
        shown |= of_process
    return shown


@in_fp32
def evaluate(
    network: SegmentationNet, loader: DataLoader, *, num_classes: int, dist: Dist, title: str
) -> ConfusionMatrix:
    """The confusion matrix of `network`, in the form for inference, over the samples of all processes.

    Always in fp32, whatever the training used, so that a score can be repeated to the last digit.
    """
    matrix = ConfusionMatrix(num_classes, dist.device)
    for images, labels in progress(loader, title, unit="batch", is_main=dist.is_main):
        images = normalise(images.to(dist.device, non_blocking=True))
        matrix.update(labels.to(dist.device, non_blocking=True), network(images).logits.argmax(1))
    matrix.all_reduce()
    return matrix


@in_fp32
def predict_samples(network: SegmentationNet, dataset: Dataset, device: torch.device) -> list[DrawnSample]:
    """All samples of a small `dataset`, with what the network says of them."""
    drawn = []
    for index in range(len(dataset)):
        image, labels = dataset[0, index]
        prediction = network(normalise(image[None].to(device))).logits.argmax(1)[0].byte().cpu()
        drawn.append(DrawnSample(image.numpy(), labels.numpy(), prediction.numpy()))
    return drawn
