import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddjax.data import (
    Batches,
    Split,
    batches,
    feed,
    gather,
    load,
    on_device,
    rows_of_step,
)
from ddjax.data.feed import permuted
from tests.data.files import write_images


def numbered(count, classes=None):
    """Inputs that are their own numbers, with labels 0, 1, ..., 0, 1, ..."""
    inputs = np.arange(count, dtype=np.float32)[:, None]
    labels = None if classes is None else np.arange(count, dtype=np.int32) % classes
    return Split(inputs, labels)


def drawn(rows, steps, seed=0):
    return np.stack([rows_of_step(rows, seed=seed, step=step) for step in range(steps)])


@given(st.integers(1, 60), st.integers(0, 2**70), st.integers(0, 2**40))
def test_permuted_is_a_permutation(n, seed, stream):
    image = permuted(np.arange(n), n, seed=seed, stream=stream)
    assert sorted(image.tolist()) == list(range(n))


@settings(max_examples=10)
@given(st.integers(2, 40), st.data(), st.integers(0, 1000))
def test_no_row_twice_in_a_batch_nor_in_an_epoch(n, data, seed):
    batch_size = data.draw(st.integers(1, n - 1))
    turns = n // batch_size
    found = drawn(batches(numbered(n), batch_size), 3 * turns, seed)
    for epoch in found.reshape(3, turns * batch_size):
        assert len(set(epoch.tolist())) == turns * batch_size
    assert found.min() >= 0 and found.max() < n


def test_no_batch_repeats_a_row_where_an_epoch_ends():
    # Once, host batches ran over the end of an epoch of 13 rows into the next one and
    # held a row twice, which batches on the device did not.
    found = drawn(batches(numbered(13), 5), 200)
    assert all(len(set(batch.tolist())) == 5 for batch in found)
    assert set(found.ravel().tolist()) == set(range(13))


