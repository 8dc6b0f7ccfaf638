"""Any number of samples, processes and samples a batch: who gets what."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dataset.sampler import EvalBatchSampler, TrainSampler
from tests.properties.strategies import divisors, seeds

Key = tuple[int, int]


def share(size: int, batch_size: int, rank: int, world_size: int, *, seed: int, epoch: int) -> list[Key]:
    sampler = TrainSampler(size, batch_size=batch_size, rank=rank, world_size=world_size, seed=seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(sampler) == len(keys) and keys == list(sampler)
    return keys


@given(st.integers(0, 99), st.integers(1, 7), st.integers(1, 6), seeds, st.integers(0, 99))
def test_training_shares_are_disjoint_and_equally_long(
    size: int, batch_size: int, world_size: int, seed: int, epoch: int
):
    shares = [share(size, batch_size, rank, world_size, seed=seed, epoch=epoch) for rank in range(world_size)]
    full = size // (batch_size * world_size)
    assert [len(keys) for keys in shares] == [full * batch_size] * world_size
    dealt = [key for keys in shares for key in keys]
    assert len(dealt) == len(set(dealt)) and set(dealt) <= {(epoch, index) for index in range(size)}


@given(st.integers(0, 99), st.integers(1, 24), seeds, st.integers(0, 99))
def test_batches_of_all_processes_are_the_same_sets_however_many_they_are(size: int, total: int, seed: int, epoch: int):
    def batches(world_size: int) -> list[set[Key]]:
        length = total // world_size
        shares = [share(size, length, rank, world_size, seed=seed, epoch=epoch) for rank in range(world_size)]
        return [
            {key for keys in shares for key in keys[start : start + length]}
            for start in range(0, len(shares[0]), length)
        ]

    expected = batches(1)
    assert [len(batch) for batch in expected] == [total] * (size // total)
    for world_size in divisors(total):
        assert batches(world_size) == expected


def test_passes_and_seeds_shuffle_differently_and_repeat():
    def order(**which: int) -> list[int]:
        return [index for _, index in share(40, 4, 0, 1, **({"seed": 1, "epoch": 0} | which))]

    assert order() == order() and len({*map(tuple, (order(), order(epoch=1), order(seed=2)))}) == 3


@given(st.integers(1, 99), st.integers(1, 7), st.integers(1, 4), seeds, st.integers(0, 9), st.data())
def test_a_pass_resumes_after_any_batch(
    size: int, batch_size: int, world_size: int, seed: int, epoch: int, data: st.DataObject
):
    rank = data.draw(st.integers(0, world_size - 1))
    sampler = TrainSampler(size, batch_size=batch_size, rank=rank, world_size=world_size, seed=seed)
    sampler.set_epoch(epoch)
    whole, length = list(sampler), len(sampler)
    number = data.draw(st.integers(0, length // batch_size))
    assert sampler.batch(number, rank) == [index for _, index in whole[number * batch_size : (number + 1) * batch_size]]
    sampler.set_epoch(epoch, number)
    assert list(sampler) == whole[number * batch_size :] and len(sampler) == length
    sampler.set_epoch(epoch)
    assert list(sampler) == whole


sides = st.integers(1, 4)


@given(st.lists(st.tuples(sides, sides), max_size=40), st.integers(1, 40), st.integers(1, 6))
def test_evaluation_meets_each_sample_once_in_batches_of_one_size(
    sizes: list[tuple[int, int]], max_pixels: int, world_size: int
):
    shares = []
    for rank in range(world_size):
        sampler = EvalBatchSampler(sizes, max_pixels=max_pixels, rank=rank, world_size=world_size)
        batches = list(sampler)
        assert len(sampler) == len(batches)
        of_size: Counter[tuple[int, int]] = Counter()
        for batch in batches:
            ((height, width),) = {sizes[index] for _, index in batch}
            assert len(batch) == 1 or len(batch) * height * width <= max_pixels
            of_size[height, width] += 1
        shares.append([key for batch in batches for key in batch])
        # No more batches than it takes.
        for (height, width), count in of_size.items():
            fit = max(1, max_pixels // (height * width))
            assert count == -(-sum(sizes[index] == (height, width) for _, index in shares[-1]) // fit)
    assert sorted(key for keys in shares for key in keys) == [(0, index) for index in range(len(sizes))]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
