"""One process or many: the code above never asks which."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from utils.errors import UserError

LONGEST_SCAN = timedelta(hours=2)
"""The first process may scan a data set of 20,000 masks while the others wait for it."""
PATIENCE = timedelta(seconds=60)
"""How long a GPU waits for its peers, of which one may be dead. Work that takes some longer than others, as a scan of
the data, is waited for on the CPU, by `barrier`, which hears of a death at once."""
SECONDS_OF_A_NETWORK = 10
"""How long a file of another machine may take to be seen."""


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


def init_distributed(local_rank: int | None = None, *, deterministic: bool = False) -> Dist:
    """Join the process group that torchrun or torch.distributed.launch announced; alone where there is none.

    `local_rank` is what older launchers pass on the command line; the LOCAL_RANK variable wins.
    Backend nccl on CUDA, gloo for what lies on the CPU. `deterministic`: a GPU computes the same to the last bit each
    time. UserError as `find_device`.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it did not write
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32; who wants speed takes --opt_level O1
    device = find_device(int(os.environ.get("LOCAL_RANK", local_rank or 0)))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Dist(rank=0, world_size=1, device=device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world_size = next(dist.rendezvous("env://", timeout=LONGEST_SCAN))
    # After a restart torchrun's store still has the addresses of the processes that are gone: meet at another place.
    store = dist.PrefixStore(_attempt(), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=LONGEST_SCAN)
    limit_patience(device, PATIENCE)
    return Dist(rank=dist.get_rank(), world_size=dist.get_world_size(), device=device)


def limit_patience(device: torch.device, patience: timedelta) -> None:
    """Where `device` is a GPU, it waits so long for its peers; CPUs wait for LONGEST_SCAN."""
    if device.type == "cuda" and dist.is_initialized():
        dist.group.WORLD._get_backend(device)._set_default_timeout(patience)


def _attempt() -> str:
    """Tells the starts of a process group apart, alike in all processes.

    torchrun counts restarts for each machine by itself, so that over several the counts part. There each start has a
    store of its own. UserError where it would have none.
    """
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1:
        return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun --max-restarts {restarts} over several machines: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where "
            "torchrun starts, on each, or after a restart the processes would not find each other"
        )
    return "attempt"


def find_device(local_rank: int, drivers: Path = Path("/dev")) -> torch.device:
    """The GPU of this process, which is number `local_rank` of its machine; the CPU where there is none.

    UserError where a machine has fewer GPUs than processes, or GPUs that torch was built for and cannot use. `drivers`
    lists them, as nvidia0.
    """
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise UserError(
                f"process {local_rank} of this machine has no GPU, torch sees {count}: start {count} here, as with "
                f"--nproc_per_node {count}, or list more in CUDA_VISIBLE_DEVICES"
            )
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if torch.version.cuda and not hidden and any(drivers.glob("nvidia[0-9]*")):
        try:
            torch.cuda.init()
            reason = "it finds none"
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split(". ")[0].splitlines()[0]
        raise UserError(
            f"this machine has a GPU that torch {torch.__version__} cannot use: {reason}; install the torch that fits "
            "its driver, or run on the CPU: CUDA_VISIBLE_DEVICES="
        )
    return torch.device("cpu")


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


def told_by_main(value: Any) -> Any:
    """What the main process gives, in all of them; plain values."""
    return all_gather_state(value)[0]


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


def require_shared(folder: Path) -> None:
    """UserError unless all processes see the files that the main one writes into `folder`, of the checkpoints."""
    if world_size() == 1:
        return
    token = told_by_main(secrets.token_hex())
    path = folder / f".seen.{token[:16]}"
    with main_process_first() as is_main:
        if is_main:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(token)
    deadline = time.monotonic() + SECONDS_OF_A_NETWORK
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    seen = all_gather_state(path.is_file())
    if is_main:
        path.unlink()
    if not all(seen):
        others = ", ".join(str(rank) for rank, sees in enumerate(seen) if not sees)
        raise UserError(
            f"process {others} does not see what process 0 writes to {folder}: name a folder on a disk that all "
            "machines share with --checkpoint"
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
    """Wait until every process has come here, as long as it takes, on the CPU."""
    all_reduce_sum(torch.zeros(1))


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
