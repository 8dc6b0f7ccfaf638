"""Which sample goes to which process and batch, as (epoch, index) pairs. Nothing global is drawn from."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from dataset.transform import derive_seed


class TrainSampler(Sampler[tuple[int, int]]):
    """The share of process `rank` of a permutation that depends on (seed, epoch) alone.

    Batch i of all processes together is the same set of samples for any number of processes, as long as
    batch_size * world_size is the same. The last batch is left out where it is not full.
    """

    def __init__(self, size: int, *, batch_size: int, rank: int, world_size: int, seed: int) -> None:
        self.size = size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.epoch = 0
        # Cut before dealing out, so that all processes see the same number of batches.
        self.used = size - size % (batch_size * world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation, and the random numbers of the samples, of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator)[self.rank : self.used : self.world_size]
        return ((self.epoch, index) for index in order.tolist())


class EvalSampler(Sampler[tuple[int, int]]):
    """Every world_size-th sample from `rank` on: no sample twice, so the shares may differ in size by one."""

    def __init__(self, size: int, *, rank: int, world_size: int) -> None:
        self.indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in self.indices)
