import functools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from ddjax.kernels import losses

MULTICLASS = ["softmax", "multiclass_hinge", "soft_multiclass_hinge"]
ELEMENTWISE = [name for name in losses.LOSSES if name not in MULTICLASS]
VARIANTS = [
    *((name, {}) for name in losses.LOSSES),
    ("smoothed_hinge", {"gamma": 0.3}),
    ("huber", {"delta": 0.2}),
    ("epsilon_insensitive", {"epsilon": 0.0}),
]
IDS = [
    name + "".join(f"-{v}" for v in settings.values()) for name, settings in VARIANTS
]


def problem(loss, rng, samples=6, columns=3):
    """Targets, predictions and feasible slopes of a loss, float64 numpy."""
    shape = (samples, columns)
    predictions = 3.0 * rng.normal(size=shape)
    if loss.kind == "multiclass":
        targets = rng.dirichlet(np.ones(columns), samples)
        targets[::2] = np.eye(columns)[rng.integers(0, columns, len(targets[::2]))]
    else:
        targets = rng.normal(size=shape)
        targets[::2] = np.sign(targets[::2])
    with jax.enable_x64(True):
        slopes = np.asarray(loss.feasible(targets, 2.0 * rng.normal(size=shape)))
    return targets, predictions, slopes


def grid_supremum(loss, target, slope):
    """sup of u f - l(y, f) over one prediction, by a grid refined about its best."""
    low, high = -400.0, 400.0
    best = -np.inf
    value_of = jax.jit(loss.value)
    for _ in range(6):
        f = np.linspace(low, high, 4001)
        values = slope * f - np.asarray(value_of(np.full_like(f, target), f))
        k = int(np.argmax(values))
        best = max(best, float(values[k]))
        low, high = f[max(k - 1, 0)], f[min(k + 1, len(f) - 1)]
    return best


@pytest.mark.parametrize(
    ("name", "settings"), [v for v in VARIANTS if v[0] not in MULTICLASS]
)
def test_conjugate_is_the_supremum_elementwise(name, settings):
    loss = losses.get(name, **settings)
    rng = np.random.default_rng(0)
    targets, _, slopes = problem(loss, rng, samples=3, columns=2)
    with jax.enable_x64(True):
        for y, u in zip(targets.ravel(), slopes.ravel(), strict=True):
            exact = float(jax.jit(loss.conjugate)(np.array([y]), np.array([u]))[0])
            np.testing.assert_allclose(grid_supremum(loss, y, u), exact, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "soft_multiclass_hinge"])
def test_smooth_multiclass_conjugate_is_the_supremum(name):
    loss = losses.get(name)
    targets, _, slopes = problem(loss, np.random.default_rng(1), samples=4)
    slopes = 0.9 * slopes + 0.1 * (1.0 / 3.0 - targets)
    with jax.enable_x64(True):
        exact = np.asarray(loss.conjugate(targets, slopes))
        value_of, gradient_of = jax.jit(loss.value), jax.jit(loss.gradient)
        for y, u, value in zip(targets, slopes, exact, strict=True):
            found = minimize(
                lambda f, y=y, u=u: (
                    float(value_of(y[None], f[None])[0]) - u @ f,
                    np.asarray(gradient_of(y[None], f[None]))[0] - u,
                ),
                np.zeros(3),
                jac=True,
                options={"gtol": 1e-9},
            )
            np.testing.assert_allclose(-found.fun, value, atol=1e-7)


