import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC, LinearSVR

from ddjax.kernels import duality, losses
from ddjax.solvers import _linear, erm
from ddjax.solvers._features import Features

NAMES = list(losses.LOSSES)


def problem(loss, samples, size, columns=3, seed=0):
    """ReLU-like features as float32, targets of the loss's kind."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(samples, size)), 0.0) / math.sqrt(size)
    scores = features @ rng.normal(size=(size, columns)) * 3.0
    scores += rng.normal(size=scores.shape)
    if loss.kind == "regression":
        targets = scores
    else:
        targets = np.eye(columns)[scores.argmax(axis=1)]
        targets = targets if loss.kind == "multiclass" else 2.0 * targets - 1.0
    return features.astype(np.float32), targets.astype(np.float32)


def gram_of(features):
    return features.astype(np.float64) @ features.T.astype(np.float64)


def honest(solution, features, targets, loss, ridge):
    """The gap that the duality module finds for what the solver returned."""
    with jax.enable_x64(True):
        found = gap_of(
            solution.weights,
            np.asarray(features, np.float64),
            np.asarray(targets, np.float64),
            solution.duals,
            np.float64(ridge),
            loss=loss,
        )
        return float(found)


def assert_honest(solution, *problem, rtol=1e-6, atol=0.0, **settings):
    """The gap is what the solver says that it is."""
    found = honest(solution, *problem, **settings)
    np.testing.assert_allclose(found, solution.gap, rtol=rtol, atol=atol)


@functools.partial(jax.jit, static_argnames="loss")
def gap_of(weights, features, targets, duals, ridge, *, loss):
    return duality.gap(weights, features, targets, duals=duals, ridge=ridge, loss=loss)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("samples", "size"), [(12, 40), (12, 5)])
def test_every_loss_converges_and_reports_its_gap(name, samples, size):
    loss = losses.get(name)
    features, targets = problem(loss, samples, size)
    for ridge in (1e-6 * samples, 1.0):
        settings = {"loss": loss, "ridge": ridge}
        solution = erm.solve(features, targets, **settings)
        assert solution.converged
        assert 0.0 <= solution.gap <= 1e-6 * solution.primal
        found = honest(solution, features, targets, **settings)
        assert found <= 1.1 * solution.gap + 1e-10 * solution.primal
        by_kernel = erm.solve_kernel(gram_of(features), targets, **settings)
        np.testing.assert_allclose(by_kernel.primal, solution.primal, rtol=2e-6)
        np.testing.assert_allclose(
            by_kernel.squared_norm, np.sum(solution.weights**2), rtol=1e-2
        )


@pytest.mark.parametrize("name", ["logistic", "softmax", "squared_hinge", "hinge"])
def test_weakly_regularised_distilled_sets(name):
    """The regime of a distilled set: lambda = 1e-6 m, p >> m, to 1e-8."""
    loss = losses.get(name)
    features, targets = problem(loss, 60, 500, columns=3, seed=1)
    solution = erm.solve(features, targets, loss=loss, ridge=60e-6, tolerance=1e-8)
    assert solution.converged and solution.gap <= 1e-8 * solution.primal
    assert honest(solution, features, targets, loss, 60e-6) <= 2e-8 * solution.primal


# --- against other people's solvers ----------------------------------------------


def binary(samples=80, size=6, seed=2):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples, size))
    labels = np.sign(features @ rng.normal(size=size) + rng.normal(size=samples))
    return features, labels


C, NO_INTERCEPT = 1 / 0.3, {"fit_intercept": False}
DUAL = {"tol": 1e-9, "max_iter": 10**6, "random_state": 0} | NO_INTERCEPT


@pytest.mark.parametrize(
    ("theirs", "loss", "columns"),
    [
        (LogisticRegression(C=C, tol=1e-10, **NO_INTERCEPT), losses.logistic(), 1),
        (
            LogisticRegression(C=C, tol=1e-10, max_iter=1000, **NO_INTERCEPT),
            losses.softmax(),
            4,
        ),
        (LinearSVC(C=C, loss="hinge", dual=True, **DUAL), losses.hinge(), 1),
        (LinearSVC(C=C, dual=True, **DUAL), losses.squared_hinge(), 1),
        (
            LinearSVR(C=C, epsilon=0.2, **DUAL),
            losses.epsilon_insensitive(epsilon=0.2),
            1,
        ),
        (Ridge(alpha=0.3, **NO_INTERCEPT), losses.squared(), 2),
    ],
)
def test_agrees_with_scikit_learn(theirs, loss, columns):
    features, labels = binary()
    ours, draw = labels, np.random.default_rng(3)
    if loss.kind == "multiclass":
        labels = draw.integers(0, columns, len(features))
        ours = np.eye(columns)[labels]
    elif loss.kind == "regression":
        labels = features @ np.arange(6.0 * columns).reshape(6, columns)
        labels = np.squeeze(labels + draw.normal(size=labels.shape))
        ours = labels
    theirs.fit(features, labels)
    found = erm.solve(features, ours, loss=loss, ridge=0.3, tolerance=1e-11)
    # Coordinate descent ends before its last digits; the others are as exact as ours.
    atol = 1e-5 if isinstance(theirs, LinearSVC | LinearSVR) else 1e-6
    np.testing.assert_allclose(
        found.weights.T, np.squeeze(theirs.coef_), rtol=1e-6, atol=atol
    )


@pytest.mark.parametrize("name", ["smoothed_hinge", "huber", "multiclass_hinge"])
def test_no_other_weights_are_better(name):
    """No public solver at hand: the certificate itself, against random descent."""
    loss = losses.get(name)
    features, targets = problem(loss, 40, 12)
    solution = erm.solve(features, targets, loss=loss, ridge=0.1, tolerance=1e-9)
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        arrays = np.asarray(features, np.float64), np.asarray(targets, np.float64)
        objective = jax.jit(lambda w: duality.primal(w, *arrays, loss=loss, ridge=0.1))
        best = float(objective(solution.weights))
        for scale in (1e-4, 1e-2, 1.0):
            moved = solution.weights + scale * rng.normal(size=solution.weights.shape)
            assert float(objective(moved)) > best


# --- many samples ----------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch):
    """Sends small problems through the paths for many samples."""
    monkeypatch.setattr(erm, "_MOST_SAMPLES", 50)
    monkeypatch.setattr(erm, "_MOST_SAMPLES_MULTICLASS", 50)


@pytest.mark.parametrize("name", ["logistic", "squared_hinge", "huber", "softmax"])
def test_many_samples_smooth(name, small_limits):
    loss = losses.get(name)
    features, targets = problem(loss, 150, 30, seed=7)
    settings = {"loss": loss, "ridge": 0.02}
    solution = erm.solve(jnp.asarray(features), jnp.asarray(targets), **settings)
    assert solution.converged and solution.gap <= 1e-6 * solution.primal
    assert_honest(solution, features, targets, **settings, rtol=1e-3, atol=1e-12)


def test_many_samples_support_vectors(small_limits, monkeypatch):
    monkeypatch.setattr("ddjax.solvers._working_set._FIRST_SUBSET", 20)
    features, targets = problem(losses.hinge(), 300, 8, columns=1, seed=8)
    targets = np.sign(features[:, 0] - features[:, 1] + 0.02).astype(np.float32)
    settings = {"loss": losses.hinge(), "ridge": 0.01}
    solution = erm.solve(features, targets, **settings)
    assert solution.converged and solution.weights.shape == (8,)
    assert honest(solution, features, targets, **settings) <= 1e-6 * solution.primal
    # Most samples do not matter, and their duals are exactly zero.
    assert np.mean(solution.duals == 0.0) > 0.5


@pytest.mark.parametrize("name", ["hinge", "epsilon_insensitive", "multiclass_hinge"])
def test_too_many_support_vectors_still_give_a_valid_gap(
    name, small_limits, monkeypatch
):
    monkeypatch.setattr(erm, "_MOST_SUPPORT_VECTORS", 20)
    monkeypatch.setattr("ddjax.solvers._working_set._FIRST_SUBSET", 20)
    loss = losses.get(name)
    features, targets = problem(loss, 120, 10, seed=9)
    settings = {"loss": loss, "ridge": 1.0}
    solution = erm.solve(features, targets, tolerance=1e-2, **settings)
    monkeypatch.undo()
    exact = erm.solve(features, targets, **settings)
    off = solution.primal - exact.primal
    assert -1e-6 * exact.primal <= off <= solution.gap
    assert solution.converged == (solution.gap <= 1e-2 * solution.primal)
    assert_honest(solution, features, targets, **settings)


def test_many_samples_by_kernel(small_limits):
    loss = losses.logistic()
    features, targets = problem(loss, 80, 200, columns=1, seed=10)
    targets = targets[:, 0] * np.sign(np.arange(80) % 2 - 0.5)
    gram, settings = gram_of(features), {"loss": loss, "ridge": 0.01}
    solution = erm.solve_kernel(gram, targets, **settings)
    assert solution.converged
    predictions = gram @ solution.coefficients
    with jax.enable_x64(True):
        known = predictions, solution.squared_norm, gram, targets.astype(np.float64)
        found = duality.kernel_gap(*known, duals=solution.duals, **settings)
        np.testing.assert_allclose(float(found), solution.gap, rtol=1e-2, atol=1e-9)


def singular_grams(count):
    """Grams of no, one or hardly any dimension."""
    first = np.zeros((count, count))
    first[0, 0] = 1.0
    return {
        "zero": np.zeros((count, count)),
        "nearly zero": 1e-300 * np.eye(count),
        "smallest number": np.full((count, count), 5e-324),
        "constant": np.ones((count, count)),
        "small constant": np.full((count, count), 1e-12),
        "one sample": first,
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "case"),
    [(name, "zero") for name in ("softmax", "multiclass_hinge", "huber")]
    + [(n, c) for n in ("logistic", "hinge") for c in singular_grams(1)],
)
def test_many_samples_by_a_singular_kernel(name, case, small_limits):
    """A zero Gram has no jitter that is a share of its trace: this once never ended."""
    loss = losses.get(name)
    gram, (_, targets) = singular_grams(52)[case], problem(loss, 52, 3, seed=14)
    solution = erm.solve_kernel(gram, targets, loss=loss, ridge=1e-3)
    assert solution.converged and np.isfinite(solution.coefficients).all()
    at_zero = erm.solve(
        np.zeros((52, 1)), targets.astype(np.float64), loss=loss, ridge=1e-3
    )
    if case in ("zero", "nearly zero", "smallest number"):
        np.testing.assert_allclose(solution.primal, at_zero.primal, rtol=1e-6)
    else:
        assert solution.primal <= at_zero.primal * (1.0 + 1e-6)


@pytest.mark.timeout(60)
def test_kernels_that_are_none_are_refused(small_limits):
    targets = np.where(np.arange(60) % 3 > 0, 1.0, -1.0)
    settings = {"loss": losses.logistic(), "ridge": 0.01}
    with pytest.raises(ValueError, match="it has -1 on its diagonal"):
        erm.solve_kernel(-np.eye(60), targets, **settings)
    indefinite = np.kron(np.eye(30), np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="not positive semi-definite, and by more"):
        erm.solve_kernel(indefinite, targets, **settings)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.timeout(60)
def test_a_ridge_that_overflows_is_refused():
    with pytest.raises(ValueError, match="the ridge is too small"):
        erm.solve_kernel(
            1e200 * np.eye(4), np.ones(4), loss=losses.squared(), ridge=1e-200
        )


def test_unfinished_work_says_so(small_limits):
    loss = losses.logistic()
    features, targets = problem(loss, 150, 30, seed=12)
    settings = {"loss": loss, "ridge": 1e-4}
    solution = erm.solve(features, targets, max_iterations=2, **settings)
    assert not solution.converged and solution.iterations == 2
    assert solution.gap > 1e-6 * solution.primal and solution.tolerance == 1e-6
    assert_honest(solution, features, targets, **settings)


def test_working_sets_take_no_more_iterations_than_allowed(small_limits, monkeypatch):
    monkeypatch.setattr("ddjax.solvers._working_set._FIRST_SUBSET", 20)
    features, targets = problem(losses.hinge(), 120, 8, columns=1, seed=8)
    settings = {"loss": "hinge", "ridge": 0.01}
    found = erm.solve(features, targets[:, 0], **settings)
    assert found.converged and found.iterations > 4
    settings["max_iterations"] = 4
    found = erm.solve(features, targets[:, 0], **settings)
    assert not found.converged and found.iterations == 4
    with pytest.raises(erm.NotConverged, match="max_iterations is 4: allow more"):
        erm.solve(features, targets[:, 0], require_convergence=True, **settings)


@pytest.mark.parametrize("many", [False, True])
def test_unfinished_work_is_refused_on_request(many, request):
    if many:
        request.getfixturevalue("small_limits")
    loss = losses.logistic()
    features, targets = problem(loss, 60, 5, columns=2, seed=12)
    gram = gram_of(features)
    settings = {"loss": loss, "ridge": 1e-2, "max_iterations": 1, "tolerance": 1e-5}
    for solve, data in ((erm.solve, features), (erm.solve_kernel, gram)):
        unfinished = solve(data, targets, **settings)
        told = "1 iterations; the tolerance is 1e-05. max_iterations is 1: allow more"
        with pytest.raises(erm.NotConverged, match=told) as no:
            solve(data, targets, require_convergence=True, **settings)
        assert no.value.gap == unfinished.gap and no.value.primal == unfinished.primal
        assert no.value.tolerance == 1e-5 and no.value.iterations == 1
        found = solve(
            data, targets, require_convergence=True, **settings | {"max_iterations": 99}
        )
        assert found.converged and found.tolerance == 1e-5


def test_what_rounding_leaves_open_says_so():
    """A gap far below the rounding of the products."""
    features, labels = binary()
    with pytest.raises(erm.NotConverged, match="rounding keeps the gap from closing"):
        erm.solve(
            features,
            labels,
            loss=losses.logistic(),
            ridge=0.3,
            tolerance=1e-60,
            require_convergence=True,
        )


# --- edges -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "case", ["one", "single class", "zero rows", "all zero", "repeated"]
)
def test_degenerate_problems(name, case):
    loss = losses.get(name)
    features, targets = problem(loss, 12, 5, seed=13)
    if case == "one":
        features, targets = features[:1], targets[:1]
    elif case == "single class":
        targets[:] = targets[0]
    elif case == "zero rows":
        features[::2] = 0.0
    elif case == "all zero":
        features[:] = 0.0
    else:
        features[:], targets[::2] = features[0], targets[0]
    solution = erm.solve(features, targets, loss=loss, ridge=1e-3)
    assert solution.converged
    assert np.isfinite(solution.weights).all() and np.isfinite(solution.duals).all()
    assert bool(solution.weights.any()) == (case != "all zero")


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_features(scale):
    features, labels = binary(20, 4)
    solution = erm.solve(
        scale * features, labels, loss=losses.logistic(), ridge=scale**2
    )
    plain = erm.solve(features, labels, loss=losses.logistic(), ridge=1.0)
    np.testing.assert_allclose(scale * solution.weights, plain.weights, rtol=1e-2)


def test_learned_real_labels_and_the_zero_label():
    features, _ = binary(10, 4)
    labels = np.linspace(-2.0, 2.0, 10)
    labels[3] = 0.0
    solution = erm.solve(features, labels, loss=losses.hinge(), ridge=0.1)
    assert solution.converged and solution.duals[3] == 0.0


def test_one_column_is_a_matrix_and_a_vector_a_vector():
    """By the name of the loss or the loss itself; in float64 on the host."""
    features, labels = (jnp.asarray(x, jnp.float32) for x in binary(10, 4))
    flat = erm.solve(features, labels, loss="hinge", ridge=0.1)
    tall = erm.solve(features, labels[:, None], loss=losses.hinge(), ridge=0.1)
    assert flat.weights.shape == (4,) and flat.duals.shape == (10,)
    assert tall.weights.shape == (4, 1) and tall.duals.shape == (10, 1)
    np.testing.assert_array_equal(flat.weights, tall.weights[:, 0])
    assert type(flat.weights) is np.ndarray
    assert flat.weights.dtype == flat.duals.dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge must be finite and > 0, got 0.0"),
        ({"ridge": math.nan}, "ridge must be finite and > 0, got nan"),
        ({"tolerance": 0.0}, "tolerance must be > 0, got 0.0"),
        ({"features": np.full((10, 4), np.nan)}, "features hold values"),
        ({"targets": np.full(10, np.inf)}, "hold 10 values that are not finite"),
        ({"loss": losses.softmax()}, r"softmax.*\(n, c\).*\(10,\)"),
        ({"loss": "softmx"}, "unknown loss 'softmx'; one of logistic, hinge"),
        ({"targets": np.arange(10.0) % 2}, "'logistic'.*-1 and 1.*got 0, 1;"),
        ({"features": np.zeros((0, 4)), "targets": np.zeros(0)}, "no samples"),
    ],
)
def test_mistakes_are_named(change, message):
    features, labels = binary(10, 4)
    given = {"features": features, "targets": labels, "loss": "logistic", "ridge": 1.0}
    with pytest.raises(ValueError, match=message):
        erm.solve(**given | change)


def test_kernel_mistakes_are_named():
    with pytest.raises(ValueError, match="-1 and 1.*got 0, 1;"):
        erm.solve_kernel(np.eye(2), np.array([0.0, 1.0]), loss="hinge", ridge=1.0)
    with pytest.raises(ValueError, match="gram holds values"):
        erm.solve_kernel(
            np.full((3, 3), np.nan), np.ones(3), loss=losses.hinge(), ridge=1.0
        )


def test_integer_features_are_refused():
    with pytest.raises(ValueError, match="floating-point numbers, got int64"):
        Features(np.ones((3, 2), np.int64))


def test_half_precision_features_are_widened():
    assert Features(np.ones((3, 2), np.float16)).dtype == np.float32


def test_small_matrices_take_one_thread():
    import threadpoolctl

    @_linear.one_thread_if_small
    def threads(gram):
        found = threadpoolctl.threadpool_info()
        return {each["num_threads"] for each in found if each["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert threads(np.eye(3)) == {1}
        assert threads(np.zeros((501, 0))) == {2}
