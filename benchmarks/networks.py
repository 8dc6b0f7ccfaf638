"""Networks and iterations to be timed: ours as run.py makes them, and RCIL at step 1 in the obvious form."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

import run
from argparser import parse
from benchmarks.harness import device
from benchmarks.obvious import losses as obvious
from benchmarks.obvious.network import ObviousNetwork
from checkpoints import Saved
from config import ModelConfig, RunConfig
from methods import METHODS
from methods.base import Batch
from modules.authors_names import PREFIX, to_authors
from segmentation_module import SegmentationNet, build_network
from tasks import Facts, Step, get_task
from train import Trainer, placed
from utils.distributed import Dist

NUM_OLD = 16
SMALL = "--backbone resnet26 --width 8 --head_channels 16"
BODIES = {"resnet26": "--backbone resnet26 --width 32 --head_channels 128", "resnet101": "--backbone resnet101"}
"""The size of the demo, and that of the paper."""

LR = 0.001
RUN = f"--no_pretrained --lr {LR} --lr_policy none --epochs 1000000"
EPOCH = 10
"""Iterations, after which run.py looks at the losses, too."""

Iteration = Callable[[], object]
ALONE = Dist(rank=0, world_size=1, device=device())


def step_of(number: int = 1, *, old: int = NUM_OLD, new: int = 1) -> Step:
    """Step `number` of a task of equal steps, with `old` classes, the background counted, before it, and `new` ones."""
    first = old - 1 - new * max(0, number - 1)
    classes = first + new * max(1, number)
    return get_task(Facts(dataset="any", num_units=classes, num_classes=1 + classes), f"{first}-{new}").step(number)


def make_batch(crop: int, batch: int) -> tuple[Tensor, Tensor]:
    """What a loader gives, uint8: images, and labels: background, the class of step 1, and some to be ignored."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, crop, crop), generator=random, dtype=torch.uint8)
    labels = torch.randint(0, 10, (batch, crop, crop), generator=random)
    return images, torch.where(labels == 0, NUM_OLD, torch.where(labels == 1, 255, 0)).byte()


@dataclass(frozen=True)
class InMemory:
    """In the place of a run's data and checkpoints: one batch for ever, and a step before that nobody trained."""

    config: RunConfig
    batch: tuple[Tensor, Tensor]
    dtype: torch.dtype

    memory = ()  # as TrainBatches.memory

    def train(self, step: Step, **extras: object) -> "InMemory":
        """As TaskData.train."""
        return self

    @property
    def num_images(self) -> int:
        """As TrainBatches.num_images."""
        return EPOCH * len(self.batch[0])

    def __len__(self) -> int:
        return EPOCH

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """As TrainBatches.epoch."""
        return repeat(self.batch, EPOCH - start)

    def names(self, batch: int, rank: int) -> list[str]:
        """As TrainBatches.names."""
        return ["random"]

    def previous(self, step: Step) -> Saved | None:
        """As CheckpointStore.previous; with any importances, or what an untrained step 0 of the method leaves."""
        if step.number == 0:
            return None
        network = network_before(self.config, step, self.dtype)
        carried = getattr(METHODS[self.config.method_name], "carries", ())
        left = {
            f"{entry}.{name.replace('.', '/')}": torch.rand_like(weight)
            for entry in carried
            for name, weight in network.named_parameters()
        }
        if not left:
            first = run.build_trainer(run.Run(self.config, self, self, None, None, ALONE), step.task.step(0), None)
            first.finish(lambda: None)
            left = first.method.state_dict()
        return Saved(Path(), network, {"method_state": left}, finished=True)


def network_before(config: RunConfig, step: Step, dtype: torch.dtype = torch.float32) -> SegmentationNet:
    """The network of the step before, the same one at each call."""
    torch.manual_seed(0)
    before = step.task.step(step.number - 1)
    network = build_network(config.model, branches=config.method.branches, classes_per_head=before.classes_per_head)
    METHODS[config.method_name](config.method, before).shape(network, None)
    return network.to(dtype)


def make_trainer(
    options: str,
    batch: tuple[Tensor, Tensor],
    *,
    step: Step | None = None,
    dtype: torch.dtype = torch.float32,
    dist: Dist | None = None,
) -> Trainer:
    """The trainer of `step`, of step 1 if none is named, as run.py makes it where it starts; mixed precision on a GPU.

    `options`: those of run.py. `dtype`: of the weights.
    """
    mixed = " --opt_level O1" if device().type == "cuda" else ""
    config = parse(f"{RUN}{mixed} --batch_size {len(batch[0])} {options}".split()).config
    memory = InMemory(config, batch, dtype)
    torch.manual_seed(0)
    trainer = run.build_trainer(run.Run(config, memory, memory, None, None, dist or ALONE), step or step_of(), None)
    trainer.student.to(dtype)
    return trainer


def our_iteration(trainer: Trainer) -> Iteration:
    """One update as run.py does it. Returns the mean losses where they are due."""

    def updates() -> Iterator[dict[str, float]]:
        while True:
            yield from trainer.train_epoch()
            trainer.end_epoch()

    return updates().__next__


def make_obvious_pair(trainer: Trainer, dtype: torch.dtype = torch.float32) -> tuple[ObviousNetwork, ObviousNetwork]:
    """Student and teacher of a `trainer` of RCIL at step 1 in the obvious form, with the same weights."""
    config, step = trainer.config, trainer.step
    before = network_before(config, step, dtype)
    teacher = make_obvious(config.model, before, step.task.step(0).classes_per_head)
    return make_obvious(config.model, trainer.student, step.classes_per_head, merged=True).train(), teacher


def make_obvious(
    config: ModelConfig, network: SegmentationNet, classes_per_head: tuple[int, ...], *, merged: bool = False
) -> ObviousNetwork:
    """`network` in the obvious form: of step 0, to be evaluated, or with a `merged` branch, to be trained."""
    made = ObviousNetwork(
        backbone=config.backbone,
        width=config.width,
        head_channels=config.head_channels,
        classes_per_head=classes_per_head,
        merged=merged,
    )
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in to_authors(network.state_dict()).items()}
    made.to(next(iter(weights.values())).dtype).load_state_dict(weights, strict=False)
    if not merged:
        made.eval().requires_grad_(False)
    made.drop_path = config.drop_path
    return made.to(device(), memory_format=torch.contiguous_format)


def obvious_iteration(student: ObviousNetwork, teacher: ObviousNetwork, batch: Batch) -> Iteration:
    """One update in the obvious way."""
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, LR, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def iteration() -> dict[str, Tensor]:
        with _mixed():
            with torch.no_grad():
                old_logits, old_maps = teacher(batch.images)
            logits, maps = student(batch.images)
        logits, old_logits = _full(logits), _full(old_logits)
        maps, old_maps = [_full(map_) for map_ in maps], [_full(map_) for map_ in old_maps]
        losses = {
            "ce": obvious.unbiased_cross_entropy(logits, batch.labels, NUM_OLD),
            "kd": obvious.LOSS_KD * obvious.unbiased_distillation(logits, old_logits),
            "cube": obvious.pooled_cube(old_maps, maps, NUM_OLD, 1),
        }
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return losses

    return iteration


def on_device(batch: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float32) -> Batch:
    """The batch as train.py hands it to the networks, in another precision."""
    images, labels, *_ = placed(batch, device())
    return Batch(images.to(dtype), labels)


def _mixed() -> AbstractContextManager:
    return torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda")


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
