"""One process or two: the same calls, the right answers."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from metrics.meter import Fault, LossMeter
from tests.helpers import run_processes
from utils.distributed import (
    Dist,
    all_gather,
    all_gather_state,
    all_reduce_sum,
    barrier,
    broadcast,
    broadcast_buffers,
    differentiable_sum,
    init_distributed,
    main_process_first,
    mean_over_processes,
    rank,
    require_same,
    shut_down,
    world_size,
)
from utils.errors import UserError


@pytest.mark.parametrize("launched", [True, False])
def test_one_process_needs_no_group(monkeypatch, launched):
    """Alone, or as the only process of torchrun."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value) if launched else monkeypatch.delenv(name, raising=False)
    made = init_distributed()
    assert (made.rank, made.world_size, made.is_main) == (0, 1, True)
    assert made.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not dist.is_initialized() and (rank(), world_size()) == (0, 1)
    norm = torch.nn.BatchNorm1d(2)
    for function in (all_reduce_sum, broadcast, differentiable_sum, mean_over_processes):
        assert torch.equal(function(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    broadcast_buffers(norm)
    barrier()
    assert torch.equal(all_gather(torch.tensor([1.0, 2.0])), torch.tensor([[1.0, 2.0]]))
    assert all_gather_state({"a": [1]}) == [{"a": [1]}]
    require_same({"code": "any"})
    with main_process_first() as is_main:
        assert is_main
    shut_down()


def test_only_the_first_process_is_main():
    assert [Dist(rank, 3, torch.device("cpu")).is_main for rank in range(3)] == [True, False, False]


def _talk(number: int, folder: Path) -> dict[str, Any]:
    """What a process of two hears. The group is there already: run_processes calls init_distributed; at the end it is
    left twice."""
    assert rank() == number
    tensor = torch.tensor([1.0 + number, 10.0])
    same = all_reduce_sum(tensor)
    own = torch.tensor([2.0 + number], requires_grad=True)
    total, mean, first = differentiable_sum(own), mean_over_processes(own), broadcast(own.detach().clone())
    (total * (5 + number)).sum().backward()
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    torch.nn.init.constant_(module[1].weight, number)
    module[0].running_mean.fill_(5.0 + number)
    module[0].num_batches_tracked.fill_(7 + number)
    broadcast_buffers(module)
    with main_process_first() as is_main:
        found = (folder / "made").exists()
        if is_main:
            time.sleep(0.3)  # the other one would look too early
            (folder / "made").touch()
    failed_first = False
    try:
        with main_process_first() as is_main:
            if is_main:
                raise OSError("disk full")
    except OSError:
        failed_first = True
    state = {"name": "x" * (1 + 5 * number), "tensor": torch.full((number,), 2.5), "plain": [number, None]}
    gathered = all_gather_state(state)
    require_same({"task": "15-1"})
    try:
        require_same({"task": "15-1", "code": f"that of {number}"})
        refusal = ""
    except UserError as error:
        refusal = str(error)
    meter = LossMeter()
    for value in (1.0, 2.0 if number == 0 else float("inf"), 3.0 + 2 * number):
        meter.add({"ce": torch.tensor(value)})
    faults, meter_means = meter.faults(), meter.means()
    all_gather_result = all_gather(torch.tensor([number, 7])).tolist()
    barrier()
    world = world_size()
    shut_down()
    shut_down()
    return {
        "sum": tensor.tolist(),
        "in place": same is tensor,
        "of a share": [total.item(), own.grad.item(), mean.item(), mean.requires_grad, first.item(), own.item()],
        "world": [world, world_size()],
        "mean": module[0].running_mean.tolist(),
        "count": module[0].num_batches_tracked.item(),
        "weight": module[1].weight.mean().item(),
        "is main": is_main,
        "found": found,
        "failed": failed_first,
        "gathered": [(part["name"], part["tensor"].tolist(), part["plain"]) for part in gathered],
        "stacked": all_gather_result,
        "refusal": refusal,
        "faults": faults == [Fault(1, 1, "ce", float("inf"))],
        "means": meter_means,
    }


def test_two_processes(tmp_path):
    shared = {"sum": [3.0, 20.0], "in place": True, "world": [2, 1], "mean": [5.0, 5.0], "count": 7}
    shared |= {
        "gathered": [("x", [], [0, None]), ("xxxxxx", [2.5], [1, None])],
        "stacked": [[0, 7], [1, 7]],
        "faults": True,
        "means": {"ce": 2.5, "total": 2.5},
    }
    first, second = run_processes(_talk, tmp_path)
    assert first.pop("refusal") == second["refusal"]
    assert second.pop("refusal").startswith("the processes do not agree: process 1 has another code than process 0; ")
    of_share = [5.0, 11.0, 2.5, False, 2.0]
    shared |= {"of a share": [*of_share, 2.0]}
    assert first == shared | {"weight": 0.0, "is main": True, "found": False, "failed": True}
    # A main process that fails does not leave the other one waiting.
    shared |= {"of a share": [*of_share, 3.0]}
    assert second == shared | {"weight": 1.0, "is main": False, "found": True, "failed": False}
