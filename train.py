"""One epoch of training, and evaluation. No options and no paths: what they need is handed to them (SPEC 5, 7, 8)."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dataset.transform import normalise
from methods.base import Method
from metrics.confusion import ConfusionMatrix
from segmentation_module import SegmentationNet
from utils.distributed import all_reduce_sum, world_size
from utils.errors import UserError
from utils.optim import load_optimizer_
from utils.profiling import Watch

Report = Callable[[dict[str, float], int], None]
"""Takes losses by name, already averaged over processes, and the iteration within the step."""


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
    """What an iteration does once its losses are known, and what of that a checkpoint keeps."""

    def __init__(self, optimizer: Optimizer, schedule: LRScheduler, precision: Precision) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self.precision = precision

    def clear(self) -> None:
        """Let go of all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, losses: dict[str, Tensor], method: Method) -> dict[str, Tensor]:
        """One update of the weights against the sum of `losses`, and of what the method adds to their gradients.

        Returns all terms by name.
        """
        scaler = self.precision.scaler
        scaler.scale(sum(losses.values())).backward()
        if method.reads_gradients:
            scaler.unscale_(self.optimizer)
            losses = losses | method.after_backward(may_overflow=scaler.is_enabled())
        scaler.step(self.optimizer)
        scaler.update()
        self.schedule.step()
        return losses

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return self.schedule.last_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next update, of the first group."""
        return self.schedule.get_last_lr()[0]

    def state(self, method: dict[str, Any]) -> dict[str, Any]:
        """The entries of a checkpoint that `load` reads, and the state of the method (SPEC 9)."""
        return {
            "optimizer_state": self.optimizer.state_dict(),
            "scheduler_state": self.schedule.state_dict(),
            "trainer_state": {"scaler": self.precision.scaler.state_dict(), "method": method},
        }

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where the checkpoint was written."""
        load_optimizer_(self.optimizer, checkpoint["optimizer_state"])
        self.schedule.load_state_dict(checkpoint["scheduler_state"])
        self.precision.scaler.load_state_dict(checkpoint["trainer_state"]["scaler"])


@dataclass
class LossMeter:
    """Running sums of losses on the device; the host waits for them only in `means`."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one iteration's losses, 0-d each."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.count += 1

    def means(self) -> dict[str, float]:
        """Mean per iteration of each loss and of their total, over all processes; then start anew.

        Raises UserError that names the loss if one is not finite.
        """
        stacked = all_reduce_sum(torch.stack([value.double() for value in self.sums.values()]))
        values = (stacked / (self.count * world_size())).tolist()
        means = dict(zip(self.sums, values, strict=True))
        self.sums, self.count = {}, 0
        for name, value in means.items():
            if not math.isfinite(value):
                raise UserError(f"loss {name!r} became {value} (all: {means}); try a lower --lr or a --warmup")
        return means | {"total": sum(means.values())}


def train_one_epoch(
    model: nn.Module,
    teacher: SegmentationNet | None,
    method: Method,
    loader: DataLoader,
    updater: Updater,
    *,
    device: torch.device,
    title: str,
    print_interval: int,
    report: Report,
    quiet: bool,
    watch: Watch = iter,
) -> None:
    """Every batch of `loader` once. `report` gets the mean losses every `print_interval` iterations.

    `watch` sees the batches go by, as utils.profiling.profiled does.
    """
    model.train()
    meter = LossMeter()
    bar = tqdm(loader, desc=title, unit="it", leave=False, disable=True if quiet else None, dynamic_ncols=True)
    for number, batch in enumerate(watch(bar), start=1):
        images, labels = placed(batch, device)
        # Not later: the gradients of the last iteration would lie beside the activations of this one.
        updater.clear()
        losses = forward_losses(model, teacher, method, images, labels, updater.precision)
        meter.add(updater.step(losses, method))
        if number % print_interval == 0 or number == len(loader):
            means = meter.means()
            bar.set_postfix(loss=f"{means['total']:.3f}", refresh=False)
            report(means, updater.iteration)


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
def predict_samples(
    network: SegmentationNet, dataset: Dataset, count: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` samples, evenly spread over `dataset`: images (N, 3, H, W), labels and predictions (N, H, W), uint8.

    Samples of another size than the first are left out.
    """
    picked = [dataset[0, len(dataset) * i // count] for i in range(min(count, len(dataset)))]
    picked = [(image, labels) for image, labels in picked if image.shape == picked[0][0].shape]
    predictions = [network(normalise(image[None].to(device))).logits.argmax(1)[0].byte().cpu() for image, _ in picked]
    images, labels = (torch.stack(parts) for parts in zip(*picked, strict=True))
    return images.numpy(), labels.numpy(), torch.stack(predictions).numpy()
