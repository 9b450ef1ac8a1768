import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from ddjax.data.principal_components import principal_components
from tests.memory import peak_of


def rows(n, d, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.linspace(3, 1, d) + offset


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_agrees_with_scikit_learn(offset):
    x = rows(60, 9, offset=offset)
    found = principal_components(np.array_split(x, 7), 5)
    other = PCA(5, svd_solver="full").fit(x)
    signs = np.sign(np.sum(found.components * other.components_, axis=1))
    tolerance = 1e-9 if offset == 0 else 1e-6
    np.testing.assert_allclose(
        found.components, other.components_ * signs[:, None], atol=tolerance
    )
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-12)


@given(
    cuts=st.lists(st.integers(0, 30), max_size=4),
    count=st.integers(1, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_blocks_do_not_matter(cuts, count, dtype):
    x = rows(30, 6).astype(dtype)
    whole = principal_components([x], count)
    parts = principal_components(np.split(x, sorted(cuts)), count)
    np.testing.assert_allclose(parts.components, whole.components, atol=1e-9)
    np.testing.assert_allclose(
        parts.components @ parts.components.T, np.eye(count), atol=1e-12
    )


def test_images_are_flattened_and_signs_are_fixed():
    x = rows(20, 12).reshape(20, 2, 2, 3)
    found = principal_components([x], 3)
    assert found.components.shape == (3, 12)
    for row in found.components:
        assert row[np.abs(row).argmax()] > 0


def test_memory_does_not_grow_with_the_number_of_rows():
    def peak(blocks):
        drawn = (rows(64, 32, seed) for seed in range(blocks))
        return peak_of(lambda: principal_components(drawn, 4))[1]

    peak(2)
    assert peak(64) < 1.2 * peak(4)


@pytest.mark.parametrize("count", [0, 6, 20])
def test_counts_out_of_range(count):
    with pytest.raises(ValueError, match=f"{count} principal components of 10 rows"):
        principal_components([rows(10, 5)], count)
    with pytest.raises(ValueError, match="of 0 rows"):
        principal_components([], 1)