def test_multiclass_hinge_conjugate_is_the_supremum():
    loss = losses.get("multiclass_hinge")
    targets, _, slopes = problem(loss, np.random.default_rng(2), samples=4)
    with jax.enable_x64(True):
        exact = np.asarray(loss.conjugate(targets, slopes))
    for y, u, value in zip(targets, slopes, exact, strict=True):
        # max <u + y, f> - t subject to f_k + 1 - y_k <= t.
        found = linprog(
            np.append(-(u + y), 1.0),
            A_ub=np.hstack([np.eye(3), -np.ones((3, 1))]),
            b_ub=y - 1.0,
            bounds=[(None, None)] * 4,
        )
        np.testing.assert_allclose(-found.fun, value, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "target", "slope"),
    [
        ("logistic", 2.0, 0.1),
        ("logistic", 2.0, -2.1),
        ("hinge", -1.0, -0.1),
        ("hinge", -1.0, 1.1),
        ("smoothed_hinge", 1.0, 0.1),
        ("squared_hinge", 1.0, 0.1),
        ("huber", 0.3, 1.2),
        ("epsilon_insensitive", 0.3, -1.2),
        ("logistic", 0.0, 0.1),
        ("hinge", 0.0, -0.1),
    ],
)
def test_outside_the_domain_the_supremum_is_infinite(name, target, slope):
    loss = losses.get(name)
    y, u = np.array([target]), np.array([slope])
    with jax.enable_x64(True):
        assert np.isposinf(loss.conjugate(y, u)[0])
        far = np.array([-1e6, 1e6])
        values = slope * far - np.asarray(loss.value(np.full(2, target), far))
    assert values.max() > 1e4


@pytest.mark.parametrize("name", ["hinge", "multiclass_hinge"])
def test_soft_hinge_has_the_surrogate_for_its_gradient(name):
    """And lies above the hinge by no more than the logarithm of the pieces."""
    hinge, soft = losses.get(name), losses.get("soft_" + name)
    targets, predictions, _ = problem(hinge, np.random.default_rng(7), samples=40)
    with jax.enable_x64(True):
        surrogate = np.asarray(hinge.surrogate(targets, predictions))
        np.testing.assert_allclose(-soft.gradient(targets, predictions), surrogate)
        soft_value, value = (each.value(targets, predictions) for each in (soft, hinge))
        above = np.asarray(soft_value) - np.asarray(value)
    # Margin losses are summed over the three outputs.
    most = 3 * np.log(2) if hinge.kind == "margin" else np.log(3)
    assert (above > 0).all() and (above <= most + 1e-12).all()


@pytest.mark.parametrize("name", MULTICLASS)
def test_multiclass_slopes_off_the_simplex_are_outside(name):
    loss = losses.get(name)
    targets = jnp.asarray(np.eye(3), jnp.float32)
    assert np.isposinf(loss.conjugate(targets, targets + 0.1)).all()
    assert np.isposinf(loss.conjugate(targets, jnp.ones((3, 3)))).all()


@pytest.mark.parametrize(
    "name", ["logistic", "hinge", "smoothed_hinge", "squared_hinge"]
)
def test_label_zero_makes_the_loss_constant(name):
    loss = losses.get(name)
    zero = jnp.zeros(1)
    value = loss.value(zero, jnp.array([5.0]))
    np.testing.assert_allclose(loss.conjugate(zero, zero), -value, rtol=1e-6)
    np.testing.assert_array_equal(loss.feasible(zero, jnp.array([3.0])), 0.0)
    # The limit of small labels is the same number.
    tiny = jnp.array([1e-6])
    slope = loss.gradient(tiny, jnp.array([5.0]))
    np.testing.assert_allclose(loss.conjugate(tiny, slope), -value, rtol=1e-4)


@functools.cache
def fenchel_young(name):
    """Jitted slack, relative to the size of its terms, at two pairs of slopes."""
    loss = losses.get(name)

    @jax.jit
    def slack(targets, predictions, slopes):
        def one(u):
            inner = jnp.sum(u * predictions, axis=1)
            value = loss.value(targets, predictions)
            conjugate = loss.conjugate(targets, u)
            size = 1.0 + jnp.abs(value) + jnp.abs(conjugate) + jnp.abs(inner)
            return (value + conjugate - inner) / size

        own = loss.gradient(targets, predictions)
        smooth = -loss.surrogate(targets, predictions)
        return one(loss.feasible(targets, slopes)), one(own), one(smooth)

    return slack


