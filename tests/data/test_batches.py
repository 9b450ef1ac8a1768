import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.data import Split, gather, host_batch_indices
from ddjax.data.batches import permuted


@given(st.integers(1, 300), st.integers(0, 2**70), st.integers(0, 2**40))
def test_permuted_is_a_permutation(n, seed, stream):
    image = permuted(np.arange(n), n, seed=seed, stream=stream)
    assert sorted(image.tolist()) == list(range(n))


@given(st.integers(1, 60), st.integers(1, 90), st.integers(0, 1000))
def test_every_sample_is_seen_once_an_epoch(n, batch_size, seed):
    steps = 3 * n
    seen = np.concatenate(
        [host_batch_indices(seed, step, batch_size, n) for step in range(steps)]
    )
    epochs = seen[: len(seen) // n * n].reshape(-1, n)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()


def test_a_step_needs_no_earlier_step():
    later = host_batch_indices(3, 10**12, 256, 1_281_167)
    assert np.array_equal(later, host_batch_indices(3, 10**12, 256, 1_281_167))
    assert later.dtype == np.int64 and len(set(later.tolist())) == 256


def test_seeds_and_epochs_differ():
    first = host_batch_indices(0, 0, 100, 100)
    assert not np.array_equal(first, host_batch_indices(1, 0, 100, 100))
    assert not np.array_equal(first, host_batch_indices(0, 1, 100, 100))


def test_orders_are_uniform_enough():
    orders = [tuple(permuted(np.arange(4), 4, seed=seed)) for seed in range(4800)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    statistic = ((counts - 200) ** 2 / 200).sum()
    assert len(counts) == 24 and statistic < 49.7  # 99.9 % point of chi2(23)


def test_neighbours_are_not_related():
    image = permuted(np.arange(5000), 5000, seed=0)
    other = permuted(np.arange(5000), 5000, seed=0, stream=1)
    for one, two in ((image, np.arange(5000)), (image[1:], image[:-1]), (image, other)):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.06


def test_the_order_never_changes():
    # Golden: an interrupted run must resume with the same order after an upgrade.
    assert host_batch_indices(7, 2, 5, 13).tolist() == [12, 0, 3, 1, 7]


def test_gather_takes_rows_in_the_order_asked_for(tmp_path):
    inputs = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
    np.save(tmp_path / "x.npy", inputs)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    indices = np.array([7, 0, 7, 3])
    batch = gather(Split(mapped, np.arange(10, dtype=np.int32)), indices)
    assert np.array_equal(batch.inputs, inputs[indices])
    assert batch.targets.tolist() == [7, 0, 7, 3]
    assert gather(Split(inputs, None), indices).targets is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1, 0, 1, 1), "seed=-1"),
        ((0, -1, 1, 1), "step=-1"),
        ((0, 0, 0, 1), "batch_size=0"),
        ((0, 0, 1, 0), "n=0; it must be at least 1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        host_batch_indices(*arguments)
