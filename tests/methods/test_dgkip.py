import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import methods
from ddjax.data.problem import Split
from ddjax.kernels import duality, losses
from ddjax.methods.distilled_gap import SampleFeatures, gap_of, sample_features
from ddjax.methods.reference import ReferenceSolution
from ddjax.models import feature_maps
from ddjax.solvers import erm
from ddjax.storage.cache import in_memory
from ddjax.synthetic.distilled import decoded
from tests.counting import counting
from tests.methods.runs import distilled, prepared, progress, run

SMALL = {
    "kind": "random_features",
    "architecture": {"kind": "fully_connected", "depth": 2, "width": 32},
    "networks": 3,
}
KEYWORDS = {
    "features": SMALL,
    "descent": {"learning_rate": 0.05},
    "real_ridge": 1e-3,
}


def falling(learning_rate):
    return {"learning_rate": learning_rate, "schedule": "cosine"}


def few(problem, count=60):
    inputs, labels = (each[:count] for each in problem.train[:2])
    return problem._replace(train=Split(inputs, labels))


@pytest.mark.parametrize(
    ("loss", "duals"),
    [
        ("logistic", "optimality"),
        ("hinge", "optimality"),
        ("multiclass_hinge", "learned"),
    ],
)
def test_steps_lower_the_gap_and_the_bound_holds(binary, loss, duals):
    """The reported gap is that of the loss itself, and a bound on its own solution."""
    method = methods.dgkip(
        loss=loss,
        per_class=2,
        distilled_ridge=1e-4,
        duals=duals,
        **{**KEYWORDS, "descent": falling(2e-2)},
    )
    data, _, state, metrics = run(method, binary, steps=60)
    assert metrics["loss"][-1] < metrics["loss"][0] - np.log(2)
    made = distilled(method, binary, data, state)
    feature_map = feature_maps.from_recipe(made.recipe["features"])
    params, apply = feature_maps.build(feature_map, binary.train.inputs.shape[1:])
    inputs, targets = decoded(made)
    solution = erm.solve(
        apply(params, inputs), targets, loss=loss, ridge=4e-4, tolerance=1e-9
    )
    away = np.float64(solution.weights) - np.float64(data.reference.weights)
    last = jax.jit(method.step)(state, data, jax.random.key(0), progress(59, 60))[1]
    bound = np.sqrt(2 * float(last["gap"]) / 4e-4)
    assert np.linalg.norm(away) <= bound * (1 + 1e-3)


@pytest.mark.parametrize("loss", ["softmax", "logistic"])
def test_several_classes(three_classes, loss):
    method = methods.dgkip(loss=loss, per_class=1, distilled_ridge=1e-4, **KEYWORDS)
    data, _, state, metrics = run(method, three_classes, steps=60)
    assert metrics["gap"][-1] < metrics["gap"][0]
    np.testing.assert_allclose(metrics["loss"], np.log(metrics["gap"]), rtol=1e-5)
    targets = np.asarray(state.learned["stored"]["targets"])
    assert targets.shape == (3, 3)
    if losses.get(loss).kind == "multiclass":
        np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-5)
        assert (targets >= 0).all()
    made = distilled(method, three_classes, data, state)
    kind = "probabilities" if losses.get(loss).kind == "multiclass" else "scores"
    assert made.targets_kind == kind
    assert made.recipe["ridge"] == {"strength": 1e-4, "convention": "per_sample"}


def test_learned_duals_leave_the_trap(binary):
    """Beyond the margin the duals of the optimality condition are worth nothing."""
    bounds = {}
    for duals in ("optimality", "learned"):
        method = methods.dgkip(
            per_class=1,
            distilled_ridge=1e-7,
            duals=duals,
            learn_targets=False,
            **{**KEYWORDS, "descent": falling(0.05)},
        )
        bounds[duals] = run(method, binary, steps=150)[3]["deviation_bound"][-1]
    assert bounds["learned"] < 0.8 * bounds["optimality"], bounds


