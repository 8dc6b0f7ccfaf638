"""One epoch of training, and evaluation. No options and no paths: what they need is handed to them (SPEC 5, 7, 8)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dataset.transform import normalise
from methods.base import Method
from metrics.confusion import ConfusionMatrix
from metrics.history import DrawnSample
from segmentation_module import SegmentationNet
from utils.distributed import all_gather
from utils.optim import load_optimizer_, load_schedule_
from utils.profiling import Watch

Report = Callable[[dict[str, float], int], None]
"""Takes losses by name, already averaged over processes, and the iteration within the step."""

GRADIENT = "gradient"


class Precision:
    """fp32, or mixed precision: bfloat16 where the device has it, else float16 with loss scaling."""

    def __init__(self, device: torch.device, *, mixed: bool) -> None:
        brain = device.type != "cuda" or torch.cuda.is_bf16_supported()
        self.device_type = device.type
        self.mixed = mixed
        self.dtype = torch.bfloat16 if brain else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=mixed and not brain)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.mixed)

    @property
    def activations(self) -> torch.dtype:
        """What the activations of a forward pass have."""
        return self.dtype if self.mixed else torch.float32


class Updater:
    """What an iteration does once its losses are known, and what of that a checkpoint keeps.

    An update whose gradient is not finite is left out, on the device, so that the host need not wait. `undo`: whose
    buffers, statistics of norms, are then put back, too.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: LRScheduler, precision: Precision, undo: nn.Module | None = None
    ) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self.precision = precision
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.buffers = list(undo.buffers()) if undo is not None else []
        self.kept: list[Tensor] = []

    def clear(self) -> None:
        """Let go of all gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.kept = [buffer.clone() for buffer in self.buffers]

    def step(self, losses: dict[str, Tensor], method: Method) -> dict[str, Tensor]:
        """One update of the weights against the sum of `losses`, and of what the method adds to their gradients.

        Returns all terms by name and, as "gradient", the norm of the gradient; none where losses are scaled, which may
        make it infinite once in a while.
        """
        scaler = self.precision.scaler
        total = sum(losses.values())
        scaler.scale(total).backward()
        if method.reads_gradients:
            scaler.unscale_(self.optimizer)
            losses = losses | method.after_backward(may_overflow=scaler.is_enabled() or bool(self.buffers))
        finite = total.detach().isfinite()
        if not scaler.is_enabled():
            norm = self._gradient_norm()
            finite = norm.isfinite()
            # As a scaler tells it; fused optimisers look there, and leave the weights alone.
            self.optimizer.found_inf = (~finite).float()
            losses = losses | {GRADIENT: norm}
        for buffer, kept in zip(self.buffers, self.kept, strict=True):
            buffer.copy_(torch.where(finite, buffer, kept))
        scaler.step(self.optimizer)
        scaler.update()
        self.schedule.step()
        return losses

    @torch.no_grad()
    def _gradient_norm(self) -> Tensor:
        """The norm of all gradients, 0-d. Not their largest value, which takes several times as long on CPUs."""
        return nn.utils.get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return self.schedule.last_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next update, of the first group."""
        return self.schedule.get_last_lr()[0]

    def state(self) -> dict[str, Any]:
        """The entries of a checkpoint that `load` reads (SPEC 9)."""
        return {
            "optimizer_state": self.optimizer.state_dict(),
            "scheduler_state": self.schedule.state_dict(),
            "trainer_state": {"scaler": self.precision.scaler.state_dict()},
        }

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where the checkpoint was written."""
        load_optimizer_(self.optimizer, checkpoint["optimizer_state"])
        load_schedule_(self.schedule, checkpoint["scheduler_state"])
        self.precision.scaler.load_state_dict(checkpoint["trainer_state"]["scaler"])


class Fault(NamedTuple):
    """A loss, or the gradient, that was not finite."""

    iterations_ago: int
    process: int
    term: str
    value: float


class LossMeter:
    """The losses of the last iterations, on the device; the host waits for them only in `faults` and `means`."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.rows: list[Tensor] = []
        self.judged = 0
        self.bad: set[int] = set()

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one iteration's losses, 0-d each; the terms are always the same."""
        self.terms = [*losses]
        self.rows.append(torch.stack([value.detach().double() for value in losses.values()]))

    def faults(self) -> list[Fault]:
        """What was not finite in any process since the last call, the earliest first."""
        start, self.judged = self.judged, len(self.rows)
        if start == len(self.rows):
            return []
        table = all_gather(torch.stack(self.rows[start:])).cpu()
        found = [(start + row, process, term) for process, row, term in torch.nonzero(~table.isfinite()).tolist()]
        self.bad |= {row for row, _, _ in found}
        return [
            Fault(len(self.rows) - 1 - row, process, self.terms[term], table[process, row - start, term].item())
            for row, process, term in sorted(found)
        ]

    def means(self) -> dict[str, float]:
        """Mean per iteration of each loss and of their total, over all processes, without the iterations that
        `faults` named; then start anew. Empty if nothing is left."""
        rows = [row for number, row in enumerate(self.rows) if number not in self.bad]
        means = all_gather(torch.stack(rows).mean(0)).mean(0).tolist() if rows else []
        self.rows, self.judged, self.bad = [], 0, set()
        named = {name: value for name, value in zip(self.terms, means, strict=False) if name != GRADIENT}
        return named | ({"total": sum(named.values())} if named else {})

    def state(self) -> dict[str, Any]:
        """What this process has to keep between two calls of `means`."""
        return {"terms": self.terms, "rows": [row.tolist() for row in self.rows], "bad": sorted(self.bad)}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state`, of which all was judged."""
        self.terms, self.bad = state["terms"], set(state["bad"])
        self.rows = [torch.tensor(row, dtype=torch.float64, device=device) for row in state["rows"]]
        self.judged = len(self.rows)


def train_one_epoch(
    model: nn.Module,
    teacher: SegmentationNet | None,
    method: Method,
    loader: DataLoader,
    updater: Updater,
    meter: LossMeter,
    *,
    device: torch.device,
    title: str,
    print_interval: int,
    report: Report,
    judge: Callable[[int], None],
    quiet: bool,
    start: int = 0,
    after: Callable[[int], None] = lambda done: None,
    watch: Watch = iter,
) -> None:
    """The batches of an epoch that its sampler still has: those from number `start` on.

    `report` gets the mean losses every `print_interval` iterations, once `judge` has looked at the meter. `after` is
    called at the end of each iteration. Both are told how many batches of the epoch are done. `watch` sees the batches
    go by, as utils.profiling.profiled does.
    """
    model.train()
    options = {"unit": "it", "leave": False, "disable": True if quiet else None, "dynamic_ncols": True}
    bar = tqdm(loader, desc=title, total=len(loader), initial=start, **options)
    for done, batch in enumerate(watch(bar), start=start + 1):
        images, labels = placed(batch, device)
        # Not later: the gradients of the last iteration would lie beside the activations of this one.
        updater.clear()
        losses = forward_losses(model, teacher, method, images, labels, updater.precision)
        meter.add(updater.step(losses, method))
        if done % print_interval == 0 or done == len(loader):
            judge(done)
            if means := meter.means():
                bar.set_postfix(loss=f"{means['total']:.3f}", refresh=False)
                report(means, updater.iteration)
        after(done)


def placed(batch: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """A training batch of a loader on the device: images (B, 3, H, W) normalised, labels (B, H, W) int64."""
    images, labels = batch
    return normalise(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True).long()


def training_batches(
    loader: DataLoader, *, device: torch.device, title: str, quiet: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every batch of `loader`, on the device, without training on it."""
    for batch in tqdm(loader, desc=title, unit="it", leave=False, disable=True if quiet else None, dynamic_ncols=True):
        yield placed(batch, device)


def forward_losses(
    model: nn.Module,
    teacher: SegmentationNet | None,
    method: Method,
    images: Tensor,
    labels: Tensor,
    precision: Precision,
) -> dict[str, Tensor]:
    """The losses of one batch. On the way out only what the backward pass needs stays in memory."""
    with precision.autocast():
        seen_by_teacher = teacher(images) if teacher is not None else None
        seen_by_student = model(images)
    return method.losses(seen_by_student, seen_by_teacher, labels)


@torch.inference_mode()
def evaluate(
    network: SegmentationNet, loader: DataLoader, *, num_classes: int, device: torch.device, title: str, quiet: bool
) -> ConfusionMatrix:
    """The confusion matrix of `network`, in the form for inference, over the samples of all processes.

    Always in fp32, whatever the training used, so that a score can be repeated to the last digit.
    """
    matrix = ConfusionMatrix(num_classes, device)
    for images, labels in tqdm(loader, desc=title, unit="batch", leave=False, disable=True if quiet else None):
        images = normalise(images.to(device, non_blocking=True))
        matrix.update(labels.to(device, non_blocking=True), network(images).logits.argmax(1))
    matrix.all_reduce()
    return matrix


@torch.inference_mode()
def predict_samples(network: SegmentationNet, dataset: Dataset, device: torch.device) -> list[DrawnSample]:
    """All samples of a small `dataset`, with what the network says of them."""
    drawn = []
    for index in range(len(dataset)):
        image, labels = dataset[0, index]
        prediction = network(normalise(image[None].to(device))).logits.argmax(1)[0].byte().cpu()
        drawn.append(DrawnSample(image.numpy(), labels.numpy(), prediction.numpy()))
    return drawn
