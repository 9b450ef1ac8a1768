"""The closed forms are gradient descent: values, gradients, limits, and the paper's."""

import functools
import inspect
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.kernels import ridge, unrolled
from tests.slow import slow

OUTPUTS = 2
# Kinds of one shape share their compiled functions.
KINDS = {
    "wide": ("plain", "repeated row", "zero row"),
    "square": ("plain", "orthogonal"),
    "tall": ("plain", "repeated column", "zero column", "equal singular values"),
}
SHAPES = {"wide": (3, 6), "square": (4, 4), "tall": (7, 4)}
SMALLER = {"wide": "sample", "square": "feature", "tall": "feature"}
of_each_shape = pytest.mark.parametrize("shape_name", ["wide", "tall", slow("square")])
CLOSED = [(f, s) for f in ("doubling", "spectral") for s in ("feature", "sample")]


def arrays(shape, kind="plain", seed=0):
    draw = np.random.default_rng(seed)
    m, d = shape
    x = draw.normal(size=shape)
    if kind == "repeated row":
        x[1] = x[0]
    elif kind == "zero row":
        x[1] = 0.0
    elif kind == "repeated column":
        x[:, 1] = x[:, 0]
    elif kind == "zero column":
        x[:, 1] = 0.0
    elif kind in ("orthogonal", "equal singular values"):
        x = np.linalg.qr(x)[0]
    return x, draw.normal(size=(m, OUTPUTS)), draw.normal(size=(d, OUTPUTS))


def steps_by_hand(x, y, theta, eta, lam, steps):
    for _ in range(steps):
        theta = theta - eta * (x.T @ (x @ theta - y) / len(x) + lam * theta)
    return theta


def objective(x, y, start, eta, lam, steps, form, space):
    theta = unrolled.iterate(
        x, y, start, step_size=eta, ridge=lam, steps=steps, form=form, space=space
    )
    mask = jnp.cos(jnp.arange(theta.size, dtype=theta.dtype)).reshape(theta.shape)
    return jnp.sum(mask * jnp.sin(theta)), theta


@functools.cache
def compiled(form, space, steps=None):
    """Value and gradients in all five; steps known when compiling, or an argument."""
    gradient = jax.grad(objective, argnums=(0, 1, 2, 3, 4), has_aux=True)
    if steps is None:
        return jax.jit(functools.partial(gradient, form=form, space=space))
    return jax.jit(functools.partial(gradient, steps=steps, form=form, space=space))


def assert_agree(found, wanted, eta, lam, tolerance):
    """To the tolerance, relative to one or the largest entry.

    The derivatives in step size and ridge are read per relative change.
    """
    found, wanted = ((*gradient, theta) for gradient, theta in (found, wanted))
    names = ("inputs", "targets", "initial weights", "step size", "ridge", "weights")
    scales = (1.0, 1.0, 1.0, eta, min(lam, 1.0), 1.0)
    for name, scale, mine, other in zip(names, scales, found, wanted, strict=True):
        size = max(1.0, float(np.abs(other).max()) * scale)
        error = scale * float(np.abs(mine - other).max()) / size
        assert error < tolerance, (name, error)


def problems(shape_name):
    """Arrays, step size and ridge: small and large steps, negative eigenvalues of M."""
    for kind in KINDS[shape_name]:
        x, y, start = arrays(SHAPES[shape_name], kind)
        for lam in (0.0, 1e-3, 0.3):
            limit = 2 * len(x) / (np.linalg.norm(x, 2) ** 2 + len(x) * lam)
            for eta in (0.05 * limit, 0.97 * limit):
                yield tuple(map(jnp.asarray, (x, y, start, eta, lam))), (kind, lam, eta)


def run(x, y, start, eta, lam, steps, form, space="feature"):
    """The weights alone, from the function that the tests compile once."""
    arguments = map(jnp.asarray, (x, y, start, float(eta), float(lam)))
    if form == "scan":
        return compiled(form, space, steps)(*arguments)[1]
    return compiled(form, space)(*arguments, jnp.asarray(steps, jnp.int32))[1]