# In float32 the projections onto the simplex are what rounding could break.
@pytest.mark.parametrize(
    ("name", "x64"),
    [
        *((name, True) for name in losses.LOSSES),
        *((name, False) for name in ("logistic", *MULTICLASS)),
    ],
)
@hypothesis.given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 30.0]))
@hypothesis.settings(max_examples=8, deadline=None)
def test_fenchel_young(name, x64, seed, scale):
    loss, rng = losses.get(name), np.random.default_rng(seed)
    targets, predictions, slopes = problem(loss, rng)
    with jax.enable_x64(x64):
        kind = jnp.float64 if x64 else jnp.float32
        given = targets, scale * predictions, scale * slopes
        arrays = (jnp.asarray(each, kind) for each in given)
        feasible, own, smooth = fenchel_young(name)(*arrays)
        tolerance = 1e-12 if x64 else 1e-5
        assert np.all(feasible >= -tolerance) and np.all(np.isfinite(feasible))
        np.testing.assert_allclose(own, 0.0, atol=tolerance)
        assert np.all(smooth >= -tolerance) and np.all(np.isfinite(smooth))
        if loss.smooth:
            np.testing.assert_allclose(smooth, 0.0, atol=tolerance)


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_gradient_is_the_derivative(name, settings):
    loss = losses.get(name, **settings)
    targets, predictions, _ = problem(loss, np.random.default_rng(3))
    with jax.enable_x64(True):

        @jax.jit
        def gradients(f):
            slopes = jax.grad(lambda f: loss.value(targets, f).sum())(f)
            return slopes, loss.gradient(targets, f), loss.surrogate(targets, f)

        found, gradient, surrogate = gradients(predictions)
        np.testing.assert_allclose(found, gradient, atol=1e-12)
        if loss.smooth:
            np.testing.assert_array_equal(surrogate, -gradient)


