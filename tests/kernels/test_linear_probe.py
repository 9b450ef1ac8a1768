"""Linear probes: agreement with others, derivatives, edge cases."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import normalize

from ddjax.kernels import linear_probe, ridge
from ddjax.kernels.linear_probe import ProbeGradient
from tests.slow import slow

N, M, P, C = 11, 5, 7, 3


def draw(seed=0, m=M, p=P, c=C, n=N, dtype: type = np.float64):
    """Distilled features and targets, real features and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, size=n).astype(np.int32)
    return (
        rng.normal(size=(m, p)).astype(dtype),
        rng.normal(size=(m, c)).astype(dtype),
        rng.normal(size=(n, p)).astype(dtype),
        labels,
    )


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("m", [5, 12])
def test_fit_agrees_with_scikit_learn(x64, intercept, m):
    features, targets, real, _ = draw(m=m)
    probe = linear_probe.fit(
        features, targets, ridge=0.3, convention="absolute", intercept=intercept
    )
    theirs = Ridge(alpha=0.3, fit_intercept=intercept, solver="cholesky")
    theirs.fit(features, targets)
    close(probe.weights, theirs.coef_.T)
    close(linear_probe.logits(real, probe, temperature=0.5), 2.0 * theirs.predict(real))


def test_relative_strength_does_not_see_the_scale_of_features(x64):
    features, targets, real, _ = draw()
    small = linear_probe.fit(features, targets, ridge=0.1)
    large = linear_probe.fit(1e3 * features, targets, ridge=0.1)
    close(
        linear_probe.logits(real, small), linear_probe.logits(1e3 * real, large), 1e-9
    )


def test_cosine_logits(x64):
    features, targets, real, _ = draw()
    features, real = (
        linear_probe.embed(each, normalize=True) for each in (features, real)
    )
    close(features, normalize(draw()[0]))
    probe = linear_probe.fit(features, targets, ridge=0.1, normalize_anchors=True)
    close(jnp.linalg.norm(probe.weights, axis=0), np.ones(C))
    plain = linear_probe.fit(features, targets, ridge=0.1).weights
    close(
        linear_probe.logits(real, probe),
        real @ (plain / jnp.linalg.norm(plain, axis=0)[None, :]),
    )


def test_centring(x64):
    features, _, real, _ = draw()
    centre = real.mean(axis=0)
    close(linear_probe.embed(real, centre=centre).mean(axis=0), np.zeros(P))
    close(
        linear_probe.embed(features, centre=centre, normalize=True),
        normalize(features - centre),
    )


def test_cross_entropy_agrees_with_scikit_learn(x64):
    _, _, _, labels = draw()
    scores = np.random.default_rng(1).normal(size=(N, C))
    expected = log_loss(labels, jax.nn.softmax(scores), labels=range(C))
    close(linear_probe.cross_entropy(scores, labels), expected)
    soft = np.random.default_rng(2).dirichlet(np.ones(C), size=N)
    expected = np.mean(-np.sum(soft * np.asarray(jax.nn.log_softmax(scores)), axis=1))
    close(linear_probe.cross_entropy(scores, soft), expected)


@pytest.mark.parametrize("intercept", [slow(False), True])
def test_squared_error_through_statistics(x64, intercept):
    features, targets, real, _ = draw()
    wanted = np.random.default_rng(3).normal(size=(N, C))
    probe = linear_probe.fit(features, targets, ridge=0.1, intercept=intercept)
    seen = np.hstack([real, np.ones((N, 1))]) if intercept else real
    statistics = ridge.sufficient_statistics(seen, wanted)
    scores = linear_probe.logits(real, probe)
    direct = linear_probe.squared_error(scores, wanted)
    close(direct, 0.5 * np.mean((np.asarray(scores) - wanted) ** 2))
    close(linear_probe.squared_error_from_statistics(probe, statistics), direct)

    @jax.jit
    @jax.jacobian
    def gradients(features):
        fitted = linear_probe.fit(features, targets, ridge=0.1, intercept=intercept)
        scores = linear_probe.logits(real, fitted)
        return jnp.stack(
            [
                linear_probe.squared_error_from_statistics(fitted, statistics),
                linear_probe.squared_error(scores, wanted),
            ]
        )

    close(*gradients(features), 1e-9)