@of_each_shape
def test_closed_forms_agree_with_the_steps(shape_name, x64):
    steps = 1000
    scan = compiled("scan", SMALLER[shape_name], steps)
    for problem, (_, lam, eta) in problems(shape_name):
        wanted = scan(*problem)
        for form, space in CLOSED[::2] if shape_name == "square" else CLOSED:
            found = compiled(form, space)(*problem, jnp.asarray(steps, jnp.int32))
            # On the larger side doubling carries the rounding of the null space.
            exact = form == "spectral" or space == SMALLER[shape_name]
            assert_agree(found, wanted, eta, lam, 1e-10 if exact else 1e-8)


@of_each_shape
def test_closed_forms_agree_after_a_million_steps(shape_name, x64):
    steps, space = jnp.asarray(10**6, jnp.int32), SMALLER[shape_name]
    for problem, (kind, lam, eta) in problems(shape_name):
        wanted = compiled("spectral", space)(*problem, steps)
        if shape_name != "square":
            other = "feature" if space == "sample" else "sample"
            _, theta = compiled("spectral", other)(*problem, steps)
            np.testing.assert_allclose(theta, wanted[1], atol=1e-10)
        found = compiled("doubling", space)(*problem, steps)
        # T eps times the size of what a singular X and a large step leave in place.
        full_rank = kind in ("plain", "orthogonal", "equal singular values")
        tolerance = 1e-10 if full_rank or lam > 0 else 1e-8
        assert_agree(found, wanted, eta, lam, tolerance)


@pytest.mark.slow
@of_each_shape
def test_a_million_steps_one_by_one(shape_name, x64):
    steps, space = 10**6, SMALLER[shape_name]
    scan = compiled("scan", space, steps)
    for problem, (kind, lam, eta) in problems(shape_name):
        if kind not in KINDS[shape_name][:2] or lam > 1e-3:
            continue
        found = compiled("spectral", space)(*problem, jnp.asarray(steps, jnp.int32))
        # The steps themselves drift in the null space of repeated rows.
        tolerance = 1e-9 if kind.startswith("repeated") else 1e-10
        assert_agree(found, scan(*problem), eta, lam, tolerance)


def test_few_steps(x64):
    """In every form and space; no step at all returns what was given."""
    x, y, start = arrays(SHAPES["wide"])
    for steps in (0, 1, 2, 3, 13):
        wanted = steps_by_hand(x, y, start, 0.2, 0.1, steps)
        for form, space in CLOSED:
            found = run(x, y, start, 0.2, 0.1, steps, form, space)
            np.testing.assert_allclose(found, wanted, atol=1e-14)
    found = run(x, y, start, 0.2, 0.1, 13, "scan", "feature")
    np.testing.assert_allclose(found, wanted, atol=1e-14)
    known = unrolled.iterate(
        *map(jnp.asarray, (x, y, start)), step_size=0.2, ridge=0.1, steps=13
    )
    np.testing.assert_allclose(known, wanted, atol=1e-14)


@pytest.mark.parametrize("form", ["doubling", "spectral"])
def test_eigenvalue_zero_of_the_step(form, x64):
    """Orthonormal rows and eta = m jump to the solution in one step, M having zeros."""
    x, y, start = arrays(SHAPES["square"], "orthogonal")
    for steps in (1, 2, 1000):
        gradient, theta = compiled(form, "feature")(
            *map(jnp.asarray, (x, y, start, 4.0, 0.0, steps))
        )
        np.testing.assert_allclose(theta, x.T @ y, atol=1e-13)
        assert all(np.isfinite(part).all() for part in gradient)
        np.testing.assert_allclose(gradient[2], 0.0, atol=1e-13)


