import functools
import math

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import duality, losses
from ddjax.solvers import erm

SMOOTH = [name for name in losses.LOSSES if losses.get(name).smooth]
KINKED = [name for name in losses.LOSSES if not losses.get(name).smooth]


def problem(loss, rng, samples=6, size=9, columns=3):
    """Weights, features and learned-looking targets, float64 numpy."""
    weights = rng.normal(size=(size, columns))
    features = np.maximum(rng.normal(size=(samples, size)), 0.0)
    if loss.kind == "multiclass":
        targets = rng.dirichlet(np.ones(columns), samples)
    else:
        targets = rng.normal(size=(samples, columns))
    return weights, features, targets


@pytest.mark.parametrize("name", losses.LOSSES)
def test_forms_of_the_gap_agree(name):
    loss = losses.get(name)

    @jax.jit
    def forms(weights, features, targets, ridge):
        settings = {"loss": loss, "ridge": ridge}
        predictions, gram = features @ weights, features @ features.T
        duals = duality.kkt_duals(targets, predictions, loss=loss)
        dual = duality.dual(duals, features, targets, **settings)
        literal = duality.primal(weights, features, targets, **settings) - dual
        return (dual, literal), {
            "full": duality.gap(weights, features, targets, form="full", **settings),
            "automatic": duality.gap(weights, features, targets, **settings),
            "kernel": duality.kernel_gap(
                predictions, jnp.sum(weights**2), gram, targets, **settings
            ),
            "dual": duality.dual(duals, targets=targets, gram=gram, **settings),
        }

    with jax.enable_x64(True):
        arrays = problem(loss, np.random.default_rng(0))
        for ridge in (1e-3, 10.0):
            (dual, literal), found = forms(*arrays, ridge)
            for form, value in found.items():
                expected = dual if form == "dual" else literal
                np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=form)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_norm_form_is_the_norm_of_the_gradient(name):
    loss = losses.get(name)
    with jax.enable_x64(True):
        weights, features, targets = problem(loss, np.random.default_rng(1))
        settings = {"loss": loss, "ridge": 0.1}

        @jax.jit
        def both(weights):
            given = (weights, features, targets)
            gradient = jax.grad(duality.primal)(*given, **settings)
            return gradient, duality.gap(*given, form="gradient_norm", **settings)

        gradient, found = both(weights)
        np.testing.assert_allclose(found, np.sum(gradient**2) / 0.2, rtol=1e-10)


@functools.cache
def jitted_gap(name):
    loss = losses.get(name)

    def both(weights, features, targets, ridge, slopes):
        duals = -loss.feasible(targets, slopes)
        settings = {"loss": loss, "ridge": ridge}
        return (
            duality.gap(weights, features, targets, duals=duals, **settings),
            duality.primal(weights, features, targets, **settings)
            - duality.dual(duals, features, targets, **settings),
        )

    return jax.jit(both)


@pytest.mark.parametrize("name", losses.LOSSES)
@hypothesis.given(seed=st.integers(0, 10**6), log_ridge=st.floats(-6.0, 6.0))
@hypothesis.settings(max_examples=10, deadline=None)
def test_gap_of_feasible_duals_is_never_negative(name, seed, log_ridge):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        arrays = problem(losses.get(name), rng)
        slopes = rng.normal(size=arrays[2].shape)
        found, literal = jitted_gap(name)(*arrays, 10.0**log_ridge, slopes)
        assert found >= 0.0
        np.testing.assert_allclose(found, literal, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "hinge", "softmax", "multiclass_hinge"])
def test_gap_vanishes_at_the_optimum_and_nowhere_else(name):
    loss = losses.get(name)
    _, features, targets = problem(loss, np.random.default_rng(2))
    solution = erm.solve(features, targets, loss=loss, ridge=0.05, tolerance=1e-9)
    with jax.enable_x64(True):
        settings = {"loss": loss, "ridge": 0.05, "duals": solution.duals}
        at_best, away = (
            float(duality.gap(weights, features, targets, **settings))
            for weights in (solution.weights, solution.weights + 0.1)
        )
    assert at_best <= 2e-9 * solution.primal
    assert away > 1e-3


def test_squared_loss_is_ridge_regression():
    rng = np.random.default_rng(3)
    features, targets = rng.normal(size=(5, 8)), rng.normal(size=(5, 2))
    weights = features.T @ np.linalg.solve(
        features @ features.T + 0.3 * np.eye(5), targets
    )
    with jax.enable_x64(True):
        found = float(
            duality.gap(weights, features, targets, loss=losses.squared(), ridge=0.3)
        )
    assert found < 1e-25


@pytest.mark.parametrize("name", ["logistic", "hinge", "softmax", "multiclass_hinge"])
def test_gradients_reach_features_and_learned_labels(name):
    loss = losses.get(name)
    with jax.enable_x64(True):
        weights, features, targets = problem(loss, np.random.default_rng(4))

        @jax.jit
        def objective(features, targets):
            return duality.gap(weights, features, targets, loss=loss, ridge=0.2)

        found = jax.jit(jax.grad(objective, (0, 1)))(
            jnp.asarray(features), jnp.asarray(targets)
        )
        towards = np.random.default_rng(5).normal(size=features.shape)
        # Labels move on the plane of probabilities, where the loss is defined.
        labels = np.random.default_rng(6).normal(size=targets.shape)
        labels -= labels.mean(axis=1, keepdims=True)

        def along(t):
            return objective(features + t * towards, targets + t * labels)

        numeric = (along(1e-6) - along(-1e-6)) / 2e-6
        exact = np.sum(found[0] * towards) + np.sum(found[1] * labels)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)
    assert np.abs(found[0]).max() > 0 and np.abs(found[1]).max() > 0


