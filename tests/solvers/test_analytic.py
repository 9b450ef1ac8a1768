"""Analytic sets reproduce the weights; where none exists, the condition is named."""

import functools
from inspect import unwrap

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.kernels import ridge, unrolled
from ddjax.solvers import analytic


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def weights_of_rank(rank, d=7, c=4, seed=0):
    return draw(d, rank, seed=seed) @ draw(rank, c, seed=seed + 1)


def pairs_of(found):
    return jnp.asarray(found.inputs), jnp.asarray(found.targets)


def trained(found, strength, convention="absolute"):
    """What ridge regression on the set gives, by the library's own solver."""
    settings = {"ridge": strength, "convention": convention}
    return ridge.solve(*pairs_of(found), **settings).weights


def trained_by_hand(x, y, strength):
    return x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y)


# Both free.


@pytest.mark.parametrize(
    ("rank", "count"), [(4, None), (4, 6), (2, None), (2, 2), (2, 3), (1, 1)]
)
def test_weights_come_back(rank, count, x64):
    wanted = weights_of_rank(rank)
    scale = np.abs(wanted).max()
    for strength in (1e-9, 1e-3, 1.0, 1e4):
        found = analytic.distilled_set(wanted, ridge=strength, count=count)
        assert len(found.inputs) == (count or 4) and found.error < 1e-14
        np.testing.assert_allclose(trained(found, strength), wanted, atol=1e-12 * scale)
        np.testing.assert_allclose(found.weights, wanted, atol=1e-13 * scale)
        gram = found.inputs @ found.inputs.T + strength * np.eye(len(found.inputs))
        assert np.linalg.cond(gram) < 2


def test_full_data_predictor_comes_back(x64):
    """More data than one could keep, one sample per output, the same predictions."""
    rows, answers = draw(300, 7), draw(300, 4, seed=1)
    full = ridge.solve(jnp.asarray(rows), jnp.asarray(answers), ridge=0.5)
    found = analytic.distilled_set(full.weights, ridge=0.01)
    assert found.inputs.shape == (4, 7)
    new = draw(20, 7, seed=2)
    wanted = ridge.predict(jnp.asarray(new), full)
    np.testing.assert_allclose(new @ trained(found, 0.01), wanted, atol=1e-12)
    gram = jnp.asarray(found.inputs @ found.inputs.T)
    solution = ridge.kernel_solve(gram, jnp.asarray(found.targets), ridge=0.01)
    predicted = ridge.kernel_predict(jnp.asarray(new @ found.inputs.T), solution)
    np.testing.assert_allclose(predicted, wanted, atol=1e-12)


def test_single_output_needs_one_sample(x64):
    wanted = draw(7)
    found = analytic.distilled_set(wanted, ridge=0.3)
    assert found.inputs.shape == (1, 7) and found.targets.shape == (1,)
    np.testing.assert_allclose(trained(found, 0.3), wanted, atol=1e-13)


def test_gradient_descent_gets_there_too(x64):
    wanted = draw(7, 2)
    found = analytic.distilled_set(wanted, ridge=0.1, convention="per_sample")
    settings = {"step_size": 1.0, "ridge": 0.1, "steps": 2000, "form": "spectral"}
    theta = unrolled.iterate(*pairs_of(found), jnp.zeros((7, 2)), **settings)
    np.testing.assert_allclose(theta, wanted, atol=1e-12)