def test_paper_formula_and_the_right_one(x64):
    x, y, start = arrays(SHAPES["tall"])
    eta, lam = 0.3, 0.2
    beta, gamma = 1 - eta * lam, eta / len(x)
    gram, cross = x.T @ x, x.T @ y

    def expanded(coefficient, steps):
        power = np.linalg.matrix_power(beta * np.eye(4) - gamma * gram, steps)
        total = power @ start
        for j in range(steps):
            term = np.linalg.matrix_power(gamma * gram, j) @ cross
            total = total + (-1) ** j * coefficient(steps, j) * term
        return total

    def printed(t, j):
        return comb(t, j) * beta ** (t - j)

    def right(t, j):
        return gamma * sum(comb(k, j) * beta ** (k - j) for k in range(j, t))

    def error(coefficient, steps):
        wanted = steps_by_hand(x, y, start, eta, lam, steps)
        ours = run(x, y, start, eta, lam, steps, "doubling")
        np.testing.assert_allclose(ours, wanted, atol=1e-13)
        difference = np.abs(expanded(coefficient, steps) - wanted).max()
        return difference / np.abs(wanted).max()

    assert error(right, 13) < 1e-11
    assert error(printed, 13) > 0.5
    assert error(right, 200) > 1.0  # its terms cancel; no digit is left


def test_paper_derivative_in_the_targets_is_right_without_ridge(x64):
    x, y, start = arrays(SHAPES["tall"])
    eta, steps = 0.3, 7
    gamma, gram = eta / len(x), x.T @ x
    wanted = sum(
        comb(steps, j) * gamma**j * np.linalg.matrix_power(-gram, j - 1) @ x.T
        for j in range(1, steps + 1)
    )

    def iterate(y):
        arrays = jnp.asarray(x), y, jnp.asarray(start[:, 0])
        return unrolled.iterate(*arrays, step_size=eta, ridge=0.0, steps=steps)

    found = jax.jit(jax.jacobian(iterate))(jnp.asarray(y[:, 0]))
    np.testing.assert_allclose(found, wanted, atol=1e-13)


def test_paper_gradients_after_one_step(x64):
    """Equation (10) is right and equation (11) too large by 2n."""
    x, y, start = arrays(SHAPES["tall"])
    y, start = y[:, 0], start[:, 0]
    real_x, real_y, _ = arrays((9, 4), seed=1)
    real_y, n, eta = real_y[:, 0], 9, 0.3

    def outer(x, y):
        theta = unrolled.iterate(
            x, y, jnp.asarray(start), step_size=eta, ridge=0.1, steps=1
        )
        return jnp.sum(jnp.square(jnp.asarray(real_x) @ theta - real_y)) / (2 * n)

    in_x, in_y = jax.jit(jax.grad(outer, argnums=(0, 1)))(
        jnp.asarray(x), jnp.asarray(y)
    )
    theta = steps_by_hand(x, y, start, eta, 0.1, 1)
    back = real_x.T @ (real_x @ theta - real_y)
    ten = np.outer(x @ start - y, back) + np.outer(x @ back, start)
    np.testing.assert_allclose(in_x, -eta / (n * len(x)) * ten, atol=1e-13)
    eleven = 2 * eta / len(x) * x @ back
    np.testing.assert_allclose(2 * n * in_y, eleven, atol=1e-13)


@of_each_shape
def test_limit_is_ridge_regression(shape_name, x64):
    solve = jax.jit(functools.partial(ridge.solve, ridge=0.1, convention="per_sample"))
    for kind in KINDS[shape_name]:
        x, y, start = arrays(SHAPES[shape_name], kind)
        wanted = solve(jnp.asarray(x), jnp.asarray(y))
        for form in ("doubling", "spectral"):
            theta = run(x, y, start, 0.2, 0.1, 2**31 - 1, form, SMALLER[shape_name])
            np.testing.assert_allclose(theta, wanted.weights, atol=1e-13)


def test_limit_without_ridge_keeps_what_no_row_sees(x64):
    x, y, start = arrays(SHAPES["wide"])
    theta = run(x, y, start, 0.2, 0.0, 2**31 - 1, "spectral", "sample")
    inverse = np.linalg.pinv(x)
    np.testing.assert_allclose(theta, start + inverse @ (y - x @ start), atol=1e-13)


