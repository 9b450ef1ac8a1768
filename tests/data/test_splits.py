import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.data import DataError
from ddjax.data.splits import hold_out, keep_at_most, ordering

NAMES = ("a", "b", "c", "d")

labels_of_each = st.lists(st.integers(2, 40), min_size=2, max_size=4)


def shuffled_labels(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(labels)


def cut(labels, classes, fraction, seed=0):
    return hold_out(
        labels,
        len(labels),
        fraction,
        seed=seed,
        purpose=0,
        where="here",
        class_names=NAMES[:classes],
    )


@given(labels_of_each, st.floats(0.01, 0.99), st.integers(0, 2**64 - 1))
def test_splits_partition_and_every_class_gives_its_share(sizes, fraction, seed):
    labels = shuffled_labels(sizes, 0)
    kept, held = cut(labels, len(sizes), fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    for label, size in enumerate(sizes):
        given_away = int((labels[held] == label).sum())
        assert 1 <= given_away <= size - 1
        assert abs(given_away - fraction * size) <= 1


def test_the_total_is_the_fraction_where_classes_are_large():
    labels = shuffled_labels([33, 41, 26], 2)
    assert len(cut(labels, 3, 0.1)[1]) == 10


def test_seeds_give_different_splits():
    labels = shuffled_labels([50, 50], 3)
    assert not np.array_equal(cut(labels, 2, 0.5, 0)[1], cut(labels, 2, 0.5, 1)[1])


def test_without_classes_everything_is_one_stratum():
    kept, held = hold_out(None, 10, 0.3, seed=0, purpose=0, where="here")
    assert len(kept) == 7 and len(held) == 3


def test_a_class_of_one_cannot_be_split():
    with pytest.raises(DataError, match="here: class 'b' has 1 sample"):
        cut(np.array([0, 0, 0, 1]), 2, 0.5)


@given(labels_of_each, st.data())
def test_limit_keeps_at_most_that_many_and_some_of_each(sizes, data):
    labels = shuffled_labels(sizes, 4)
    limit = data.draw(st.integers(2 * len(sizes), len(labels) + 5))
    kept = keep_at_most(
        labels,
        len(labels),
        limit,
        least=2,
        seed=5,
        purpose=1,
        where="here",
        class_names=NAMES[: len(sizes)],
    )
    assert len(kept) == min(limit, len(labels))
    assert np.array_equal(kept, np.unique(kept))
    assert (np.bincount(labels[kept], minlength=len(sizes)) >= 2).all()


def test_a_limit_below_two_of_each_class_is_refused():
    options = dict(least=2, seed=0, purpose=0, where="here", class_names=("a", "b"))
    with pytest.raises(DataError, match="limit=3 cannot hold 2 .* at least 4"):
        keep_at_most(np.arange(20) % 2, 20, 3, **options)


def test_ordering_is_the_same_on_every_machine():
    # Golden: a change would silently move samples between splits.
    assert ordering(0, 4, 10).tolist() == [5, 6, 4, 0, 3, 2, 8, 1, 9, 7]