def test_small_ridge_in_float32():
    """Where the literal difference has no digit left, the gradient norm keeps them."""
    loss, rng = losses.get("logistic"), np.random.default_rng(7)
    features = np.maximum(rng.normal(size=(20, 400)), 0.0) / 20.0
    targets = np.sign(rng.normal(size=20))
    solution = erm.solve(features, targets, loss=loss, ridge=2e-5)
    weights = solution.weights + 1e-3 * rng.normal(size=400)

    @jax.jit
    def both(w, f, y):
        settings = {"loss": loss, "ridge": 2e-5}
        duals = duality.kkt_duals(y, f @ w, loss=loss)
        dual = duality.dual(duals, f, y, **settings)
        literal = duality.primal(w, f, y, **settings) - dual
        return duality.gap(w, f, y, **settings), literal

    def values(kind):
        arrays = (np.asarray(v, kind) for v in (weights, features, targets))
        return map(float, both(*arrays))

    with jax.enable_x64(True):
        exact, literal = values(jnp.float64)
        np.testing.assert_allclose(literal, exact, rtol=1e-6)
    found, literal = values(jnp.float32)
    np.testing.assert_allclose(found, exact, rtol=2e-3)
    assert abs(literal - exact) > 0.5 * exact


def test_gap_compiles_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def objective(weights, features, targets, ridge):
        return duality.gap(weights, features, targets, loss=losses.hinge(), ridge=ridge)

    for ridge in (0.1, 0.2):
        objective(jnp.ones(3), jnp.ones((2, 3)), jnp.ones(2), ridge)


@pytest.mark.parametrize("name", KINKED)
def test_gradient_norm_is_refused_where_it_is_no_bound(name):
    arrays = problem(losses.get(name), np.random.default_rng(8))
    with pytest.raises(ValueError, match=f"{name}.*form='full'"):
        duality.gap(*arrays, loss=name, ridge=1.0, form="gradient_norm")


def test_infeasible_duals_give_an_infinite_gap():
    found = duality.gap(
        jnp.ones(2),
        jnp.ones((3, 2)),
        jnp.ones(3),
        loss=losses.hinge(),
        ridge=1.0,
        duals=2.0 * jnp.ones(3),
    )
    assert np.isposinf(found)


ONE, ROWS, LABELS = np.ones(2), np.ones((3, 2)), np.ones(3)
BITS = np.array([0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: duality.gap(ONE, ROWS, LABELS, ridge=0.0, **s),
            "ridge must be > 0.*got 0.0",
        ),
        (
            lambda s: duality.parameter_radius(1.0, 1.0, 0.1, -1.0),
            "reference_ridge must be > 0.*got -1.0",
        ),
        (lambda s: duality.dual(LABELS, None, LABELS, ridge=1.0, **s), "exactly one"),
        (lambda s: duality.dual(LABELS, ROWS, ridge=1.0, **s), "needs targets"),
        (lambda s: duality.margins(np.ones((2, 1)), ONE), r"\(n, 1\)"),
        (
            lambda s: duality.margins(ONE, np.array([0, 1])),
            "labels of one output are -1 and 1, got 0, 1",
        ),
        (
            lambda s: duality.margins(np.ones((2, 3)), np.array([0, 3])),
            "class numbers from 0 to 2, got 0, 3",
        ),
        (
            lambda s: duality.gap(ONE, ROWS, BITS, ridge=1.0, **s),
            "'logistic'.*-1 and 1.*got 0, 1;",
        ),
        (
            lambda s: duality.primal(ONE, ROWS, np.zeros(3), ridge=1.0, **s),
            "-1 and 1.*got 0;",
        ),
        (
            lambda s: duality.kernel_gap(ONE, 1.0, np.eye(2), BITS[:2], ridge=1.0, **s),
            "-1 and 1.*got 0, 1;",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    for loss in (losses.logistic(), "logistic"):
        with pytest.raises(ValueError, match=message):
            call({"loss": loss})


# --- what the gap proves ---------------------------------------------------------


def test_error_interval_counts():
    margins = jnp.array([3.0, 1.0, 0.5, -0.5, -3.0])
    norms = jnp.array([1.0, 1.0, 0.1, 1.0, 2.0])
    found = duality.test_error_interval(margins, norms, 1.0)
    assert (found.correct, found.wrong, found.unknown) == (2, 1, 2)
    np.testing.assert_allclose([found.lower, found.upper], [0.2, 0.6], rtol=1e-6)
    wider = duality.test_error_interval(margins, norms, 1.0, multiclass=True)
    assert (wider.correct, wider.wrong) == (2, 1)


def test_root_two_of_the_multiclass_bound_is_attained():
    rng = np.random.default_rng(9)
    phi, weights, radius = rng.normal(size=6), rng.normal(size=(6, 4)), 0.7
    direction = np.outer(phi, np.eye(4)[1] - np.eye(4)[2])
    moved = weights + radius * direction / np.linalg.norm(direction)
    change = phi @ (moved - weights)
    np.testing.assert_allclose(
        change[1] - change[2], math.sqrt(2.0) * np.linalg.norm(phi) * radius
    )


def test_margins():
    np.testing.assert_allclose(
        duality.margins(jnp.array([2.0, -1.0]), jnp.array([-1.0, -1.0])), [-2.0, 1.0]
    )
    scores = jnp.array([[1.0, 3.0, 0.0], [5.0, 1.0, 2.0]])
    np.testing.assert_allclose(duality.margins(scores, jnp.array([1, 2])), [2.0, -3.0])
