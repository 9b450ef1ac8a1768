import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import methods
from ddjax.kernels import random_features
from ddjax.synthetic.targets import centred_one_hot
from tests.methods.runs import prepared, progress, run

SMALL = {"kind": "fully_connected", "depth": 1, "width": 64}


def test_steps_lower_the_loss(three_classes):
    method = methods.rfad(
        architecture=SMALL,
        networks=4,
        loss="platt",
        batch_size=64,
        descent={"learning_rate": 0.03, "rates": {"temperature": 0.05}},
    )
    _, _, state, metrics = run(method, three_classes, steps=40)
    assert metrics["loss"][-8:].mean() < 0.8 * metrics["loss"][:8].mean()
    assert float(state.learned["temperature"]) != 0.0


@pytest.mark.parametrize("loss", ["squared", "platt"])
def test_a_step_is_regression_in_the_kernel_of_its_own_networks(three_classes, loss):
    """K = w_std^2 f f^T + b_std^2, with the networks of the step's key."""
    method = methods.rfad(
        architecture=SMALL, networks=2, ridge=1e-2, batch_size=10_000, loss=loss
    )
    data, state = prepared(method, three_classes)
    state = state._replace(learned={**state.learned, "temperature": jnp.asarray(0.5)})
    batch = method.sample(jax.random.key(2), data)
    key = jax.random.key(3)
    after, metrics = jax.jit(method.step)(state, batch, key, progress())
    hidden = random_features.fully_connected(depth=1, width=64)
    stored, labels = state.learned["stored"], batch.real.labels

    @jax.jit
    def features(inputs):
        params = random_features.init_networks(
            key, hidden, input_shape=(8, 8, 1), networks=2
        )
        return random_features.features(params, inputs, architecture=hidden)

    support, real = (
        np.asarray(features(each), np.float64)
        for each in (stored["inputs"], batch.real.inputs)
    )
    gram, cross = 2 * support @ support.T + 0.01, 2 * real @ support.T + 0.01
    ridge = 1e-2 * np.trace(gram) / 3 * np.eye(3)
    found = cross @ np.linalg.solve(gram + ridge, np.asarray(stored["targets"]))
    if loss == "squared":
        wanted = 0.5 * np.mean((np.asarray(centred_one_hot(labels, 3)) - found) ** 2)
    else:
        scores = jnp.asarray(np.exp(0.5) * found, jnp.float32)
        each = optax.softmax_cross_entropy(scores, jax.nn.one_hot(labels, 3))
        wanted = each.mean()
    np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-3)
    moved = float(after.learned["temperature"]) != 0.5
    assert moved == (loss == "platt")
