"""Which sample goes to which process and batch, as (epoch, index) pairs. Nothing global is drawn from."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from utils.random_state import derive_seed


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
        self.done = 0
        self.batch_size = batch_size
        # Cut before dealing out, so that all processes see the same number of batches.
        self.used = size - size % (batch_size * world_size)

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the permutation, and the random numbers of the samples, of the next pass.

        It leaves out its first `done` batches, those that an earlier run has seen.
        """
        self.epoch = epoch
        self.done = done

    def __len__(self) -> int:
        """Samples of a whole pass."""
        return self.used // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self._order(self.rank)[self.done * self.batch_size :]
        return ((self.epoch, index) for index in order)

    def batch(self, number: int, rank: int) -> list[int]:
        """Which samples batch `number` of this pass, counted from 0, has in process `rank`."""
        return self._order(rank)[number * self.batch_size : (number + 1) * self.batch_size]

    def _order(self, rank: int) -> list[int]:
        return self._all()[rank :: self.world_size].tolist()

    def _all(self) -> Tensor:
        """The samples that all processes see in this pass, in order."""
        return _drawn(self.size, self.used, torch.Generator().manual_seed(derive_seed(self.seed, self.epoch)))


class MixedSampler(TrainSampler):
    """As TrainSampler, but a random half of each batch of all processes is replaced by samples of a memory.

    `memory` counts these; their indices are those behind the others. They come in passes, each in another order.
    """

    def __init__(self, size: int, memory: int, **options: int) -> None:
        super().__init__(size, **options)
        self.memory = memory

    def _all(self) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, 1))
        batches = super()._all().view(-1, self.batch_size * self.world_size)
        places = torch.rand(batches.shape, generator=generator).argsort(1)[:, : batches.shape[1] // 2]
        remembered = self.size + _drawn(self.memory, places.numel(), generator).view_as(places)
        return batches.scatter(1, places, remembered).flatten()


class DrawSampler(TrainSampler):
    """As TrainSampler, but a pass has `count` samples: a part of the permutation, or several permutations in turn."""

    def __init__(self, size: int, *, count: int, **options: int) -> None:
        super().__init__(size, **options)
        self.used = count


def _drawn(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers below `size`, in permutations of all of them."""
    permutations = range(max(1, -(-count // max(1, size))))
    return torch.cat([torch.randperm(size, generator=generator) for _ in permutations])[:count]


class EvalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of samples of one size, every world_size-th sample from `rank` on: no sample twice, the shares of the
    processes may differ by one.

    `sizes`: height and width of each sample as it comes to the network. A batch has at most `max_pixels` pixels, and
    one sample at least.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], *, max_pixels: int, rank: int, world_size: int) -> None:
        of_size: dict[tuple[int, int], list[int]] = {}
        for index in range(rank, len(sizes), world_size):
            of_size.setdefault(sizes[index], []).append(index)
        self.batches = []
        for (height, width), indices in of_size.items():
            length = max(1, max_pixels // (height * width))
            self.batches += [indices[start : start + length] for start in range(0, len(indices), length)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(0, index) for index in batch] for batch in self.batches)