def test_cost_through_statistics_does_not_depend_on_the_real_data():
    """Nothing in the traced computation has as many rows as there are real samples."""
    features, targets, _, _ = draw(dtype=np.float32)
    n = 1009
    real = np.random.default_rng(0).normal(size=(n, P)).astype(np.float32)
    statistics = ridge.sufficient_statistics(real, np.zeros((n, C), np.float32))

    def error(features):
        probe = linear_probe.fit(features, targets, ridge=0.1)
        return linear_probe.squared_error_from_statistics(probe, statistics)

    assert f"{n}" not in str(jax.make_jaxpr(jax.grad(error))(features))


def outer(features, targets, log_ridge, log_temperature, *, real, labels, options):
    """The outer loss of a method as one function of all that may be learned."""
    normalized, anchors, intercept = options
    centre = real.mean(axis=0)
    probe = linear_probe.fit(
        linear_probe.embed(features, centre=centre, normalize=normalized),
        targets,
        ridge=jnp.exp(log_ridge),
        intercept=intercept,
        normalize_anchors=anchors,
    )
    scores = linear_probe.logits(
        linear_probe.embed(real, centre=centre, normalize=normalized),
        probe,
        temperature=jnp.exp(log_temperature),
    )
    return linear_probe.cross_entropy(scores, labels)


@pytest.mark.parametrize("options", [(False, False, True), (True, True, False)])
def test_outer_gradient(x64, options):
    """Against finite differences, and in float32."""
    *arrays, labels = draw()

    def of(dtype):
        features, targets, real = (jnp.asarray(each, dtype) for each in arrays)
        at = features, targets, jnp.array(-1.0, dtype), jnp.array(-0.5, dtype)
        loss = functools.partial(outer, real=real, labels=labels, options=options)
        return loss, at, jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*at)

    loss, at, (value, gradients) = of(jnp.float64)
    loss, rng = jax.jit(loss), np.random.default_rng(4)
    for which, gradient in enumerate(gradients):
        direction = 1e-5 * jnp.asarray(rng.normal(size=gradient.shape))
        above, below = (
            loss(*at[:which], at[which] + step, *at[which + 1 :])
            for step in (direction, -direction)
        )
        slope = float(jnp.sum(gradient * direction))
        assert slope == pytest.approx(float(above - below) / 2, rel=1e-6)
    if options[0]:
        rounded = jax.tree.leaves(of(jnp.float32)[2])
        for low, high in zip(rounded, (value, *gradients), strict=True):
            assert low.dtype == jnp.float32
            np.testing.assert_allclose(low, high, rtol=1e-4, atol=1e-5)


# Gradient matching.


def plain_loss(probe, features, targets):
    scores = features @ probe[0] + probe[1][None, :]
    return optax.softmax_cross_entropy(scores, targets).mean()


def matching_by_autodiff(features, targets, real, real_targets, probe):
    """The definition: autodiff of the loss in the probe."""
    flat = [
        ravel_pytree(jax.grad(plain_loss)(probe, *data))[0]
        for data in ((real, real_targets), (features, targets))
    ]
    return optax.cosine_distance(*flat)


def matching(features, targets, real, real_labels, probe):
    return linear_probe.cosine_distance(
        linear_probe.cross_entropy_gradient(real, real_labels, *probe),
        linear_probe.cross_entropy_gradient(features, targets, *probe),
    )


