"""Networks and iterations to be timed: RCIL at step 1 of 15-1, ours and the obvious one, with the same weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from benchmarks.harness import device
from benchmarks.obvious import losses as obvious
from benchmarks.obvious.network import ObviousNetwork
from config import ModelConfig, OptimConfig
from dataset.voc import SPEC
from methods import METHODS
from methods.base import Method
from modules.public_names import PREFIX, to_public
from segmentation_module import SegmentationNet, build_network, build_student
from tasks import get_task
from train import Precision, Updater, forward_losses
from utils.optim import build_optimizer, build_schedule

TASK = get_task(SPEC.facts, "15-1")
NUM_OLD = TASK.num_old(1)
SMALL = {"backbone": "resnet26", "width": 8, "head_channels": 16}
BODIES = {"resnet26": {"width": 32, "head_channels": 128}, "resnet101": {}}
"""The size of the demo, and that of the paper."""

LR = 0.001
MANY = 10**6
"""Iterations of a schedule that a benchmark never comes to the end of."""

Iteration = Callable[[], dict[str, Tensor]]


def make_batch(crop: int, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and labels (B, H, W): background, the class of step 1, and some to be ignored."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, crop, crop, generator=random).to(device(), dtype)
    labels = torch.randint(0, 10, (batch, crop, crop), generator=random)
    labels = torch.where(labels == 0, NUM_OLD, torch.where(labels == 1, 255, 0))
    return images, labels.to(device())


def make_method(name: str, step: int) -> Method:
    """A method with its settings for VOC."""
    return METHODS[name](METHODS[name].Config(), TASK, step)


def make_pair(
    config: ModelConfig, *, new_classes: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[SegmentationNet, SegmentationNet]:
    """Our student and teacher as step 1 begins."""
    torch.manual_seed(0)
    previous = build_network(config, branches=2, classes_per_head=TASK.classes_per_head(0)).to(dtype)
    student = build_student(previous, new_classes=new_classes, init_weights=True, init_bias=False).to(dtype)
    make_method("RCIL", 1).prepare(student)
    student.place_(device(), dtype)
    teacher = previous.for_inference().to(device())
    teacher.share_frozen_(student)
    return student.train(), teacher


def make_obvious_pair(
    config: ModelConfig, *, dtype: torch.dtype = torch.float32
) -> tuple[ObviousNetwork, ObviousNetwork]:
    """The same two networks in the obvious form, with the same weights."""
    torch.manual_seed(0)
    previous = build_network(config, branches=2, classes_per_head=TASK.classes_per_head(0)).to(dtype)
    student = build_student(previous, new_classes=1, init_weights=True, init_bias=False).to(dtype)
    make_method("RCIL", 1).prepare(student)
    teacher = make_obvious(config, previous, TASK.classes_per_head(0))
    return make_obvious(config, student, TASK.classes_per_head(1), merged=True).train(), teacher


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
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in to_public(network.state_dict()).items()}
    made.to(next(iter(weights.values())).dtype).load_state_dict(weights, strict=False)
    if not merged:
        made.eval().requires_grad_(False)
    made.drop_path = config.drop_path
    return made.to(device(), memory_format=torch.contiguous_format)


def our_iteration(
    student: SegmentationNet,
    teacher: SegmentationNet,
    batch: tuple[Tensor, Tensor],
    *,
    model: nn.Module | None = None,
    num_new: int = 1,
) -> Iteration:
    """One update as train.py does it; `model` is what wraps the student, if anything does."""
    precision = Precision(device(), mixed=device().type == "cuda")
    optimizer = build_optimizer(student.parameter_groups(), OptimConfig(), LR)
    updater = Updater(optimizer, build_schedule(optimizer, OptimConfig(), MANY), precision)
    method = make_method("RCIL", 1)
    method.num_seen = method.num_old + num_new
    called = model or student

    def iteration() -> dict[str, Tensor]:
        updater.clear()
        losses = forward_losses(called, teacher, method, *batch, precision)
        return updater.step(losses, method)

    return iteration


def obvious_iteration(student: ObviousNetwork, teacher: ObviousNetwork, batch: tuple[Tensor, Tensor]) -> Iteration:
    """One update in the obvious way."""
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, LR, momentum=0.9, nesterov=True, weight_decay=1e-4)
    images, labels = batch

    def iteration() -> dict[str, Tensor]:
        with _mixed():
            with torch.no_grad():
                old_logits, old_maps = teacher(images)
            logits, maps = student(images)
        logits, old_logits = _full(logits), _full(old_logits)
        maps, old_maps = [_full(map_) for map_ in maps], [_full(map_) for map_ in old_maps]
        losses = {
            "ce": obvious.unbiased_cross_entropy(logits, labels, NUM_OLD),
            "kd": obvious.LOSS_KD * obvious.unbiased_distillation(logits, old_logits),
            "cube": obvious.pooled_cube(old_maps, maps, NUM_OLD, 1),
        }
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return losses

    return iteration


def _mixed() -> AbstractContextManager:
    return torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda")


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