def test_a_gap_of_kernel_values_that_rounds_below_zero_stays_positive():
    raw, kept, settings = [], [], {"loss": "logistic", "ridge": 0.1}
    for seed in range(8):
        rows = np.random.default_rng(seed).normal(size=(5, 3))
        targets = np.array([1.0, -1.0, 1.0, -1.0, 1.0])
        # The set is the real data: nothing but rounding is left of the gap.
        found = erm.solve(rows, targets, **settings, tolerance=1e-12)
        weights = jnp.asarray(found.weights, jnp.float32)
        squared_norm = jnp.sum(weights**2)
        zero, one, true = jnp.zeros(()), jnp.ones(()), jnp.array(True)
        reference = ReferenceSolution(weights, None, squared_norm, zero, one, true, {})
        samples = SampleFeatures(
            None, *(jnp.asarray(rows @ a, jnp.float32) for a in (rows.T, found.weights))
        )
        labels = jnp.asarray(targets, jnp.float32)
        known = samples.predictions, squared_norm, samples.gram, labels
        raw.append(duality.kernel_gap(*known, **settings))
        kept.append(gap_of(reference, samples, labels, **settings))
    assert min(raw) < 0 < min(kept)
    assert np.isfinite(np.log(kept)).all() and max(kept) < 1e-5


def test_gap_is_the_squared_gradient_of_the_distilled_problem(binary):
    """The identity that makes DGKIP gradient matching, by automatic differentiation."""
    method = methods.dgkip(per_class=3, **KEYWORDS)
    data, start = prepared(method, binary)
    inputs, targets = (start.learned["stored"][k] for k in ("inputs", "targets"))
    feature_map = feature_maps.from_settings(jax.random.key(0), SMALL)
    reference = data.reference
    ridge, loss = 1e-2, losses.get("logistic")

    @jax.jit
    def gap_and_gradient(inputs):
        rows = feature_maps.application(feature_map)(reference.params, inputs)
        samples = sample_features(reference, feature_map, inputs)
        gap = gap_of(reference, samples, targets, loss=loss, ridge=ridge)
        return gap, jax.grad(duality.primal)(
            reference.weights, rows, targets, loss=loss, ridge=ridge
        )

    gap, gradient = gap_and_gradient(inputs)
    np.testing.assert_allclose(gap, jnp.sum(gradient**2) / (2 * ridge), rtol=1e-4)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_kernel_form_is_the_feature_form(binary, loss):
    method = methods.dgkip(loss=loss, per_class=3, **KEYWORDS)
    data, start = prepared(method, binary)
    stored = start.learned["stored"]
    feature_map = feature_maps.from_settings(jax.random.key(0), SMALL)
    values = [
        gap_of(
            data.reference,
            sample_features(
                data.reference, feature_map, stored["inputs"], in_kernel=in_kernel
            ),
            stored["targets"],
            loss=losses.get(loss),
            ridge=1e-1,
        )
        for in_kernel in (False, True)
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3)


def test_exact_kernels(binary):
    architecture = {"kind": "fully_connected", "depth": 1, "width": 1}
    small = few(binary)
    method = methods.dgkip(
        features={"kind": "ntk", "architecture": architecture},
        per_class=1,
        descent={"learning_rate": 0.05},
        real_ridge=1e-2,
        distilled_ridge=1e-2,
    )
    data, _, _, metrics = run(method, small, steps=40)
    assert data.reference.support is not None
    assert metrics["gap"][-1] < metrics["gap"][0]


