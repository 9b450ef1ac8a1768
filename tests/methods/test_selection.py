import numpy as np
import pytest

from ddjax import methods
from ddjax.synthetic.distilled import decoded
from tests.methods.runs import distilled, run


@pytest.mark.parametrize("how", ["balanced", "kmeans_nearest", "kmeans_centres"])
def test_takes_samples_and_leaves_them(binary, how):
    method = methods.selection(how=how, per_class=2, targets="margin")
    data, start, state, _ = run(method, binary, steps=3)
    np.testing.assert_array_equal(start.stored["inputs"], state.stored["inputs"])
    made = distilled(method, binary, data, state)
    np.testing.assert_array_equal(decoded(made).targets, [-1, -1, 1, 1])
    np.testing.assert_array_equal(made.labels, [0, 0, 1, 1])
    if how != "kmeans_centres":
        real = np.asarray(binary.train.inputs).reshape(len(binary.train.inputs), -1)
        chosen = np.asarray(state.stored["inputs"]).reshape(4, -1)
        assert all((real == row).all(axis=1).any() for row in chosen)