def test_rank_deficient_without_ridge(x64):
    wanted = weights_of_rank(2)
    found = analytic.distilled_set(wanted, ridge=0.0, count=2)
    np.testing.assert_allclose(found.inputs @ found.inputs.T, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(trained(found, 0.0), wanted, atol=1e-12)


def test_zero_weights():
    found = analytic.distilled_set(np.zeros((3, 2)), ridge=0.1)
    assert not found.inputs.any() and not found.targets.any() and found.error == 0.0


def test_scale_sets_the_size_of_the_inputs(x64):
    wanted = weights_of_rank(4)
    found = analytic.distilled_set(wanted, ridge=0.2, scale=3.0)
    np.testing.assert_allclose(np.linalg.svd(found.inputs)[1], 3.0)
    np.testing.assert_allclose(trained(found, 0.2), wanted, atol=1e-12)
    np.testing.assert_allclose(found.targets, found.targets.T, atol=1e-12)


@given(seed=st.integers(0, 500), rank=st.integers(1, 3), m=st.integers(3, 5))
def test_no_exact_set_has_a_smaller_norm(seed, rank, m):
    strength = 0.3
    wanted = weights_of_rank(rank, d=5, c=3, seed=seed)

    def size(x, y):
        return np.sum(x**2) + np.sum(y**2)

    least = analytic.distilled_set(wanted, ridge=strength, count=m)
    found = trained_by_hand(least.inputs, least.targets, strength)
    np.testing.assert_allclose(found, wanted, atol=1e-11)
    targets = draw(m, 3, seed=seed + 7)
    norm = np.linalg.norm(wanted @ np.linalg.pinv(targets), 2)
    targets *= 2 * np.sqrt(strength) * norm * (1 + seed % 3)
    for large in (False, True):
        other = analytic.inputs_for_targets(
            wanted, targets, ridge=strength, large=large
        )
        bound = size(least.inputs, least.targets) * (1 - 1e-12)
        assert size(other.inputs, other.targets) >= bound
    for factor in (0.8, 1.1):
        scaled = analytic.distilled_set(
            wanted, ridge=strength, scale=factor * np.sqrt(strength)
        )
        assert size(scaled.inputs, scaled.targets) >= bound


def left_out(matrix):
    """The least share of a matrix that one of rank 2 leaves out."""
    squares = np.linalg.svd(matrix)[1] ** 2
    return np.sqrt(squares[2:].sum() / squares.sum())


def test_too_few_samples():
    wanted, metric = weights_of_rank(4), np.diag(np.arange(1.0, 8.0))
    with pytest.raises(analytic.NoExactSet, match="rank 4 need at least 4 .* is 2"):
        analytic.distilled_set(wanted, ridge=0.1, count=2)
    plain = analytic.distilled_set(wanted, ridge=0.1, count=2, approximate=True)
    assert plain.error == pytest.approx(left_out(wanted), rel=1e-12)
    found = trained_by_hand(plain.inputs, plain.targets, 0.1)
    np.testing.assert_allclose(found, plain.weights, atol=1e-12)
    # In the metric of the data the choice is another, and better there.
    weighted = analytic.distilled_set(
        wanted, ridge=0.1, count=2, approximate=True, metric=metric
    )
    root = np.sqrt(metric)
    best = left_out(root @ wanted)
    assert weighted.error == pytest.approx(best, rel=1e-10)
    distance = np.linalg.norm(root @ (plain.weights - wanted))
    assert distance / np.linalg.norm(root @ wanted) > best


# One of the two given.


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("rank", "targets"),
    [
        (4, np.eye(4)),
        (2, np.eye(4)),
        (4, np.repeat(np.eye(4), 2, axis=0) - 0.25),
        (4, draw(6, 4, seed=9)),
    ],
    ids=["one-hot", "rank-deficient", "centred, two each", "random"],
)
def test_inputs_for_targets(rank, targets, large, x64):
    wanted = weights_of_rank(rank)
    if np.allclose(targets.sum(axis=1), 0.0):
        wanted = wanted - wanted.mean(axis=1, keepdims=True)
    most = 1 / (4 * np.linalg.norm(wanted @ np.linalg.pinv(targets), 2) ** 2)
    made = functools.partial(analytic.inputs_for_targets, wanted, targets)
    for strength in (0.0, 1e-3 * most, 0.5 * most, most):
        found = made(ridge=strength, large=large)
        by_hand = found.inputs.T @ np.linalg.pinv(
            found.inputs @ found.inputs.T + strength * np.eye(len(targets)),
            rcond=1e-12,
            hermitian=True,
        )
        np.testing.assert_allclose(by_hand @ targets, wanted, atol=1e-10)
        assert found.error < 1e-12
    less, more = (made(ridge=0.5 * most, large=each) for each in (False, True))
    assert np.sum(less.inputs**2) < np.sum(more.inputs**2)


def test_targets_that_cannot_be():
    wanted = weights_of_rank(4)
    k = np.linalg.norm(wanted, 2)
    most = 1 / (4 * k**2)
    with pytest.raises(analytic.NoExactSet, match=f"only up to {most:.6g} = 1 / "):
        analytic.inputs_for_targets(wanted, np.eye(4), ridge=1.001 * most)
    grown = 2 * np.sqrt(4 * most) * k
    with pytest.raises(analytic.NoExactSet, match=f"targets {grown:.6g} times as"):
        analytic.inputs_for_targets(wanted, np.eye(4), ridge=4 * most)
    analytic.inputs_for_targets(wanted, grown * (1 + 1e-9) * np.eye(4), ridge=4 * most)
    with pytest.raises(analytic.NoExactSet, match="leave the span of the targets'"):
        analytic.inputs_for_targets(wanted, np.eye(4)[:3], ridge=1e-6)


def test_targets_for_inputs(x64):
    wanted = weights_of_rank(3)
    enough = draw(9, 7, seed=5)
    repeated = np.concatenate([enough, enough[:2]])
    low = draw(4, 3, seed=6) @ np.linalg.svd(wanted)[0][:, :3].T
    for inputs in (enough, repeated, low):
        for strength in (1e-6, 0.7):
            found = analytic.targets_for_inputs(wanted, inputs, ridge=strength)
            assert found.error < 1e-12
            np.testing.assert_allclose(trained(found, strength), wanted, atol=1e-9)
    found = analytic.targets_for_inputs(
        wanted, enough, ridge=0.1, convention="per_sample"
    )
    np.testing.assert_allclose(trained(found, 0.1, "per_sample"), wanted, atol=1e-10)


