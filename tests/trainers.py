"""Trainers of small networks on random tensors: no data set, no run."""

import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from config import DataConfig, OptimConfig, RunConfig
from methods.base import Method
from segmentation_module import build_network, build_student
from tasks import Step
from tests.helpers import ALONE, randomise_, small_config
from train import Trainer
from utils.distributed import Dist


class InMemory:
    """Random training batches, the same in every epoch, of which each process has its share."""

    def __init__(self, num_classes: int, *, count: int = 2, size: int = 4, side: int = 48, dist: Dist = ALONE) -> None:
        random = torch.Generator().manual_seed(0)
        images = torch.randint(256, (count, size, 3, side, side), dtype=torch.uint8, generator=random)
        labels = torch.randint(num_classes, (count, size, side, side), dtype=torch.uint8, generator=random)
        own = slice(dist.rank, None, dist.world_size)
        self.batches = list(zip(images[:, own], labels[:, own], strict=True))
        self.num_images = count * size
        self.memory = ()

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches[start:])

    def names(self, batch: int, rank: int) -> list[str]:
        return [f"batch {batch} of process {rank}"]


def trainer_of(
    method: type[Method],
    step: Step,
    batches: InMemory,
    *,
    inherited: dict[str, Tensor] | None = None,
    dist: Dist = ALONE,
    dtype: torch.dtype = torch.float32,
    **fields: Any,
) -> Trainer:
    """The training of a step, where it starts, as run.py builds it; `fields`: of RunConfig.

    From random networks, which compute in `dtype`.
    """
    usual = {"data": DataConfig(batch_size=4), "model": small_config(), "optim": OptimConfig(epochs=(1,))}
    config = RunConfig(**usual | {"method": method.Config(), "print_interval": 1} | fields)
    of_step = method(config.method, step)
    torch.manual_seed(0)
    before = step.task.step(max(step.number - 1, 0))
    options = {"branches": config.method.branches, "classes_per_head": before.classes_per_head}
    student = randomise_(build_network(config.model, **options), seed=0).to(dtype)
    with torch.no_grad():
        student.classifiers[0].weight *= 30  # or the bias alone decides, the same everywhere
    student.register_forward_pre_hook(lambda network, inputs: (inputs[0].to(dtype),))
    previous = student if step.number else None
    if previous:
        method(config.method, before).shape(previous, None)
        torch.manual_seed(dist.rank)
        student = build_student(previous, new_classes=step.num_seen - step.num_old).to(dtype)
    of_step.shape(student, previous)
    if previous:
        of_step.inherit(inherited or {})
    of_step.initialise(student, previous)
    return Trainer(student, previous and previous.for_inference(), of_step.to(dtype), batches, config, dist)


def through_file(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict as it comes from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