@pytest.mark.slow
def test_exact_kernel_agrees_with_many_random_networks(binary):
    """The gap seen through 64 wide networks tends to that of the exact kernel."""
    architecture = {"kind": "fully_connected", "depth": 1, "width": 2048}
    small = few(binary, 40)
    keywords = dict(per_class=2, real_ridge=1e-1, distilled_ridge=1e-1)
    gaps = {}
    for kind in ("random_features", "nngp"):
        settings = {"kind": kind, "architecture": architecture}
        if kind == "random_features":
            settings |= {"networks": 16, "readout": True}
        method = methods.dgkip(features=settings, **keywords)
        gaps[kind] = float(run(method, small, steps=1)[3]["gap"][0])
    assert gaps["random_features"] == pytest.approx(gaps["nngp"], rel=0.05)


def test_ridge_falls_from_its_start_to_its_end(binary):
    """With a start ridge the first loss is the gap there, the last that at the end."""
    keywords = {"per_class": 2, **KEYWORDS}
    steady = methods.dgkip(distilled_ridge=1e-2, **keywords)
    annealed = methods.dgkip(
        distilled_ridge=1e-4, start_ridge=1e-2, anneal=0.5, **keywords
    )
    assert annealed.follows_length and not steady.follows_length
    first = run(steady, binary, steps=1)[3]["loss"][0]
    metrics = run(annealed, binary, steps=8)[3]
    np.testing.assert_allclose(metrics["loss"][0], first, rtol=1e-5)
    logarithms = np.log(metrics["gap"])
    # With a larger ridge another gap is descended.
    assert (np.abs(metrics["loss"][:4] - logarithms[:4]) > 1e-2).all()
    np.testing.assert_allclose(metrics["loss"][4:], logarithms[4:], rtol=1e-5)


def test_the_second_solution_comes_from_the_cache(binary):
    names, key = [], jax.random.key(0)
    cache = counting(in_memory(), names)
    first, second = (
        methods.dgkip(per_class=m, **KEYWORDS).prepare(key, binary, cache).reference
        for m in (1, 3)
    )
    assert names == ["reference", "real_features", "decoder"]
    np.testing.assert_array_equal(first.weights, second.weights)
    # Another problem, but seen through the same features.
    methods.dgkip(**{**KEYWORDS, "real_ridge": 1e-1}).prepare(key, binary, cache)
    assert names == ["reference", "real_features", "decoder", "reference"]


EXACT = {"kind": "nngp", "architecture": {"kind": "fully_connected", "depth": 1}}


@pytest.mark.parametrize("features", [SMALL, EXACT], ids=["features", "kernel"])
def test_a_reference_that_did_not_converge_says_so(binary, features):
    small = few(binary)
    keywords = {**KEYWORDS, "features": features, "real_ridge": 1e-6}
    early = methods.dgkip(solver_iterations=1, **keywords)
    kept, key = in_memory(), jax.random.key(0)
    for _ in range(2):
        # From the cache as well.
        with pytest.warns(UserWarning, match="did not converge .* gap 0.0001") as said:
            data = early.prepare(key, small, kept)
        assert "after 1 iterations" in str(said[0].message)
        assert not bool(data.reference.converged)
    state = early.init(key, small, data)
    _, metrics = jax.jit(early.step)(state, data, key, progress())
    radius, reference = metrics["reference_radius"], data.reference
    expected = np.sqrt(2 * reference.gap / reference.ridge / reference.squared_norm)
    assert float(radius) == pytest.approx(float(expected), rel=1e-5) and radius > 0.5
    strict = methods.dgkip(solver_iterations=1, require_convergence=True, **keywords)
    with pytest.raises(erm.NotConverged, match="did not converge") as caught:
        strict.prepare(key, small, kept)
    assert caught.value.iterations == 1 and caught.value.tolerance == 1e-4


@pytest.mark.filterwarnings("error")
def test_a_reference_that_converged_says_so(binary):
    method = methods.dgkip(require_convergence=True, **KEYWORDS)
    data, state = prepared(method, binary)
    assert bool(data.reference.converged)
    metrics = jax.jit(method.step)(state, data, jax.random.key(0), progress())[1]
    assert 0 <= float(metrics["reference_radius"]) < 0.1
