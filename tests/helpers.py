"""Small networks in an arbitrary state, and processes that talk to each other, for the tests of all layers."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import nn

from config import DataConfig, ModelConfig
from dataset import BUILT_IN, DATASETS, TaskData, open_dataset, open_task
from modules.backbones import BACKBONES
from modules.norm import Norm
from modules.parallel_conv import Form
from segmentation_module import SegmentationNet, build_network
from tasks import Task, get_task
from utils.distributed import Dist, init_distributed, shut_down

NORMS = ("iabn_sync", "iabn", "abn", "std")


SPECS = {name: DATASETS[name](DataConfig()) for name in BUILT_IN}
"""The data sets that are the same wherever they lie."""


def task_of(dataset: str, name: str) -> Task:
    """The task that `--dataset dataset --task name` means."""
    return get_task(SPECS[dataset].facts, name)


ALONE = Dist(rank=0, world_size=1, device=torch.device("cpu"))
"""The only process of a run, on the CPU."""


def data_of(config: DataConfig, *, seed: int = 42, rank: int = 0, world_size: int = 1) -> TaskData:
    """The data of a run with `config`, as process `rank` sees them."""
    spec = open_dataset(config)
    dist = Dist(rank=rank, world_size=world_size, device=ALONE.device)
    return TaskData(config, spec, open_task(config, spec), seed=seed, dist=dist)


def small_config(**fields: Any) -> ModelConfig:
    """A configuration of the smallest network, from scratch; `fields` win."""
    small = {"backbone": "resnet26", "width": 8, "head_channels": 16, "no_pretrained": True}
    return ModelConfig(**(small | fields))


def body_of(backbone: str = "resnet26", *, branches: int = 1, **fields: Any) -> nn.Module:
    """A body with fresh weights, of width 8 unless `fields` say otherwise."""
    usual = {"output_stride": 16, "width": 8, "norm": "iabn", "drop_path": True, "stem_activation": branches == 1}
    return BACKBONES[backbone].build(branches=branches, **(usual | fields))


def small_network(*, branches: int = 2, classes_per_head: tuple[int, ...] = (3,), **fields: Any) -> SegmentationNet:
    """A network of about 400,000 weights with random norms (see `randomise_`), in training mode."""
    network = build_network(small_config(**fields), branches=branches, classes_per_head=classes_per_head)
    return randomise_(network, seed=0)


def in_form_(network: SegmentationNet, form: Form) -> SegmentationNet:
    """Give every site the parameters of `form`, without values that mean anything; returns `network`."""
    for site in network.sites():
        site.to_form_(form)
    return network


def randomise_(network: nn.Module, seed: int) -> Any:
    """Give every norm arbitrary scales (negative ones too), shifts and running statistics; returns `network`."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, Norm | nn.BatchNorm2d):
            shape = module.weight.shape
            sign = torch.where(torch.rand(shape, generator=random) < 0.5, -1.0, 1.0)
            with torch.no_grad():
                module.weight.copy_(sign * (0.5 + torch.rand(shape, generator=random)))
                module.bias.copy_(0.3 * torch.randn(shape, generator=random))
                module.running_mean.copy_(0.3 * torch.randn(shape, generator=random))
                module.running_var.copy_(0.5 + torch.rand(shape, generator=random))
    return network


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference between two tensors, relative to the largest value of the second."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max())


def run_processes(work: Callable[[int, Path], Any], folder: Path, *, gpu: bool = False) -> list[Any]:
    """What `work(rank, folder)`, a function of a module, returns in each of two processes of one group.

    With `gpu` both may use the first GPU, and talk through gloo: nccl wants a GPU for each.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_process, (port, work, folder, gpu), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _process(rank: int, port: int, work: Callable[[int, Path], Any], folder: Path, gpu: bool) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    if gpu:
        torch.distributed.init_process_group("gloo")
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        init_distributed()
    torch.save(work(rank, folder), folder / f"{rank}.pt")
    shut_down()
