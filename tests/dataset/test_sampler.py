"""Who gets which sample: the same batches for any number of processes, and nothing twice in evaluation."""

from itertools import islice

import pytest

from dataset.sampler import EvalBatchSampler, TrainSampler


def batches(size: int, *, world_size: int, global_batch: int, epoch: int = 0, seed: int = 1) -> list[set]:
    """Samples of each batch, all processes taken together."""
    batch_size = global_batch // world_size
    result: list[set] = []
    for rank in range(world_size):
        sampler = TrainSampler(size, batch_size=batch_size, rank=rank, world_size=world_size, seed=seed)
        sampler.set_epoch(epoch)
        keys = iter(sampler)
        for number in range(len(sampler) // batch_size):
            if rank == 0:
                result.append(set())
            result[number] |= set(islice(keys, batch_size))
        assert next(keys, None) is None
    return result


@pytest.mark.parametrize("size", [24, 25, 47, 100])
def test_batches_do_not_depend_on_the_number_of_processes(size: int):
    expected = batches(size, world_size=1, global_batch=12)
    assert len(expected) == size // 12
    assert all(len(batch) == 12 for batch in expected)
    for world_size in (2, 3, 4):
        assert batches(size, world_size=world_size, global_batch=12) == expected


def test_no_sample_twice_in_a_pass_and_all_where_they_divide():
    keys = [key for batch in batches(48, world_size=2, global_batch=8, epoch=3) for key in batch]
    assert sorted(keys) == [(3, index) for index in range(48)]


def test_passes_and_seeds_shuffle_differently_and_repeat():
    def order(**which) -> list[int]:
        return [frozenset(i for _, i in batch) for batch in batches(40, world_size=1, global_batch=4, **which)]

    assert order(epoch=0) == order(epoch=0)
    assert order(epoch=0) != order(epoch=1)
    assert order(seed=1) != order(seed=2)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_shares_are_a_partition(size: int, world_size: int):
    samplers = [
        EvalBatchSampler([(8, 8)] * size, max_pixels=3 * 64, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    shares = [[key for batch in sampler for key in batch] for sampler in samplers]
    assert sorted(key for share in shares for key in share) == [(0, index) for index in range(size)]
    assert [len(sampler) for sampler in samplers] == [-(-len(share) // 3) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_batches_of_evaluation_are_of_one_size_and_not_too_large():
    sizes = [(3, 4), (4, 3), (3, 4), (10, 10), (3, 4), (4, 3), (3, 4), (10, 10)]
    batches = list(EvalBatchSampler(sizes, max_pixels=36, rank=0, world_size=1))
    assert sorted(index for batch in batches for _, index in batch) == list(range(len(sizes)))
    assert sorted(batches) == [[(0, 0), (0, 2), (0, 4)], [(0, 1), (0, 5)], [(0, 3)], [(0, 6)], [(0, 7)]]