def test_step_size_limit(x64):
    for shape in SHAPES.values():
        x, y, start = arrays(shape)
        largest = np.linalg.svd(x, compute_uv=False)[0] ** 2
        limit = unrolled.step_size_limit(jnp.asarray(x), ridge=0.3)
        np.testing.assert_allclose(limit, 2 * len(x) / (largest + len(x) * 0.3))
        below, above = (
            steps_by_hand(x, y, start, factor * float(limit), 0.3, 3000)
            for factor in (0.99, 1.01)
        )
        assert np.abs(below).max() < 1e2 < 1e6 < np.abs(above).max()
    assert np.isinf(unrolled.step_size_limit(jnp.zeros((2, 3))))


def test_check_step_size_names_both(x64):
    x = jnp.diag(jnp.array([3.0, 1.0]))
    assert unrolled.check_step_size(x, step_size=0.39, ridge=0.5) == pytest.approx(0.4)
    for bad in (0.4, 0.41, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"is {bad:.6g}, .* and 0\.4 = 2m"):
            unrolled.check_step_size(x, step_size=bad, ridge=0.5)


@pytest.mark.parametrize("form", ["doubling", "spectral"])
def test_draws_of_initial_weights_by_vmap(form, x64):
    x, y, _ = map(jnp.asarray, arrays(SHAPES["wide"]))
    starts = jax.random.normal(jax.random.key(0), (4, 6, OUTPUTS), jnp.float64)
    rest = jnp.asarray(0.2), jnp.asarray(0.1), jnp.asarray(13, jnp.int32)

    def total(x):
        def one(start):
            return objective(x, y, start, *rest, form, "sample")

        values, thetas = jax.vmap(one)(starts)
        return jnp.sum(values), thetas

    gradient, thetas = jax.jit(jax.grad(total, has_aux=True))(x)
    one_by_one = [compiled(form, "sample")(x, y, start, *rest) for start in starts]
    for theta, (_, wanted) in zip(thetas, one_by_one, strict=True):
        np.testing.assert_allclose(theta, wanted, atol=1e-14)
    wanted = sum(parts[0] for parts, _ in one_by_one)
    np.testing.assert_allclose(gradient, wanted, atol=1e-13)


def test_steps_change_without_compiling_again(x64):
    x, y, start = map(jnp.asarray, arrays(SHAPES["wide"]))
    for form, space in CLOSED:
        run(x, y, start, 0.2, 0.1, 7, form, space)
        before = compiled(form, space)._cache_size()
        for steps in (0, 1, 5, 150, 10**9):
            run(x, y, start, 0.2, 0.1, steps, form, space)
        assert compiled(form, space)._cache_size() == before


def test_one_number_of_steps_per_problem_by_vmap(x64):
    x, y, start = map(jnp.asarray, arrays(SHAPES["wide"]))

    def iterate(steps):
        return unrolled.iterate(x, y, start, step_size=0.2, ridge=0.1, steps=steps)

    steps = (0, 3, 8)
    thetas = jax.jit(jax.vmap(iterate))(jnp.array(steps))
    for theta, count in zip(thetas, steps, strict=True):
        wanted = steps_by_hand(x, y, start, 0.2, 0.1, count)
        np.testing.assert_allclose(theta, wanted, atol=1e-13)


def outer_of(form):
    def outer(x):
        _, y, start = map(jnp.asarray, arrays(SHAPES["wide"]))
        theta = unrolled.iterate(
            x, y, start, step_size=0.2, ridge=0.1, steps=9, form=form
        )
        return jnp.sum(jnp.sin(theta))

    return outer


