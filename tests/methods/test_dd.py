"""Dataset distillation through unrolled SGD, against the loop written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import methods
from ddjax.models import networks
from tests.methods.runs import distilled, drawn, in_double, prepared, progress, run

SMALL = {
    "architecture": "fully_connected",
    "settings": {"depth": 2, "width": 5},
    "inner_steps": 2,
    "step_size": 0.3,
    "batch_size": 12,
}


def cross_entropy(outputs, targets):
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(outputs), axis=1))


def written_out(learned, real, wanted, starts, network):
    """The loss of each start, one SGD step after the other."""
    inputs, targets = (learned["stored"][name] for name in ("inputs", "targets"))

    def inner(params):
        return cross_entropy(network.apply({"params": params}, inputs), targets)

    losses = []
    for params in starts:
        for size in jnp.exp(learned["log_step_sizes"]):
            slopes = jax.grad(inner)(params)
            params = jax.tree.map(lambda p, g, size=size: p - size * g, params, slopes)
        outputs = network.apply({"params": params}, real)
        losses.append(cross_entropy(outputs, wanted))
    return sum(losses) / len(losses)


def test_a_step_follows_the_gradient_of_the_written_out_loop(three_classes):
    with jax.enable_x64(True):
        problem = in_double(three_classes)
        method = methods.dd(
            **SMALL,
            networks_per_step=2,
            learn_targets=True,
            descent={"optimizer": "sgd", "learning_rate": 1.0,
                     "rates": {"targets": 0.5, "log_step_sizes": 0.25}},
        )  # fmt: skip
        data, state = prepared(method, problem)
        # Soft targets, which a step of the descent leaves on the simplex.
        soft = 0.8 * state.learned["stored"]["targets"] + 0.2 / 3
        stored = {**state.learned["stored"], "targets": soft}
        state = state._replace(learned={**state.learned, "stored": stored})
        batch, key = drawn(data), jax.random.key(3)
        after, metrics = jax.jit(method.step)(state, batch, key, progress())

        network = networks.make("fully_connected", outputs=3, depth=2, width=5)
        start = jax.jit(lambda key: networks.started(key, network, stored["inputs"])[0])
        starts = [start(each) for each in jax.random.split(key, 2)]
        wanted = jax.nn.one_hot(batch.real.labels, 3, dtype=jnp.float64)
        loss = functools.partial(written_out, network=network)
        value, slopes = jax.jit(jax.value_and_grad(loss))(
            state.learned, batch.real.inputs, wanted, starts
        )
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        moved = jax.tree.map(lambda new, old: old - new, after.learned, state.learned)
        np.testing.assert_allclose(
            moved["stored"]["inputs"], slopes["stored"]["inputs"], rtol=1e-9, atol=1e-14
        )
        np.testing.assert_allclose(
            moved["log_step_sizes"], 0.25 * slopes["log_step_sizes"], rtol=1e-9
        )
        # Small enough to stay inside the simplex: what is projected away is the mean.
        of_targets = slopes["stored"]["targets"]
        inside = of_targets - of_targets.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(
            moved["stored"]["targets"], 0.5 * inside, rtol=1e-9, atol=1e-14
        )


def test_batch_norm_passes_through_the_inner_steps(three_classes):
    method = methods.dd(
        settings={"depth": 1, "width": 3, "norm": "batch"},
        inner_steps=2,
        batch_size=12,
    )
    data, start, state, metrics = run(method, three_classes, steps=2)
    assert np.isfinite(metrics["loss"]).all()
    moved = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))), start.learned, state.learned
    )
    assert moved["stored"]["inputs"] > 0 and moved["log_step_sizes"] > 0
    assert moved["stored"]["targets"] == 0
    inner = distilled(method, three_classes, data, state).recipe["inner"]
    assert inner["optimizer"] == "sgd" and len(inner["step_sizes"]) == 2
    assert all(isinstance(size, float) and size > 0 for size in inner["step_sizes"])