def test_inputs_that_do_not_span():
    wanted, inputs, real = weights_of_rank(3), draw(4, 7, seed=5), draw(50, 7, seed=8)
    with pytest.raises(analytic.NoExactSet, match="leave the span of the 4 inputs by"):
        analytic.targets_for_inputs(wanted, inputs, ridge=0.1)
    metric = real.T @ real
    plain, nearest = (
        analytic.targets_for_inputs(
            wanted, inputs, ridge=0.1, approximate=True, metric=g
        )
        for g in (None, metric)
    )
    for found in (plain, nearest):
        np.testing.assert_allclose(
            trained_by_hand(inputs, found.targets, 0.1), found.weights, atol=1e-11
        )
    alpha = np.linalg.lstsq(real @ inputs.T, real @ wanted, rcond=None)[0]
    np.testing.assert_allclose(nearest.weights, inputs.T @ alpha, atol=1e-11)
    wrong = np.linalg.norm(real @ (plain.weights - wanted))
    assert np.linalg.norm(real @ (nearest.weights - wanted)) < wrong


# Kernels and feature maps.


def test_kernel_targets_for_inputs():
    def feature_map(x):  # eight cosines of three inputs
        return np.cos(x @ draw(3, 8, seed=1) + draw(8, seed=2))

    real, answers = draw(60, 3), draw(60, 2, seed=3)
    phi = feature_map(real)
    duals = np.linalg.solve(phi @ phi.T + 0.4 * np.eye(60), answers)
    norm = np.sum(duals * (phi @ phi.T @ duals))
    new = feature_map(draw(9, 3, seed=4))
    for m in (8, 12):
        chosen = feature_map(real[:m])
        found = analytic.kernel_targets_for_inputs(
            chosen @ chosen.T, chosen @ phi.T @ duals, squared_norm=norm, ridge=0.05
        )
        solved = np.linalg.solve(chosen @ chosen.T + 0.05 * np.eye(m), found.targets)
        np.testing.assert_allclose(
            new @ chosen.T @ solved, new @ phi.T @ duals, atol=1e-9
        )
    few = feature_map(real[:5])
    arguments = few @ few.T, few @ phi.T @ duals
    rest = {"squared_norm": norm, "ridge": 0.05}
    with pytest.raises(analytic.NoExactSet, match="kernel functions at the 5 inputs"):
        analytic.kernel_targets_for_inputs(*arguments, **rest)
    found = analytic.kernel_targets_for_inputs(*arguments, **rest, approximate=True)
    distance = np.linalg.norm(few.T @ found.coefficients - phi.T @ duals)
    assert found.error == pytest.approx(distance / np.sqrt(norm), rel=1e-8)


def test_through_an_invertible_feature_map():
    mixing, back = draw(5, 5), np.linalg.inv(draw(5, 5))

    def features(x):
        return np.sinh(x) @ mixing

    def inverse(rows):
        return np.arcsinh(rows @ back)

    wanted = draw(5, 2, seed=1)
    found = analytic.distilled_set(wanted, ridge=0.1)
    moved = analytic.through_feature_map(found, features=features, inverse=inverse)
    rows = features(moved.inputs)
    np.testing.assert_allclose(
        trained_by_hand(rows, moved.targets, 0.1), wanted, atol=1e-10
    )


def test_feature_maps_that_are_not_onto():
    found, wide = analytic.distilled_set(draw(4, 2), ridge=0.1), draw(3, 4)
    for features, inverse in (
        # A constant feature, and more features than inputs.
        (
            lambda x: np.pad(x, ((0, 0), (0, 1)), constant_values=1.0),
            lambda r: r[:, :-1],
        ),
        (lambda x: x @ wide, lambda rows: rows @ np.linalg.pinv(wide)),
    ):
        with pytest.raises(analytic.NoExactSet, match="does not reach row"):
            analytic.through_feature_map(found, features=features, inverse=inverse)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: analytic.distilled_set(w, ridge=-1.0), "ridge is -1.0"),
        (lambda w: analytic.distilled_set(w, ridge=1.0, count=0), "count is 0"),
        (lambda w: analytic.distilled_set(w, ridge=1.0, scale=0.0), "scale is 0.0"),
        (lambda w: analytic.distilled_set(w * np.nan, ridge=1.0), "not finite"),
        (
            lambda w: unwrap(analytic.inputs_for_targets)(
                w, np.ones((2, 2)), ridge=0.0
            ),
            "weights have 4 outputs, but targets 2",
        ),
        (
            lambda w: unwrap(analytic.targets_for_inputs)(
                w, np.ones((2, 2)), ridge=0.0
            ),
            "weights have 7 rows, but inputs 2",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(weights_of_rank(4))
