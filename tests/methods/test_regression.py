"""Distilled regression against plain loops, scikit-learn and its own limits."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from ddjax import data, methods
from ddjax.data.feed import Batches
from ddjax.kernels import unrolled
from ddjax.methods import least_squares
from ddjax.models import feature_maps
from ddjax.storage.cache import on_disk
from tests.methods.runs import distilled, drawn, progress, run

INPUTS = feature_maps.inputs()
VALUE_AND_SLOPE = jax.jit(jax.value_and_grad(least_squares.squared_error_at))


@functools.cache
def problem(*, on_device=True, outputs=2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    weights = rng.standard_normal((6, outputs))
    y = (x @ weights + 0.1 * rng.standard_normal((60, outputs))).astype(np.float32)
    return data.from_arrays((x, y), on_device=on_device)


def started(method):
    key = jax.random.key(0)
    prepared_data = method.prepare(key, problem())
    return prepared_data, method.init(key, problem(), prepared_data)


def stepped(method, state, data):
    """The first step of one alone, compiled."""
    return jax.jit(method.step)(state, data, jax.random.key(0), progress())


SETTINGS = {
    "count": 4,
    "inner_steps": 7,
    "inner_ridge": 0.05,
    "outer_ridge": 0.02,
    "draws": 3,
    "descent": {"optimizer": "sgd", "learning_rate": 0.1},
    "step_size": 0.2,
}


def by_hand(learned, starts):
    """Loss of each draw under `SETTINGS`, the inner loop written out, in float64."""
    inputs, targets = learned
    train = problem().train
    x, y = np.float64(train.inputs), np.float64(train.targets)
    losses = []
    for start in starts:
        theta = start
        for _ in range(SETTINGS["inner_steps"]):
            gradient = inputs.T @ (inputs @ theta - targets) / len(inputs)
            gradient = gradient + SETTINGS["inner_ridge"] * theta
            theta = theta - SETTINGS["step_size"] * gradient
        losses.append(0.5 * ((x @ theta - y) ** 2).sum() / len(x))
    squares = (inputs**2).sum() + (targets**2).sum()
    return sum(losses) / len(losses) + 0.5 * SETTINGS["outer_ridge"] * squares


VALUE_AND_SLOPE_BY_HAND = jax.jit(jax.value_and_grad(by_hand))


def learned_of(state):
    """The inputs and targets of a state, in float64."""
    stored = state.samples.learned["stored"]
    return tuple(np.float64(stored[name]) for name in ("inputs", "targets"))


@pytest.mark.parametrize(
    ("form", "reduction", "most_draws"),
    [("scan", "mean", None), ("doubling", "sum", 7)],
)
def test_a_step_is_that_of_the_written_out_loop(form, reduction, most_draws):
    """Draws that are not taken yet do not count."""
    method = methods.regression(
        **SETTINGS, form=form, reduction=reduction, most_draws=most_draws
    )
    prepared_data, state = started(method)
    key = jax.random.key(5)
    after, metrics = jax.jit(method.step)(state, prepared_data, key, progress())
    starts = np.float64(jax.random.normal(key, (most_draws or 3, 6, 2))[:3])
    with jax.enable_x64(True):
        point = tuple(map(jnp.asarray, learned_of(state)))
        loss, gradient = VALUE_AND_SLOPE_BY_HAND(point, jnp.asarray(starts))
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    rate = 0.1 * (3 if reduction == "sum" else 1)
    for before, now, slope in zip(point, learned_of(after), gradient, strict=True):
        expected = np.asarray(before) - rate * np.asarray(slope)
        np.testing.assert_allclose(now, expected, rtol=1e-4, atol=1e-5)


def test_ridge_is_scikit_learns_and_the_limit_of_many_steps():
    keywords = {"count": 9, "inner_ridge": 0.3}
    method = methods.regression(inner="ridge", **keywords)
    prepared_data, state = started(method)
    _, metrics = stepped(method, state, prepared_data)
    train = problem().train
    # Ours is the average loss: its ridge is per sample.
    oracle = Ridge(alpha=9 * 0.3, fit_intercept=False).fit(*learned_of(state))
    away = oracle.predict(np.float64(train.inputs)) - np.float64(train.targets)
    expected = 0.5 * np.sum(away**2) / len(away)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    many = methods.regression(inner_steps=400, form="spectral", draws=2, **keywords)
    _, found = stepped(many, started(many)[1], prepared_data)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)


def test_schedules_compile_once_and_follow_the_formula(monkeypatch):
    # Above a thousandth of the loss before counts as a rise, but the first has none.
    monkeypatch.setattr(
        importlib.import_module("ddjax.methods.regression"), "_RISE", 1e-3
    )
    method = methods.regression(
        **{**SETTINGS, "inner_steps": 20}, steps_growth=0.3, most_draws=6
    )
    assert method.follows_length
    prepared_data, state = started(method)
    step, found = jax.jit(method.step), []
    for i in range(8):
        state, metrics = step(state, prepared_data, jax.random.key(i), progress(i, 10))
        found.append((int(metrics["inner_steps"]), int(metrics["draws"])))
    # A run of another length is the same program.
    step(state, prepared_data, jax.random.key(8), progress(8, 20))
    assert step._cache_size() == 1
    steps = [20 + int(10 * (1 - np.exp(-s / 3))) for s in range(1, 9)]
    assert found == list(zip(steps, [3, 3, 4, 5, 6, 6, 6, 6], strict=True))
    made = method.distilled(jax.random.key(0), state, problem(), prepared_data)
    assert made.recipe["inner"]["steps"] == steps[-1]


def test_step_size_is_reported_refused_and_kept_inside():
    _, state = started(methods.regression(count=4, step_size=None, inner_ridge=0.1))
    inputs, _ = learned_of(state)
    limit = 2 * 4 / (np.linalg.norm(inputs, 2) ** 2 + 4 * 0.1)
    assert float(state.samples.learned["step_size"]) == pytest.approx(limit / 2)
    with pytest.raises(ValueError, match=rf"{1.01 * limit:.3f}.*{limit:.3f}"):
        started(methods.regression(count=4, step_size=1.01 * limit, inner_ridge=0.1))
    descent = {"learning_rate": 0.1, "rates": {"step_size": 5.0}}
    method = methods.regression(
        **{**SETTINGS, "descent": descent}, learn_step_size=True
    )
    *_, metrics = run(method, problem(), steps=20)
    shares = np.asarray(metrics["step_size"] / metrics["step_size_limit"])
    assert (shares > 0.0009).all() and (shares < 0.9901).all()
    assert shares.max() > 0.98 or shares.min() < 0.0011
    assert np.isfinite(metrics["loss"]).all()


def test_a_fixed_step_size_stays_until_the_samples_outgrow_it():
    method = methods.regression(
        **{**SETTINGS, "descent": {"optimizer": "sgd", "learning_rate": 1e-3}}
    )
    *_, metrics = run(method, problem(), steps=3)
    np.testing.assert_array_equal(metrics["step_size"], np.float32(0.2))
    prepared_data, state = started(method)
    stored = state.samples.learned["stored"]
    large = {**stored, "inputs": 10 * stored["inputs"]}
    learned = {**state.samples.learned, "stored": large}
    state = state._replace(samples=state.samples._replace(learned=learned))
    found = stepped(method, state, prepared_data)[1]
    limit = unrolled.step_size_limit(large["inputs"], ridge=0.05)
    assert float(limit) < 0.2
    assert float(found["step_size"]) == pytest.approx(0.99 * float(limit))


def test_features_in_place_of_inputs():
    method = methods.regression(
        count=5,
        features={"kind": "fourier", "frequencies": 16},
        descent={"learning_rate": 0.05},
        weights_scale=0.1,
    )
    prepared_data, _, state, metrics = run(method, problem(), steps=40)
    assert metrics["loss"][-1] < 0.9 * metrics["loss"][0]
    made = distilled(method, problem(), prepared_data, state)
    recipe = feature_maps.from_recipe(made.recipe["features"])
    params, _ = feature_maps.build(recipe, (6,))
    jax.tree.map(np.testing.assert_array_equal, params, prepared_data.params)


def test_batches_of_rows_from_device_and_host():
    keywords = {**SETTINGS, "batch_size": 8}
    method = methods.regression(**keywords)
    prepared_data, state = started(method)
    metrics = stepped(method, state, drawn(prepared_data))[1]
    everything = methods.regression(**{**keywords, "batch_size": 1000})
    whole = everything.sample(jax.random.key(0), started(everything)[0])
    of_rows = stepped(everything, state, whole)[1]
    by_moments = methods.regression(**SETTINGS)
    _, expected = stepped(by_moments, state, started(by_moments)[0])
    assert float(of_rows["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert float(metrics["loss"]) != float(expected["loss"])
    hosted = method.prepare(jax.random.key(0), problem(on_device=False))
    assert isinstance(hosted.real, Batches) and hosted.error is None
    assert isinstance(hosted.real.split.inputs, np.ndarray)


def test_the_analytic_start_is_the_optimum_of_ridge():
    method = methods.regression(
        count=5, inner="ridge", initialization="analytic", inner_ridge=0.01
    )
    prepared_data, state = started(method)
    metrics = stepped(method, state, prepared_data)[1]
    least = float(prepared_data.error.least)
    assert float(metrics["loss"]) == pytest.approx(least, rel=1e-4)
    assert np.linalg.norm(learned_of(state)[0], axis=1).min() > 0


# The moments.


@settings(max_examples=15, deadline=None)
@given(
    # Fewer rows than inputs, as many, and more: each is compiled once.
    rows=st.sampled_from([3, 5, 12]),
    scale=st.floats(1e-2, 1e2),
    seed=st.integers(0, 2**16),
)
def test_squared_error_is_that_of_the_rows(rows, scale, seed):
    rng = np.random.default_rng(seed)
    x = (scale * rng.standard_normal((rows, 5))).astype(np.float32)
    y = rng.standard_normal((rows, 2)).astype(np.float32)
    on = problem()._replace(train=data.Split(x, targets=y))
    found = least_squares.moments(on, INPUTS, block=4)
    assert found.count == rows
    np.testing.assert_allclose(found.gram, np.float64(x).T @ x / rows, rtol=1e-9)
    weights = (rng.standard_normal((5, 2)) / scale).astype(np.float32)
    away = x @ np.float64(weights) - y
    error = least_squares.squared_error(found)
    value, slope = VALUE_AND_SLOPE(jnp.asarray(weights), error)
    assert float(value) == pytest.approx(0.5 * np.sum(away**2) / rows, rel=1e-4)
    np.testing.assert_allclose(slope, x.T @ away / rows, atol=2e-4 * scale)


def test_squared_error_keeps_its_digits_near_a_perfect_fit():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 4)).astype(np.float32)
    exact = np.float32([[3.0], [-2.0], [1.0], [5.0]])
    found = least_squares.moments(
        problem()._replace(train=data.Split(x, targets=np.float32(x @ exact))), INPUTS
    )
    weights = exact + np.float32(1e-4)
    value = least_squares.squared_error_at(
        jnp.asarray(weights), least_squares.squared_error(found)
    )
    away = x @ (np.float64(weights) - exact)
    # Of the order of eps times the squared targets, which the naive form would lose.
    assert float(value) == pytest.approx(0.5 * np.mean(away**2), rel=2e-2)
    assert float(value) < 1e-6 * found.targets


def test_moments_of_a_memory_map_come_back_from_disk(tmp_path):
    train = problem().train
    np.save(tmp_path / "x.npy", np.asarray(train.inputs))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    on = problem()._replace(train=data.Split(mapped, targets=np.asarray(train.targets)))
    cache = on_disk(tmp_path / "kept")
    first = least_squares.moments(on, INPUTS, block=16, cache=cache)
    # The same problem by its fingerprint: its rows are not looked at again.
    unread = on._replace(train=on.train._replace(inputs=mapped + 1))
    again = least_squares.moments(unread, INPUTS, cache=cache)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other = least_squares.moments(
        unread._replace(fingerprint="another"), INPUTS, cache=cache
    )
    assert not np.allclose(other.gram, first.gram)
    np.testing.assert_allclose(
        first.gram, least_squares.moments(problem(), INPUTS).gram, rtol=1e-12
    )


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_ridge_weights_are_scikit_learns(ridge):
    train, found = problem().train, least_squares.moments(problem(), INPUTS)
    oracle = Ridge(alpha=ridge * len(train.inputs), fit_intercept=False).fit(
        np.float64(train.inputs), np.float64(train.targets)
    )
    weights = least_squares.ridge_weights(found, ridge=ridge)
    np.testing.assert_allclose(weights, oracle.coef_.T, rtol=1e-7)


def test_moments_refuse():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        least_squares.moments(problem(), INPUTS, block=0)
    with pytest.raises(ValueError, match="ridge must be .* got -1"):
        least_squares.ridge_weights(
            least_squares.moments(problem(), INPUTS), ridge=-1.0
        )
    wide = feature_maps.fourier(jax.random.key(0), frequencies=5000)
    with pytest.raises(ValueError, match="10000 features"):
        least_squares.moments(problem(), wide)