@settings(max_examples=10)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=4), st.data())
def test_balanced_batches_hold_as_many_of_each_class(sizes, data):
    share = data.draw(st.integers(1, min(sizes)))
    seed = data.draw(st.integers(0, 2**32))
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    labels = np.random.default_rng(0).permutation(labels)
    split = Split(np.zeros((len(labels), 1), np.float32), labels)
    rows = batches(split, share * len(sizes), balanced=True)
    assert isinstance(rows, Batches) and rows.balanced
    found = drawn(rows, 2 * max(sizes), seed)
    expected = np.repeat(np.arange(len(sizes)), share)
    assert all(np.array_equal(labels[batch], expected) for batch in found)
    for label, size in enumerate(sizes):
        own = found[:, label * share : (label + 1) * share]
        for start in range(0, len(own) - size // share + 1, size // share):
            epoch = own[start : start + size // share].ravel()
            assert len(set(epoch.tolist())) == len(epoch)


def test_class_membership_is_found_once(monkeypatch):
    rows = batches(numbered(12, classes=3), 6, balanced=True)
    first = rows_of_step(rows, seed=0, step=0)
    monkeypatch.setattr(feed, "_members", lambda *_: pytest.fail("found again"))
    blind = rows._replace(split=rows.split._replace(labels=None))
    np.testing.assert_array_equal(rows_of_step(blind, seed=0, step=0), first)


def test_a_step_needs_no_earlier_step():
    inputs = np.broadcast_to(np.float32(0), (1_281_167, 1))
    rows = batches(Split(inputs), 256)
    later = rows_of_step(rows, seed=3, step=10**12)
    assert np.array_equal(later, rows_of_step(rows, seed=3, step=10**12))
    assert len(set(later.tolist())) == 256


def test_seeds_steps_and_epochs_differ():
    rows = batches(numbered(101), 100)
    first = rows_of_step(rows, seed=0, step=0)
    assert not np.array_equal(first, rows_of_step(rows, seed=1, step=0))
    assert not np.array_equal(first, rows_of_step(rows, seed=0, step=1))


def test_classes_are_drawn_independently():
    rows = batches(numbered(200, classes=2), 100, balanced=True)
    found = rows_of_step(rows, seed=0, step=0)
    assert not np.array_equal(found[:50] // 2, found[50:] // 2)


def test_orders_are_uniform_enough():
    streams = np.repeat(np.arange(4800), 4)
    orders = permuted(np.tile(np.arange(4), 4800), 4, seed=0, stream=streams)
    counts = np.unique(orders.reshape(-1, 4), axis=0, return_counts=True)[1]
    statistic = ((counts - 200) ** 2 / 200).sum()
    assert len(counts) == 24 and statistic < 49.7  # 99.9 % point of chi2(23)


def test_neighbours_are_not_related():
    image = permuted(np.arange(5000), 5000, seed=0)
    other = permuted(np.arange(5000), 5000, seed=0, stream=1)
    for one, two in ((image, np.arange(5000)), (image[1:], image[:-1]), (image, other)):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.06


def test_the_order_never_changes():
    # Golden: an interrupted run must resume with the same order after an upgrade.
    uniform = batches(numbered(13), 5)
    assert rows_of_step(uniform, seed=7, step=1).tolist() == [5, 1, 10, 9, 6]
    balanced = batches(numbered(13, classes=2), 4, balanced=True)
    assert rows_of_step(balanced, seed=7, step=9).tolist() == [6, 4, 1, 11]


@pytest.mark.parametrize("balanced", [False, True])
def test_the_same_rows_wherever_the_data_lie(tmp_path, balanced):
    folder = write_images(tmp_path / "images", classes=("ant", "bee"), count=20)
    keywords = dict(directory=folder, preprocessing="none")
    problems = [
        load("folder", on_device=where, **keywords) for where in (True, False, "files")
    ]
    splits = [problem.train for problem in problems]
    assert [on_device(split) for split in splits] == [True, False, False]
    found = []
    for split in splits:
        rows = batches(split, 6, balanced=balanced)
        assert isinstance(rows, Batches) and rows.balanced == balanced
        chosen = rows_of_step(rows, seed=1, step=2)
        found.append((chosen, *gather(rows.split, chosen)[:2]))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("batch_size", [None, 10, 11])
def test_a_step_that_takes_all_has_the_split_on_the_device(batch_size):
    host = numbered(10, classes=2)._replace(targets=np.ones((10, 3), np.float32))
    split = batches(host, batch_size)
    assert isinstance(split, Split) and on_device(split)
    for one, other in zip(split, host, strict=True):
        assert isinstance(one, jax.Array) and one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_gather_takes_rows_in_the_order_asked_for(tmp_path):
    inputs = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
    np.save(tmp_path / "x.npy", inputs)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.array([7, 0, 7, 3])
    targets = np.arange(20, dtype=np.float32).reshape(10, 2)
    batch = gather(Split(mapped, np.arange(10, dtype=np.int32), targets), rows)
    assert np.array_equal(batch.inputs, inputs[rows])
    assert batch.labels.tolist() == [7, 0, 7, 3]
    assert np.array_equal(batch.targets, targets[rows])
    unlabelled = gather(Split(inputs), rows)
    assert unlabelled.labels is None and unlabelled.targets is None


UNEVEN = Split(np.zeros((9, 1), np.float32), np.array([0, 0, 0, 0, 0, 0, 0, 1, 2]))


@pytest.mark.parametrize(
    "split, batch_size, balanced, message",
    [
        (numbered(9), 0, False, "batch_size must be at least 1, got 0"),
        (numbered(9), -3, True, "batch_size must be at least 1, got -3"),
        (numbered(9), 3, True, "needs class labels, the split has none"),
        (numbered(9, 3), 4, True, "4 rows is no multiple of 3 classes"),
        (UNEVEN, 6, True, "class 1 has 1 rows, fewer than the 2"),
    ],
)
def test_batches_that_cannot_be_drawn(split, batch_size, balanced, message):
    with pytest.raises(ValueError, match=message):
        batches(split, batch_size, balanced=balanced)


def test_arguments_out_of_range():
    for name in ("seed", "step"):
        with pytest.raises(ValueError, match=f"{name}=-1; it must be at least 0"):
            rows_of_step(batches(numbered(9), 2), **{"seed": 0, "step": 0, name: -1})