def test_hinge_surrogate_is_the_sigmoid_of_the_paper():
    y, f = jnp.array([1.0, -1.0, 0.5]), jnp.array([0.2, 3.0, -1.0])
    np.testing.assert_allclose(
        losses.get("hinge").surrogate(y, f), y * jax.nn.sigmoid(1.0 - y * f), rtol=1e-6
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_feasible_is_a_projection(name):
    loss, rng = losses.get(name), np.random.default_rng(4)
    targets, _, inside = problem(loss, rng, samples=20)
    with jax.enable_x64(True):
        wild = 3.0 * rng.normal(size=targets.shape)

        @jax.jit
        def project(slopes):
            projected = loss.feasible(targets, slopes)
            return projected, loss.conjugate(targets, projected)

        projected, conjugate = map(np.asarray, project(wild))
        assert np.isfinite(conjugate).all()
        np.testing.assert_allclose(project(projected)[0], projected, atol=1e-12)
        # Obtuse angle between what was cut off and any way back into the domain.
        cut = np.sum((wild - projected) * (inside - projected), axis=1)
        assert cut.max() <= 1e-9


def test_narrow_smoothing_tends_to_the_hinge():
    y = jnp.ones(50)
    f = jnp.linspace(-2.0, 3.0, 50)
    narrow = losses.get("smoothed_hinge", gamma=1e-3).value(y, f)
    np.testing.assert_allclose(narrow, losses.get("hinge").value(y, f), atol=1e-3)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_extreme_predictions_stay_finite(name):
    """Value, slack and its gradients, in float32, at saturation."""
    loss = losses.get(name)
    predictions = jnp.array([[1e4, -1e4], [0.0, 0.0], [-300.0, 200.0], [88.0, -88.0]])
    targets = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    if loss.kind == "margin":
        targets = 2.0 * targets - 1.0

    def slack(targets, predictions):
        duals = loss.surrogate(targets, predictions)
        inner = jnp.sum(duals * predictions, axis=1)
        return jnp.sum(
            loss.value(targets, predictions) + loss.conjugate(targets, -duals) + inner
        )

    chex.assert_tree_all_finite(
        jax.jit(jax.value_and_grad(slack, (0, 1)))(targets, predictions)
    )


def test_columns_are_summed_and_one_column_is_a_vector():
    y, f = jnp.array([[1.0, -1.0]]), jnp.array([[0.3, 0.7]])
    for name in ELEMENTWISE:
        loss = losses.get(name)
        parts = [loss.value(y[:, k], f[:, k]) for k in range(2)]
        np.testing.assert_allclose(loss.value(y, f), sum(parts), rtol=1e-6)


def test_get_returns_one_hashable_object_and_compiles_once():
    assert losses.get("huber", delta=0.5) is losses.get("huber", delta=0.5)

    @chex.assert_max_traces(n=1)
    def total(y, f, loss):
        return loss.value(y, f).sum()

    jitted = jax.jit(total, static_argnums=2)
    for _ in range(2):
        jitted(jnp.ones(3), jnp.ones(3), losses.get("logistic"))


@pytest.mark.usefixtures("each_precision")
def test_integer_labels_are_accepted():
    value = losses.hinge().value(np.array([1, -1]), np.array([0.5, 0.5], np.float32))
    np.testing.assert_allclose(value, [0.5, 1.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.get("hinge_loss"),
            "unknown loss 'hinge_loss'; one of logistic",
        ),
        (lambda: losses.get("hinge", gamma=1.0), "takes no 'gamma'; it takes: no set"),
        (lambda: losses.get("huber", gamma=1.0), "takes no 'gamma'; it takes: delta"),
        (lambda: losses.get("smoothed_hinge", gamma=0.0), "gamma > 0, got 0.0"),
        (lambda: losses.get("huber", delta=-1.0), "delta > 0, got -1.0"),
        (lambda: losses.get("epsilon_insensitive", epsilon=-0.1), "got -0.1"),
        (
            lambda: losses.hinge().value(jnp.ones(3), jnp.ones((3, 2))),
            r"\(3,\).*\(3, 2\)",
        ),
        (lambda: losses.softmax().value(jnp.ones(3), jnp.ones(3)), r"\(n, c\)"),
        (lambda: losses.as_loss("hing"), "unknown loss 'hing'; one of logistic"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "targets", "message"),
    [
        ("hinge", np.array([0.0, 1.0, 1.0]), r"'hinge'.* -1 and 1.*got 0, 1;.*2 \* l"),
        ("logistic", np.array([1.0, 2.0]), "got 1, 2;"),
        ("squared_hinge", np.eye(3), "got 0, 1;"),
        ("smoothed_hinge", np.array([True, False]), "got 0, 1;"),
        ("softmax", np.array([0, 2, 1]), r"'softmax'.*shape \(3,\);.*one_hot"),
        ("softmax", 2 * np.eye(3) - 1, "add up to 1.*row 0 .*from -1 to 1 .*sum to -1"),
        ("multiclass_hinge", np.eye(3) / 3, "row 0 .*sum to 0.333"),
        ("huber", np.array([1.0, np.nan]), "'huber' hold 1 values that are not finite"),
        ("hinge", np.array([np.inf, 1.0]), "hold 1 values that are not finite"),
        ("squared", np.array(["a", "b"]), "'squared' are <U1; numbers are needed"),
    ],
)
def test_targets_of_another_loss_are_refused(name, targets, message):
    with pytest.raises(ValueError, match=message) as caught:
        losses.check_targets(losses.get(name), targets)
    assert "\n" not in str(caught.value)


def test_targets_that_fit_pass():
    fitting = {
        "hinge": [np.array([-1, 1]), np.array([0.0, 0.3, -2.0]), jnp.ones((2, 3))],
        "softmax": [np.eye(3, dtype=int), np.full((2, 4), 0.25, np.float32)],
        "squared": [np.arange(3), np.zeros((2, 2))],
    }
    for name, cases in fitting.items():
        for targets in cases:
            losses.check_targets(losses.get(name), targets)
    # What is traced has no values to look at.
    jax.jit(lambda y: losses.check_targets(losses.hinge(), y))(jnp.zeros(3))


def test_a_name_is_as_good_as_the_loss():
    assert losses.as_loss("hinge") is losses.as_loss(losses.hinge()) is losses.hinge()