def test_second_derivatives_of_doubling_and_scan_agree(x64):
    x = jnp.asarray(arrays(SHAPES["wide"])[0])
    direction = jnp.asarray(arrays(SHAPES["wide"], seed=3)[0])

    def product(form):
        gradient = jax.grad(outer_of(form))
        return jax.jit(lambda x: jax.jvp(gradient, (x,), (direction,))[1])(x)

    found, wanted = product("doubling"), product("scan")
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_second_derivative_of_the_spectral_form_is_refused(x64):
    x = jnp.asarray(arrays(SHAPES["wide"])[0])
    outer = outer_of("spectral")
    ones = jnp.ones_like(x)
    tangent = jax.jit(lambda x: jax.jvp(outer, (x,), (ones,))[1])(x)
    gradient = jax.jit(jax.grad(outer))(x)
    np.testing.assert_allclose(tangent, jnp.sum(gradient), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="form='doubling'"):
        jax.jvp(jax.grad(jax.jit(outer)), (x,), (ones,))
    with pytest.raises(NotImplementedError, match="form='doubling'"):
        jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(outer)(x))))(x)


def test_float32_keeps_its_digits():
    x, y, start = (np.float32(a) for a in arrays(SHAPES["wide"]))
    wanted = steps_by_hand(*(np.float64(a) for a in (x, y, start)), 0.2, 0.1, 150)
    for form in ("doubling", "spectral"):
        arguments = map(jnp.float32, (x, y, start, 0.2, 0.1))
        _, found = compiled(form, "sample")(*arguments, jnp.int32(150))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, wanted, atol=3e-6)


limit = jax.jit(unrolled.step_size_limit)


@given(
    seed=st.integers(0, 99),
    steps=st.sampled_from([0, 1, 7, 10**4, 10**9]),
    lam=st.sampled_from([0.0, 1e-12, 1e-3, 1.0]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    fraction=st.sampled_from([1e-3, 0.5, 0.999]),
)
def test_finite_whatever_comes(seed, steps, lam, scale, fraction):
    x, y, start = arrays(
        SHAPES["wide"], ("repeated row", "plain", "zero row")[seed % 3], seed
    )
    x, y, start = (jnp.asarray(a, jnp.float32) for a in (scale * x, y, start))
    eta = fraction * limit(x, ridge=jnp.float32(lam))
    for form in ("doubling", "spectral"):
        gradient, theta = compiled(form, "sample")(
            x, y, start, eta, jnp.float32(lam), jnp.asarray(steps, jnp.int32)
        )
        assert all(np.isfinite(part).all() for part in (theta, *gradient[:3]))


X, Y, START = jnp.ones((3, 4)), jnp.ones((3, 2)), jnp.ones((4, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"form": "closed"}, ValueError, "form is 'closed'"),
        ({"space": "dual"}, ValueError, "space is 'dual'"),
        ({"ridge": -1.0}, ValueError, "ridge is -1.0"),
        ({"steps": -1}, ValueError, "steps is -1"),
        ({"steps": 2**31}, ValueError, "steps is 2147483648"),
        ({"steps": jnp.ones(2, jnp.int32)}, TypeError, r"int32 of shape \(2,\)"),
        (
            {"steps": jnp.asarray(3), "form": "scan"},
            ValueError,
            "form='scan' needs steps as a plain integer",
        ),
        ({"targets": jnp.ones((4, 2))}, ValueError, "3 rows of inputs, but targets"),
        ({"initial_weights": jnp.ones((4,))}, ValueError, r"call for \(4, 2\)"),
        ({"inputs": jnp.ones((3, 4), jnp.int32)}, TypeError, "inputs are int32"),
        ({"inputs": jnp.ones((0, 4))}, ValueError, r"must be \(m, d\)"),
    ],
)
def test_mistakes_are_named(change, error, message):
    call = {
        "inputs": X,
        "targets": Y,
        "initial_weights": START,
        "step_size": 0.1,
        "ridge": 0.0,
        "steps": 2,
    } | change
    # Without the check of shapes and types that tests add.
    with pytest.raises(error, match=message):
        inspect.unwrap(unrolled.iterate)(**call)