def test_matching_agrees_with_second_order_autodiff(x64):
    features, _, real, labels = map(jnp.asarray, draw())
    targets = jnp.asarray(np.random.default_rng(5).dirichlet(np.ones(C), size=M))
    rng = np.random.default_rng(6)
    probe = jnp.asarray(rng.normal(size=(P, C))), jnp.asarray(rng.normal(size=C))
    found = linear_probe.cross_entropy_gradient(real, labels, *probe)
    one_hot = jax.nn.one_hot(labels, C)
    wanted = jax.jit(jax.grad(plain_loss))(probe, real, one_hot)
    chex.assert_trees_all_close(tuple(found), wanted, rtol=1e-12, atol=1e-12)
    ours = jax.jit(jax.value_and_grad(matching, argnums=(0, 1)))(
        features, targets, real, labels, probe
    )
    theirs = jax.jit(jax.value_and_grad(matching_by_autodiff, argnums=(0, 1)))(
        features, targets, real, one_hot, probe
    )
    # Off the simplex the two losses differ, by the same number for a whole row.
    ours, theirs = (
        (value, rows, labels - labels.mean(axis=1, keepdims=True))
        for value, (rows, labels) in (ours, theirs)
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-10, atol=1e-12)


# Properties.

SHAPES = st.sampled_from([(1, 1, 1), (5, 2, 3)])
SCALES = st.sampled_from([1e-3, 1.0, 1e6])
STRENGTHS = st.sampled_from([1e-12, 1e-3, 1.0, 1e6])


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def both_losses(features, targets, real, labels, strength):
    probe = linear_probe.fit(
        linear_probe.embed(features, normalize=True),
        targets,
        ridge=strength,
        normalize_anchors=True,
    )
    scores = linear_probe.logits(linear_probe.embed(real, normalize=True), probe)
    gradients = [
        linear_probe.cross_entropy_gradient(rows, y, probe.weights, probe.intercept)
        for rows, y in ((features, jax.nn.softmax(targets)), (real, labels))
    ]
    return linear_probe.cross_entropy(scores, labels) + linear_probe.cosine_distance(
        *gradients
    )


@given(shape=SHAPES, scale=SCALES, strength=STRENGTHS, kind=st.integers(0, 2))
@example(shape=(1, 1, 1), scale=1e12, strength=1e-12, kind=1)
@example(shape=(5, 2, 3), scale=1.0, strength=1e-12, kind=2)
def test_everything_is_finite(shape, scale, strength, kind):
    m, p, c = shape
    features, targets, real, labels = draw(m=m, p=p, c=c, dtype=np.float32)
    features, real = np.float32(scale) * features, np.float32(scale) * real
    if kind == 1:
        features[-1], real[0] = 0.0, 0.0
    if kind == 2:
        features[:] = features[0]
    chex.assert_tree_all_finite(
        both_losses(features, targets, real, labels, np.float32(strength))
    )


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-25, 1.0, 1e25]))
def test_unit_rows(seed, scale):
    rows = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    rows[1] = 0.0
    unit = np.asarray(linear_probe.unit_rows(np.float32(scale) * rows))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1.0, 0.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(unit[0] * np.linalg.norm(rows[0]), rows[0], rtol=1e-4)


def test_a_zero_gradient_has_no_direction():
    nothing = ProbeGradient(jnp.zeros((2, 3)), jnp.zeros(3))
    something = ProbeGradient(jnp.ones((2, 3)), jnp.ones(3))
    assert linear_probe.cosine_distance(something, something) == pytest.approx(
        0.0, abs=1e-6
    )
    assert linear_probe.cosine_distance(nothing, something) == 1.0
    slope = jax.jit(jax.grad(linear_probe.cosine_distance))(nothing, something)
    assert not slope.weights.any() and not slope.bias.any()


def test_refuses():
    features, targets, real, _ = draw(dtype=np.float32)
    probe = linear_probe.fit(features, targets, ridge=0.1)
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        linear_probe.logits(real, probe, temperature=0)
    with pytest.raises(ValueError, match="ridge is -1"):
        linear_probe.fit(features, targets, ridge=-1.0)
