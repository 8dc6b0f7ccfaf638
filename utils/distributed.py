"""One process or many: the code above never asks which."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from utils.errors import UserError


@dataclass(frozen=True)
class Dist:
    """This process among its peers, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and speaks."""
        return self.rank == 0


def init_distributed(local_rank: int | None = None) -> Dist:
    """Join the process group that torchrun or torch.distributed.launch announced; alone where there is none.

    `local_rank` is what older launchers pass on the command line; the LOCAL_RANK variable wins.
    Backend nccl on CUDA, gloo for what lies on the CPU.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", local_rank or 0))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Dist(rank=0, world_size=1, device=device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # The first process may scan a data set of 20,000 masks while the others wait for it.
    timeout = timedelta(hours=2)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    # After a restart torchrun's store still has the addresses of the processes that are gone: meet at another place.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    return Dist(rank=dist.get_rank(), world_size=dist.get_world_size(), device=device)


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum `tensor` over all processes, in place, and return it."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return all_reduce_sum(tensor.clone())

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient.clone())


def differentiable_sum(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes; every process's gradient reaches every process's share."""
    return _SumOverProcesses.apply(tensor)


def mean_over_processes(tensor: Tensor) -> Tensor:
    """The mean of `tensor` over all processes, without gradient.

    A loss that is a quotient of two sums over the images of all divides its own numerator by the mean denominator:
    gradients are averaged over processes, and so are the losses that are shown.
    """
    return all_reduce_sum(tensor.detach().clone()) / world_size()


def broadcast(tensor: Tensor) -> Tensor:
    """Give `tensor` the values that it has in the first process, in place, and return it."""
    if world_size() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, of one shape, stacked in the order of the processes: (world size, ...)."""
    if world_size() == 1:
        return tensor[None]
    gathered = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(gathered, tensor.contiguous())
    return torch.stack(gathered)


def all_gather_state(state: Any) -> list[Any]:
    """What each process gives, tensors on the CPU and plain values, in the order of the processes."""
    states = [state] * world_size()
    if world_size() > 1:
        dist.all_gather_object(states, state)
    return states


def require_same(facts: Mapping[str, str]) -> None:
    """UserError in every process, naming those that see another value of one of the `facts` than the first does."""
    of_all = all_gather_state(dict(facts))
    for name, value in of_all[0].items():
        strange = [rank for rank, of_one in enumerate(of_all) if of_one.get(name) != value]
        if strange:
            others = ", ".join(map(str, strange))
            raise UserError(
                f"the processes do not agree: process {others} has another {name} than process 0; give all of them the "
                "same"
            )


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every process the buffers of the first: running statistics of norms that do not look at their peers."""
    for buffer in module.buffers():
        broadcast(buffer)


def shut_down() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_process_first() -> Iterator[bool]:
    """The main process runs the block first, the others after it: `with main_process_first() as is_main`."""
    is_main = rank() == 0
    if not is_main:
        barrier()
    try:
        yield is_main
    finally:
        if is_main:
            barrier()
