"""The images that are drawn show every class, where so many can."""

from hypothesis import given
from hypothesis import strategies as st

from dataset.splits import choose

IMAGES = st.lists(st.sets(st.integers(0, 8)), max_size=12)


@given(IMAGES, st.sets(st.integers(0, 8)), st.integers(0, 15))
def test_so_many_different_images_in_order(shown: list[set[int]], wanted: set[int], count: int):
    chosen = choose(shown, wanted, count)
    assert len(chosen) == min(count, len(shown)) and chosen == sorted(set(chosen))


@given(IMAGES, st.sets(st.integers(0, 8)))
def test_with_an_image_a_class_all_are_shown(shown: list[set[int]], wanted: set[int]):
    chosen = choose(shown, wanted, len(wanted))
    there = wanted & set().union(*shown)
    assert there == wanted & set().union(*(shown[position] for position in chosen))


def test_few_images_show_what_they_can_and_the_first_of_equal_ones_is_taken():
    assert choose([{1, 2}, {1, 2}, {3}], {1, 2, 3}, 2) == [0, 2]
    assert choose([{1}, {2, 3}, {1, 4}, {2, 3, 9}], {1, 2, 3, 4}, 2) == [1, 2]


def test_more_images_show_the_classes_once_more():
    assert choose([set(), {1}, set(), {1}], {1}, 2) == [1, 3]


def test_of_equal_images_the_chosen_ones_are_far_apart():
    assert choose([{1}] * 9, {1}, 3) == [0, 4, 8]
