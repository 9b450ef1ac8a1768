"""Ridge regression: agreement with others, derivatives, edge cases, compilations."""

import functools
import inspect

import chex
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from ddjax.kernels import ridge
from tests.slow import slow

M, P, C = 7, 4, 3


def draw(seed=0, m=M, p=P, c=C, dtype=np.float64):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(m, p)).astype(dtype)
    targets = rng.normal(size=(m, c)).astype(dtype)
    weights = rng.uniform(0.2, 2.0, size=m).astype(dtype)
    return features, targets, weights


def gram_of(features):
    return features @ features.T + 0.5 * np.eye(len(features), dtype=features.dtype)


def symmetric(gram):
    """Of a perturbed Gram, what the solution is a function of."""
    return 0.5 * (gram + gram.T)


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# Agreement with other implementations.


@pytest.mark.parametrize(
    "shape, side, intercept, weighted",
    [
        ((9, 4), "auto", False, False),
        ((4, 9), "auto", False, True),
        ((9, 4), "sample", True, True),
        ((4, 9), "feature", True, True),
        ((1, 3), "sample", True, False),
    ],
)
def test_solve_agrees_with_scikit_learn(x64, shape, side, intercept, weighted):
    features, targets, weights = draw(m=shape[0], p=shape[1])
    weights = weights if weighted else None
    ours = ridge.solve(
        features, targets, ridge=0.3, side=side, intercept=intercept, weights=weights
    )
    theirs = Ridge(alpha=0.3, fit_intercept=intercept, solver="cholesky")
    theirs.fit(features, targets, sample_weight=weights)
    close(ours.weights, theirs.coef_.T, 1e-10)
    close(ours.intercept, theirs.intercept_, 1e-10)
    close(ridge.predict(features, ours), theirs.predict(features), 1e-10)
    assert ours.jitter == 0


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_kernel_solve_agrees_with_scikit_learn_and_lineax(dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        features, targets, weights = draw(dtype=dtype)
        gram = gram_of(features)
        ours = ridge.kernel_solve(gram, targets, ridge=0.3, weights=weights)
        theirs = KernelRidge(alpha=0.3, kernel="precomputed")
        theirs.fit(np.asarray(gram, np.float64), targets, sample_weight=weights)
        close(ours.coefficients, theirs.dual_coef_, tolerance)
        assert ours.coefficients.dtype == dtype and ours.factor.dtype == dtype
        matrix = gram + dtype(0.3) * np.eye(M, dtype=dtype)
        ours = ridge.kernel_solve(gram, targets, ridge=0.3).coefficients
        operator = lineax.MatrixLinearOperator(matrix, lineax.positive_semidefinite_tag)
        by_lineax = jax.jit(
            jax.vmap(lambda column: lineax.linear_solve(operator, column).value, 1, 1)
        )(targets)
        close(ours, by_lineax, tolerance)


def test_the_kernel_intercept_is_that_of_the_features(x64):
    features, targets, weights = draw()
    settings_ = {"ridge": 0.3, "weights": weights, "intercept": True}
    linear = ridge.solve(features, targets, **settings_)
    kernel = ridge.kernel_solve(features @ features.T, targets, **settings_)
    close(kernel.intercept, linear.intercept, 1e-12)
    close(features.T @ kernel.coefficients, linear.weights, 1e-12)
    close(
        ridge.kernel_predict(features @ features.T, kernel),
        ridge.predict(features, linear),
        1e-12,
    )


@pytest.mark.parametrize(
    "side, convention", [("sample", "relative"), ("feature", "per_sample")]
)
def test_conventions(x64, side, convention):
    features, targets, _ = draw()
    gram = features @ features.T
    strength = 0.3 * (np.trace(gram) / M if convention == "relative" else M)
    named = ridge.solve(features, targets, ridge=0.3, convention=convention, side=side)
    absolute = ridge.solve(features, targets, ridge=strength)
    close(named.weights, absolute.weights, 1e-12)
    kernel = ridge.kernel_solve(gram, targets, ridge=0.3, convention=convention)
    close(kernel.ridge, strength, 1e-12)
    close(features.T @ kernel.coefficients, absolute.weights, 1e-12)


@pytest.mark.parametrize(
    "convention, intercept", [("relative", True), ("per_sample", False)]
)
def test_weights_count_rows(x64, convention, intercept):
    features, targets, _ = draw()
    counts = np.array([0, 1, 2, 3, 1, 0, 2])
    weights = counts.astype(float)
    repeated = np.repeat(np.arange(M), counts)
    settings_ = {"ridge": 0.3, "convention": convention, "intercept": intercept}
    for side in ("sample", "feature"):
        weighted = ridge.solve(
            features, targets, weights=weights, side=side, **settings_
        )
        plain = ridge.solve(features[repeated], targets[repeated], **settings_)
        close(weighted.weights, plain.weights, 1e-11)
        close(weighted.intercept, plain.intercept, 1e-11)
    kernel = ridge.kernel_solve(
        features @ features.T, targets, weights=weights, **settings_
    )
    close(features.T @ kernel.coefficients, plain.weights, 1e-11)
    close(kernel.intercept, plain.intercept, 1e-11)


def test_scalar_targets_keep_their_shape(x64):
    features, targets, _ = draw()
    both = ridge.solve(features, targets, ridge=0.3, intercept=True)
    one = ridge.solve(features, targets[:, 0], ridge=0.3, intercept=True)
    assert one.weights.shape == (P,) and one.intercept.shape == ()
    close(one.weights, both.weights[:, 0], 1e-13)
    kernel = ridge.kernel_solve(gram_of(features), targets[:, 0], ridge=0.3)
    assert kernel.coefficients.shape == (M,)
    assert ridge.kernel_predict(gram_of(features), kernel).shape == (M,)


# Derivatives.


def check_gradients(function, arguments):
    """Compares with central differences along random directions, for each argument."""
    rng = np.random.default_rng(0)
    weights = [
        rng.normal(size=out.shape) for out in jax.eval_shape(function, *arguments)
    ]

    @jax.jit
    def projected(*arguments):
        outputs = function(*arguments)
        return sum(jnp.sum(w * out) for w, out in zip(weights, outputs, strict=True))

    gradients = jax.jit(jax.grad(projected, range(len(arguments))))(*arguments)
    for i, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)

        def along(step, i=i, direction=direction):
            moved = list(arguments)
            moved[i] = moved[i] + step * direction
            return projected(*moved)

        difference = (along(1e-5) - along(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, 1e-6)


@pytest.mark.parametrize(
    "convention, intercept", [("relative", True), ("per_sample", False)]
)
def test_kernel_derivatives_agree_with_finite_differences(x64, convention, intercept):
    features, targets, weights = draw()

    def everything(gram, targets, strength, weights):
        solution = ridge.kernel_solve(
            symmetric(gram),
            targets,
            ridge=strength,
            weights=weights,
            convention=convention,
            intercept=intercept,
        )
        return (
            solution.coefficients,
            solution.intercept,
            ridge.log_determinant(solution.factor),
            ridge.trace_of_inverse(solution.factor),
            ridge.leave_one_out(solution),
        )

    check_gradients(everything, (gram_of(features), targets, jnp.array(0.3), weights))


@pytest.mark.parametrize("side, intercept", [("sample", True), ("feature", False)])
def test_feature_derivatives_agree_with_finite_differences(x64, side, intercept):
    features, targets, weights = draw()

    def fit(features, targets, strength, weights):
        settings_ = {"convention": "relative", "side": side, "intercept": intercept}
        return ridge.solve(
            features, targets, ridge=strength, weights=weights, **settings_
        )[:2]

    check_gradients(fit, (features, targets, jnp.array(0.3), weights))


def test_second_derivatives_agree_with_finite_differences(x64):
    features, targets, _ = draw(m=3)

    def loss(gram, strength):
        solution = ridge.kernel_solve(symmetric(gram), targets, ridge=strength)
        return jnp.sum(solution.coefficients**2) + solution.factor.sum()

    check_gradients(jax.grad(loss, (0, 1)), (gram_of(features), jnp.array(0.3)))


def test_forward_mode_agrees_with_reverse_mode(x64):
    features, targets, _ = draw()
    tangents = draw(1)[:2]

    def fit(features, targets):
        gram = features @ features.T
        solution = ridge.kernel_solve(gram, targets, ridge=0.3, intercept=True)
        return jnp.sum(solution.coefficients**2) + solution.factor.sum()

    forward = jax.jit(lambda x, t: jax.jvp(fit, x, t)[1])((features, targets), tangents)
    reverse = jax.jit(jax.grad(fit, (0, 1)))(features, targets)
    close(forward, sum(map(jnp.vdot, reverse, tangents)), 1e-12)


def test_a_jittered_solution_is_differentiated_as_solved(x64):
    targets = draw(m=2)[1]

    def fit(covariance):
        # Of one mean diagonal, and so with one jitter.
        gram = jnp.eye(2) + covariance * (1 - jnp.eye(2))
        solution = ridge.kernel_solve(gram, targets, ridge=0.0)
        return (solution.coefficients, solution.factor), solution.jitter

    assert fit(1.1)[1] > 0.1
    check_gradients(lambda covariance: fit(covariance)[0], (jnp.array(1.1),))


def test_detached_trace(x64):
    features, targets, _ = draw()
    options = {"ridge": 0.3, "convention": "relative", "detach_trace": True}

    def named(features):
        statistics = ridge.sufficient_statistics(features, targets)
        kernel = ridge.kernel_solve(features @ features.T, targets, **options)
        return (
            features.T @ kernel.coefficients,
            ridge.solve(features, targets, **options).weights,
            ridge.solve_from_statistics(statistics, **options).weights,
        )

    def spelled_out(features):
        strength = 0.3 * jax.lax.stop_gradient(jnp.sum(features**2)) / M
        return (ridge.solve(features, targets, ridge=strength).weights,) * 3

    def derivatives(function):
        tangent = jnp.ones_like(features)
        return jax.jit(lambda x: jax.jvp(function, (x,), (tangent,))[1])(features)

    for found, wanted in zip(derivatives(named), derivatives(spelled_out), strict=True):
        close(found, wanted, 1e-12)


def primitives(jaxpr):
    """All equations of a jaxpr, those of inner jaxprs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jex.jaxprs_in_params(equation.params):
            yield from primitives(inner)


@pytest.mark.parametrize("intercept", [False, True])
def test_one_cholesky_serves_the_value_and_the_gradient(intercept):
    features, targets, weights = draw(m=64, dtype=np.float32)

    def loss(gram, targets, strength, weights):
        solution = ridge.kernel_solve(
            gram,
            targets,
            ridge=strength,
            weights=weights,
            convention="relative",
            intercept=intercept,
        )
        return jnp.sum(solution.coefficients**2) + jnp.sum(solution.intercept)

    arguments = (gram_of(features), targets, jnp.array(0.3), weights)
    function = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))
    compiled = jax.jit(function).lower(*arguments).compile().as_text()
    # What stands outside of the loops of those with jitter.
    entry = compiled.partition("\nENTRY ")[2]
    assert entry.count("potrf") + entry.count(" cholesky(") == 1
    assert "f32[64,64]" not in "".join(
        line for line in entry.splitlines() if " conditional(" in line
    )
    jaxpr = jax.make_jaxpr(function)(*arguments)
    # The backward pass takes triangular solves as narrow as the forward pass: the
    # derivative of the factor itself is never formed.
    widths = {
        equation.invars[1].aval.shape[-1]
        for equation in primitives(jaxpr.jaxpr)
        if equation.primitive.name == "triangular_solve"
    }
    assert widths == {C + intercept}


# Edge cases: finite everywhere, backward stable, and the jitter told.

# Shape, intercept and dtype, few of each: every combination is a compilation.
CASES = [
    ((1, 1, 1), False, np.float32),
    ((3, 8, 2), True, np.float64),
    ((5, 3, 1), False, np.float32),
]


@functools.partial(jax.jit, static_argnames="intercept")
def fit_and_differentiate(features, targets, strength, *, intercept):
    def loss(features, targets, strength):
        gram = features @ features.T
        kernel = ridge.kernel_solve(gram, targets, ridge=strength, intercept=intercept)
        linear = ridge.solve(features, targets, ridge=strength, intercept=intercept)
        value = sum(jnp.sum(jnp.tanh(part)) for part in (*linear[:2], *kernel[:2]))
        return value, (kernel, linear, gram, ridge.leave_one_out(kernel))

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(
        features, targets, strength
    )


@settings(deadline=None, max_examples=25)
@given(
    case=st.sampled_from(CASES),
    seed=st.integers(0, 99),
    log_ridge=st.floats(-12, 6),
    norm=st.sampled_from([1e-3, 1.0, 1e4]),
    kind=st.sampled_from(["plain", "repeated", "one zero", "all zero", "opposite"]),
)
@example(CASES[0], 0, -12.0, 1e4, "plain")
@example(CASES[2], 0, -12.0, 1e4, "repeated")
@example(CASES[1], 0, -12.0, 1.0, "all zero")
@example(CASES[1], 0, -12.0, 1e4, "opposite")
@example(CASES[2], 0, 6.0, 1e-3, "one zero")
def test_finite_and_backward_stable(case, seed, log_ridge, norm, kind):
    (m, p, c), intercept, dtype = case
    with jax.enable_x64(dtype == np.float64):
        features, targets, _ = draw(seed, m, p, c, dtype)
        features = dtype(norm) * np.asarray(features)
        features = {
            "plain": features,
            "repeated": np.tile(features[:1], (m, 1)),
            "one zero": np.where(np.arange(m)[:, None] == 0, 0, features),
            "all zero": np.zeros_like(features),
            "opposite": (-1) ** np.arange(m)[:, None] * features[:1],
        }[kind].astype(dtype)
        strength = dtype(10.0**log_ridge)
        (_, aux), gradients = jax.device_get(
            fit_and_differentiate(features, targets, strength, intercept=intercept)
        )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((aux, gradients)))
    kernel, linear, gram, _ = aux
    eps = np.finfo(dtype).eps
    assert 0 <= kernel.jitter <= 1e3 * m * eps
    # In float64 from here on: the equations that were solved.
    rows, values = np.float64(features), np.float64(targets)
    gram = np.float64(gram)
    matrix = (gram + gram.T) / 2 + float(kernel.ridge) * np.eye(m)
    right = values - np.float64(kernel.intercept)[None]
    scale = np.linalg.norm(matrix) * np.linalg.norm(kernel.coefficients)
    scale += np.linalg.norm(values) + np.linalg.norm(kernel.intercept)
    error = np.linalg.norm(matrix @ np.float64(kernel.coefficients) - right)
    assert error <= 30 * m * eps * scale
    if not intercept and linear.jitter == 0:
        weights = np.float64(linear.weights)
        normal = rows.T @ rows + float(strength) * np.eye(p)
        scale = np.linalg.norm(normal) * np.linalg.norm(weights)
        # On the sample side W = Fᵀα inherits the error of α.
        duals = np.linalg.norm(kernel.coefficients) if m <= p else 0.0
        scale += np.linalg.norm(rows) * np.linalg.norm(values)
        scale += np.linalg.norm(rows) ** 3 * duals
        error = np.linalg.norm(normal @ weights - rows.T @ values)
        assert error <= 100 * max(m, p) * eps * scale


@pytest.mark.parametrize("dtype, digits", [(np.float32, 1e-7), (np.float64, 1e-16)])
def test_error_is_eps_times_the_condition_number(dtype, digits):
    features, targets, _ = draw(m=20, p=30, dtype=dtype)
    left, values, _ = np.linalg.svd(np.float64(features))
    for strength in (1e-12, 1e-3, 1.0, 1e6):
        with jax.enable_x64(dtype == np.float64):
            ours = ridge.kernel_solve(features @ features.T, targets, ridge=strength)
        spectrum = values[:20] ** 2 + float(dtype(strength))
        exact = left / spectrum @ (left.T @ np.float64(targets))
        error = np.linalg.norm(np.float64(ours.coefficients) - exact)
        error /= np.linalg.norm(exact)
        assert error < 20 * digits * spectrum.max() / spectrum.min(), strength


def test_a_singular_gram_without_ridge_gets_jitter_and_stays_finite():
    for m in (2, 100):
        gram = np.ones((m, m), np.float32)
        solution = ridge.kernel_solve(gram, np.ones((m, 1), np.float32), ridge=0.0)
        assert 0 < solution.jitter <= 1e-5 * m
        close(gram @ np.asarray(solution.coefficients), 1.0, 1e-3)


def test_an_indefinite_matrix_gets_as_much_jitter_as_it_needs():
    gram = jnp.array([[1.0, 1.1], [1.1, 1.0]])
    factor, jitter = ridge.kernel_solve(gram, jnp.ones(2), ridge=0.0)[1:3]
    assert jnp.isfinite(factor).all()
    assert 0.1 < jitter < 1.3
    close(factor @ factor.T, jnp.array([[1 + jitter, 1.1], [1.1, 1 + jitter]]), 1e-5)


@pytest.mark.usefixtures("each_precision")
def test_no_silent_nan():
    gram = jnp.eye(3).at[0, 0].set(jnp.nan)
    solution = jax.jit(functools.partial(ridge.kernel_solve, ridge=0.1))(
        gram, jnp.ones((3, 1))
    )
    assert jnp.isinf(solution.jitter)
    assert jnp.isnan(solution.coefficients).all()


def test_the_upper_triangle_of_the_gram_is_factored(x64):
    features, targets, _ = draw()
    gram = gram_of(features)
    other = gram + np.tril(np.ones_like(gram), -1)
    found = ridge.kernel_solve(other, targets, ridge=0.3)
    straight = ridge.kernel_solve(gram, targets, ridge=0.3)
    close(found.coefficients, straight.coefficients, 1e-12)


def test_gradient_at_a_zero_weight_is_finite(x64):
    features, targets, weights = draw()

    def loss(weights):
        return ridge.solve(features, targets, ridge=0.3, weights=weights).weights.sum()

    gradient = jax.jit(jax.grad(loss))(np.where(np.arange(M) == 0, 0.0, weights))
    assert np.isfinite(gradient).all()


# float64 factorisation.


def test_float64_factorisation_of_float32_arrays(x64):
    rng = np.random.default_rng(0)
    # Exactly representable products, so that only the factorisation rounds.
    features = rng.integers(-3, 4, size=(30, 40)).astype(np.float32)
    features[15:] = features[:15]
    targets = rng.normal(size=(30, 2)).astype(np.float32)
    gram = np.float64(features) @ np.float64(features).T
    exact = np.linalg.solve(gram + 1e-4 * np.eye(30), np.float64(targets))
    gram = jnp.asarray(gram, jnp.float32)

    def error(**options):
        found = ridge.kernel_solve(gram, jnp.asarray(targets), ridge=1e-4, **options)
        assert found.coefficients.dtype == jnp.float32
        found = np.float64(found.coefficients)
        return np.linalg.norm(found - exact) / np.linalg.norm(exact)

    assert error(factor_dtype=jnp.float64) < 1e-6 < 1e-3 < error()
    weights = ridge.solve(
        jnp.asarray(features),
        jnp.asarray(targets),
        ridge=1e-4,
        factor_dtype=jnp.float64,
    ).weights
    assert weights.dtype == jnp.float32
    close(weights, features.T @ exact, 1e-4)


def test_float64_factorisation_needs_x64():
    if jax.config.read("jax_enable_x64"):
        pytest.skip("64-bit numbers are enabled")
    with pytest.raises(ValueError, match="JAX_ENABLE_X64"):
        ridge.solve(jnp.eye(2), jnp.ones(2), ridge=1.0, factor_dtype=jnp.float64)


def test_gradients_through_the_float64_factorisation(x64):
    features, targets, _ = draw(dtype=np.float32)

    def loss(gram, dtype):
        solution = ridge.kernel_solve(gram, targets, ridge=0.3, factor_dtype=dtype)
        return jnp.sum(solution.coefficients**2)

    gram = gram_of(features)
    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    mixed = gradient(gram, jnp.float64)
    assert mixed.dtype == jnp.float32
    close(mixed, gradient(gram, None), 1e-4)


# What else comes from the factor.


@pytest.mark.parametrize("intercept", [slow(False), True])
def test_leave_one_out_is_refitting(x64, intercept):
    features, targets, weights = draw()
    gram = gram_of(features)
    fit = functools.partial(ridge.kernel_solve, ridge=0.3, intercept=intercept)
    found = ridge.leave_one_out(fit(gram, targets, weights=weights))
    for i in range(M):
        rest = np.delete(np.arange(M), i)
        solution = fit(gram[np.ix_(rest, rest)], targets[rest], weights=weights[rest])
        prediction = ridge.kernel_predict(gram[i : i + 1, rest], solution)
        close(found[i], targets[i] - prediction[0], 1e-11)


def test_what_cannot_be_left_out_gets_zero(x64):
    one = ridge.kernel_solve(
        jnp.ones((1, 1)), jnp.array([3.0]), ridge=0.3, intercept=True
    )
    close(ridge.leave_one_out(one), [0.0], 1e-14)
    close(one.intercept, 3.0, 1e-14)
    features, targets, weights = draw()
    solution = ridge.kernel_solve(
        gram_of(features),
        targets,
        ridge=0.3,
        weights=np.where(np.arange(M) == 2, 0.0, weights),
    )
    assert not ridge.leave_one_out(solution)[2].any()


def test_determinant_and_trace(x64):
    features, targets, _ = draw()
    gram = gram_of(features)
    solution = ridge.kernel_solve(gram, targets, ridge=0.3)
    matrix = np.asarray(gram) + 0.3 * np.eye(M)
    inverse = np.linalg.inv(matrix)
    close(ridge.log_determinant(solution.factor), np.linalg.slogdet(matrix)[1], 1e-12)
    close(ridge.trace_of_inverse(solution.factor), np.trace(inverse), 1e-12)
    close(solution.factor @ solution.factor.T, matrix, 1e-12)


# Sufficient statistics.


def test_squared_loss_from_statistics(x64):
    features, targets, weights = draw()
    model = draw(1, P, 1, C)[1]
    away = features @ model - targets
    value_and_slope = jax.jit(jax.value_and_grad(ridge.squared_loss_from_statistics))
    for counts, each in ((None, np.ones(M)), (weights, weights)):
        statistics = ridge.sufficient_statistics(features, targets, weights=counts)
        loss, slope = value_and_slope(model, statistics)
        close(loss, 0.5 * np.sum(each[:, None] * away**2), 1e-12)
        close(slope, features.T @ (each[:, None] * away), 1e-12)
        close(statistics.count, each.sum(), 1e-14)


@pytest.mark.parametrize("convention", ridge.CONVENTIONS)
def test_solution_from_statistics(x64, convention):
    features, targets, _ = draw()
    values = targets[:, 0] if convention == "absolute" else targets
    found = ridge.solve_from_statistics(
        ridge.sufficient_statistics(features, values), ridge=0.3, convention=convention
    )
    direct = ridge.solve(features, values, ridge=0.3, convention=convention)
    close(found.weights, direct.weights, 1e-12)
    close(found.intercept, direct.intercept, 0)


def test_streamed_statistics(x64):
    features, targets, _ = draw(m=11)
    streamed = ridge.streamed_statistics(
        (features[i : i + 4], targets[i : i + 4]) for i in range(0, 11, 4)
    )
    whole = ridge.sufficient_statistics(features, targets)
    jax.tree.map(functools.partial(close, tolerance=1e-12), streamed, whole)

    def add(total, rows):
        return ridge.add_statistics(total, ridge.sufficient_statistics(*rows)), None

    blocks = (features[:10].reshape(5, 2, P), targets[:10].reshape(5, 2, C))
    scanned, _ = jax.lax.scan(
        add, ridge.zero_statistics(P, target_shape=(C,), dtype=jnp.float64), blocks
    )
    whole = ridge.sufficient_statistics(features[:10], targets[:10])
    jax.tree.map(functools.partial(close, tolerance=1e-12), scanned, whole)
    with pytest.raises(ValueError, match="empty"):
        ridge.streamed_statistics([])


# Compilation.


def test_vmap_is_a_loop(x64):
    features, targets, weights = draw()
    pool = jnp.stack([features, 2 * features, jnp.zeros_like(features)])
    strengths = jnp.array([0.1, 1e-12, 0.3])

    def loss(features, strength):
        gram = features @ features.T
        kernel = ridge.kernel_solve(
            gram, targets, ridge=strength, weights=weights, intercept=True
        )
        linear = ridge.solve(features, targets, ridge=strength)
        return jnp.sum(linear.weights**2), (linear, kernel)

    fit = jax.grad(loss, has_aux=True)
    gradients, together = jax.jit(jax.vmap(fit))(pool, strengths)
    alone_too = jax.jit(fit)
    for i in range(3):
        gradient, alone = alone_too(pool[i], strengths[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(
                a[i], b, rtol=1e-6, atol=1e-6 * (1e-30 + np.abs(b).max())
            ),
            together,
            alone,
        )
        # With hardly any ridge the derivative of a singular fit has no digits.
        if i != 1:
            close(gradients[i], gradient, 1e-9)


def test_one_compilation_for_all_values():
    features, targets, _ = draw(dtype=np.float32)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(features, targets, strength):
        def loss(features):
            return ridge.solve(features, targets, ridge=strength).weights.sum()

        return jax.value_and_grad(loss)(features)

    for scale in (1.0, 1e4, 0.0):
        for strength in (1e-12, 1.0, 1e6):
            value, gradient = step(scale * features, targets, jnp.float32(strength))
            assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


# What a user can get wrong.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"convention": "mean"}, "'mean'.*absolute.*relative.*per_sample"),
        ({"side": "left"}, "'left'.*auto.*sample.*feature"),
        ({"ridge": jnp.float32(-1.0)}, "ridge is -1.0, but must be finite and >= 0"),
        ({"ridge": float("nan")}, "nan"),
        ({"targets": np.ones((4, 1))}, "3 rows.*targets of shape \\(4, 1\\)"),
        ({"weights": np.ones(2)}, "weights of shape \\(2,\\)"),
        ({"features": np.ones((0, 2)), "targets": np.ones((0, 1))}, "at least one row"),
        ({"features": np.ones(3), "targets": np.ones(3)}, "one row .*, in a matrix"),
    ],
)
def test_wrong_arguments(change, message):
    right = {"features": np.ones((3, 2)), "targets": np.ones((3, 1)), "ridge": 1.0}
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(ridge.solve)(**right | change)


def test_wrong_kernels_and_types():
    kernel_solve = inspect.unwrap(ridge.kernel_solve)
    with pytest.raises(ValueError, match="square"):
        kernel_solve(jnp.ones((3, 2)), jnp.ones((3, 1)), ridge=1.0)
    with pytest.raises(TypeError, match="int32"):
        kernel_solve(jnp.eye(3), jnp.ones((3, 1), jnp.int32), ridge=1.0)
    with pytest.raises(ValueError, match="\\(2,\\).*\\(2, 1\\)"):
        ridge.squared_loss_from_statistics(
            jnp.ones(2), ridge.sufficient_statistics(jnp.ones((3, 2)), jnp.ones((3, 1)))
        )
