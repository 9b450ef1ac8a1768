import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import methods
from ddjax.kernels import random_features
from ddjax.methods.ridge_objective import ridge_loss
from ddjax.synthetic.targets import centred_one_hot
from tests.methods.runs import prepared, progress, run

SMALL = {"kind": "fully_connected", "depth": 1, "width": 64}


@pytest.mark.parametrize("loss", ["squared", "platt"])
def test_steps_lower_the_loss(three_classes, loss):
    method = methods.rfad(
        architecture=SMALL,
        networks=4,
        loss=loss,
        batch_size=64,
        descent={"learning_rate": 0.03, "rates": {"temperature": 0.05}},
    )
    _, start, state, metrics = run(method, three_classes, steps=40)
    assert metrics["loss"][-8:].mean() < 0.8 * metrics["loss"][:8].mean()
    moved = float(state.learned["temperature"]) != 0.0
    assert moved == (loss == "platt")


def test_kernel_is_the_features_with_the_dense_head(three_classes):
    """K = w_std^2 f f^T + b_std^2, with the networks of the step's own key."""
    method = methods.rfad(architecture=SMALL, networks=2, ridge=1e-2, batch_size=10_000)
    data, state = prepared(method, three_classes)
    batch = method.sample(jax.random.key(2), data)
    key = jax.random.key(3)
    _, metrics = jax.jit(method.step)(state, batch, key, progress())
    hidden = random_features.fully_connected(depth=1, width=64)
    stored = state.learned["stored"]

    @jax.jit
    def expected(inputs):
        params = random_features.init_networks(
            key, hidden, input_shape=(8, 8, 1), networks=2
        )
        support, real = (
            random_features.features(params, each, architecture=hidden)
            for each in (inputs, batch.real.inputs)
        )
        return ridge_loss(
            2.0 * support @ support.T + 0.01,
            2.0 * real @ support.T + 0.01,
            stored["targets"],
            centred_one_hot(batch.real.labels, 3),
            ridge=1e-2,
        )[0]

    np.testing.assert_allclose(metrics["loss"], expected(stored["inputs"]), rtol=1e-3)


def test_networks_are_redrawn_each_step(three_classes):
    method = methods.rfad(architecture=SMALL, networks=1, batch_size=10_000)
    data, state = prepared(method, three_classes)
    batch = method.sample(jax.random.key(2), data)
    step = jax.jit(method.step)
    one, two = (
        step(state, batch, jax.random.key(k), progress())[1]["loss"] for k in (3, 4)
    )
    assert float(one) != float(two)


def test_platt_is_scaled_cross_entropy():
    from ddjax.methods.rfad import _platt

    targets = jax.nn.one_hot(jnp.array([0, 2]), 3) - jnp.float32(1 / 3)
    predictions = jnp.array([[1.0, 0.0, -1.0], [0.2, 0.1, 0.0]])
    expected = optax.softmax_cross_entropy(
        jnp.exp(0.5) * predictions, jax.nn.one_hot(jnp.array([0, 2]), 3)
    ).mean()
    np.testing.assert_allclose(_platt(jnp.array(0.5))(targets, predictions), expected)


def test_refuses():
    with pytest.raises(ValueError, match="'hinge'"):
        methods.rfad(loss="hinge")
    with pytest.raises(ValueError, match="transformer"):
        methods.rfad(architecture="transformer")
