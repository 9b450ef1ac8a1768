import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import methods
from ddjax.kernels import duality, erm, losses
from ddjax.methods.dgkip import distilled_gap
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded_inputs
from tests.methods.runs import run

SMALL = {
    "kind": "random_features",
    "architecture": {"kind": "fully_connected", "depth": 2, "width": 32},
    "networks": 3,
}
KEYWORDS = {"features": SMALL, "learning_rate": 0.05, "real_ridge": 1e-3}


def solved_distance(method, problem, data, state, loss, ridge_per_sample=1e-6):
    """Distance in weights between the solutions on the samples and on the real data."""
    distilled = method.distilled(state, problem, data)
    feature_map = feature_maps.from_recipe(distilled.provenance["features"])
    params, apply = feature_maps.build(feature_map, problem.train.inputs.shape[1:])
    rows = apply(params, decoded_inputs(distilled))
    ridge = ridge_per_sample * rows.shape[0]
    solution = erm.solve(
        rows, distilled.targets, loss=loss, ridge=ridge, tolerance=1e-9
    )
    return (
        rows,
        distilled.targets,
        np.linalg.norm(
            np.asarray(solution.weights, np.float64)
            - np.asarray(data.weights, np.float64)
        ),
    )


@pytest.mark.parametrize(
    "loss", ["logistic", "hinge", "smoothed_hinge", "squared_hinge", "squared"]
)
def test_binary_step_lowers_the_gap_and_the_bound_holds(binary, loss):
    # Real samples lie beyond the margin, where the squared hinge is flat.
    start = "noise" if loss == "squared_hinge" else "real"
    method = methods.dgkip(
        loss=loss,
        per_class=2,
        distilled_ridge=1e-4,
        initialization=start,
        decay_steps=60,
        **{**KEYWORDS, "learning_rate": 2e-3 if loss == "squared" else 2e-2},
    )
    data, _, state, metrics = run(method, binary, steps=60)
    assert metrics["gap"][-1] < 0.5 * metrics["gap"][0]
    assert state.learned["targets"].shape == (4,)
    rows, targets, distance = solved_distance(
        method, binary, data, state, losses.get(loss), 1e-4
    )
    ridge = 1e-4 * 4
    gap = duality.gap(data.weights, rows, targets, loss=losses.get(loss), ridge=ridge)
    assert distance <= np.sqrt(2 * float(gap) / ridge) * (1 + 1e-3)


@pytest.mark.parametrize("loss", ["softmax", "multiclass_hinge", "logistic", "squared"])
def test_several_classes(three_classes, loss):
    method = methods.dgkip(loss=loss, per_class=1, distilled_ridge=1e-4, **KEYWORDS)
    _, start, state, metrics = run(method, three_classes, steps=60)
    assert metrics["gap"][-1] < metrics["gap"][0]
    targets = np.asarray(state.learned["targets"])
    assert targets.shape == (3, 3)
    if losses.get(loss).kind == "multiclass":
        np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-5)
        assert (targets >= 0).all()
    distilled = method.distilled(state, three_classes, _dummy(method, three_classes))
    kind = "probabilities" if losses.get(loss).kind == "multiclass" else "scores"
    assert distilled.targets_kind == kind


@pytest.mark.parametrize("loss", ["logistic", "hinge", "softmax", "multiclass_hinge"])
def test_learned_duals_lower_the_gap_and_the_bound_holds(binary, loss):
    """The reported gap is that of the loss itself, and a bound on its own solution."""
    method = methods.dgkip(
        loss=loss,
        per_class=2,
        distilled_ridge=1e-4,
        duals="learned",
        decay_steps=60,
        **{**KEYWORDS, "learning_rate": 2e-2},
    )
    data, _, state, metrics = run(method, binary, steps=60)
    assert metrics["loss"][-1] < metrics["loss"][0] - 1.0
    _, _, distance = solved_distance(
        method, binary, data, state, losses.get(loss), 1e-4
    )
    last = method.step(state, data, jax.random.key(0))[1]["gap"]
    assert distance <= np.sqrt(2 * float(last) / (1e-4 * 4)) * (1 + 1e-3)


def test_learned_duals_leave_the_trap(binary):
    """Beyond the margin the duals of the optimality condition are worth nothing."""
    bounds = {}
    for duals in ("optimality", "learned"):
        method = methods.dgkip(
            per_class=1,
            distilled_ridge=1e-7,
            duals=duals,
            learn_targets=False,
            decay_steps=150,
            **KEYWORDS,
        )
        bounds[duals] = run(method, binary, steps=150)[3]["deviation_bound"][-1]
    assert bounds["learned"] < 0.8 * bounds["optimality"], bounds


def test_learned_duals_are_for_classification():
    with pytest.raises(ValueError, match="'learned' is for classification.*'huber'"):
        methods.dgkip(loss="huber", duals="learned")
    with pytest.raises(ValueError, match="duals must be one of .*'free'"):
        methods.dgkip(duals="free")


def _dummy(method, problem):
    return method.prepare(jax.random.key(1), problem)


def test_gap_is_the_squared_gradient_of_the_distilled_problem(binary):
    """The identity that makes DGKIP gradient matching, by automatic differentiation."""
    method = methods.dgkip(per_class=3, **KEYWORDS)
    data, start, _, _ = run(method, binary, steps=1)
    inputs, targets = start.learned["stored"]["inputs"], start.learned["targets"]
    feature_map = feature_maps.from_settings(jax.random.key(0), SMALL)
    ridge, loss = 1e-2, losses.get("logistic")
    gap = distilled_gap(data, feature_map, inputs, targets, loss=loss, ridge=ridge)
    rows = feature_maps.application(feature_map)(data.params, inputs)
    gradient = jax.grad(duality.primal)(
        data.weights, rows, targets, loss=loss, ridge=ridge
    )
    np.testing.assert_allclose(gap, jnp.sum(gradient**2) / (2 * ridge), rtol=1e-4)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_kernel_form_is_the_feature_form(binary, loss):
    method = methods.dgkip(loss=loss, per_class=3, **KEYWORDS)
    data, start, _, _ = run(method, binary, steps=1)
    learned = start.learned
    feature_map = feature_maps.from_settings(jax.random.key(0), SMALL)
    values = [
        distilled_gap(
            data,
            feature_map,
            learned["stored"]["inputs"],
            learned["targets"],
            loss=losses.get(loss),
            ridge=1e-1,
            in_kernel=in_kernel,
        )
        for in_kernel in (False, True)
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_exact_kernels(binary, kind):
    architecture = {"kind": "fully_connected", "depth": 1, "width": 1}
    small = binary._replace(
        train=binary.train._replace(
            inputs=binary.train.inputs[:60], targets=binary.train.targets[:60]
        )
    )
    method = methods.dgkip(
        features={"kind": kind, "architecture": architecture},
        per_class=1,
        learning_rate=0.05,
        real_ridge=1e-2,
        distilled_ridge=1e-2,
    )
    data, _, _, metrics = run(method, small, steps=40)
    assert data.support is not None
    assert metrics["gap"][-1] < metrics["gap"][0]


def test_exact_kernel_agrees_with_many_random_networks(binary):
    """The gap seen through 64 wide networks tends to that of the exact kernel."""
    architecture = {"kind": "fully_connected", "depth": 1, "width": 2048}
    small = binary._replace(
        train=binary.train._replace(
            inputs=binary.train.inputs[:40], targets=binary.train.targets[:40]
        )
    )
    keywords = dict(per_class=2, real_ridge=1e-1, distilled_ridge=1e-1, objective="gap")
    gaps = {}
    for kind in ("random_features", "nngp"):
        settings = {"kind": kind, "architecture": architecture}
        if kind == "random_features":
            settings |= {"networks": 16, "readout": True}
        method = methods.dgkip(features=settings, **keywords)
        gaps[kind] = float(run(method, small, steps=1)[3]["gap"][0])
    assert gaps["random_features"] == pytest.approx(gaps["nngp"], rel=0.05)


def test_objective_gap_is_the_paper_s(binary):
    method = methods.dgkip(objective="gap", per_class=1, **KEYWORDS)
    _, _, _, metrics = run(method, binary, steps=3)
    np.testing.assert_array_equal(metrics["loss"], metrics["gap"])


def test_ridge_falls_from_its_start_to_its_end(binary):
    """With a start ridge the first loss is the gap there, the last that at the end."""
    keywords = {"per_class": 2, "objective": "gap", **KEYWORDS}
    steady = methods.dgkip(distilled_ridge=1e-2, **keywords)
    falling = methods.dgkip(
        distilled_ridge=1e-4, start_ridge=1e-2, anneal_steps=4, **keywords
    )
    first = run(steady, binary, steps=1)[3]["loss"][0]
    metrics = run(falling, binary, steps=6)[3]
    np.testing.assert_allclose(metrics["loss"][0], first, rtol=1e-5)
    assert metrics["loss"][0] != metrics["gap"][0]
    np.testing.assert_allclose(metrics["loss"][4:], metrics["gap"][4:], rtol=1e-5)


def test_fixed_targets_stay(binary):
    method = methods.dgkip(learn_targets=False, per_class=1, **KEYWORDS)
    _, start, state, _ = run(method, binary, steps=5)
    np.testing.assert_array_equal(start.learned["targets"], state.learned["targets"])
    assert not np.array_equal(
        start.learned["stored"]["inputs"], state.learned["stored"]["inputs"]
    )


def test_same_seed_same_run(binary):
    method = methods.dgkip(per_class=1, **KEYWORDS)
    one, two = (run(method, binary, steps=5)[2] for _ in range(2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_remember_saves_the_second_solution(binary):
    shelf = {}

    def remember(name, compute):
        if name not in shelf:
            shelf[name] = compute()
        return shelf[name]

    method = methods.dgkip(per_class=1, **KEYWORDS)
    first = method.prepare(jax.random.key(0), binary, remember)
    assert set(shelf) == {"reference", "real_features"}
    shelf["reference"] = {**shelf["reference"], "gap": np.float32(7.0)}
    second = method.prepare(jax.random.key(0), binary, remember)
    assert float(second.gap) == 7.0
    np.testing.assert_array_equal(first.weights, second.weights)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"objective": "gaps"}, "'gaps'"),
        ({"gap_space": "dual"}, "'dual'"),
        ({"distilled_ridge": 0.0}, "distilled_ridge"),
        ({"real_ridge": float("nan")}, "real_ridge"),
        ({"start_ridge": -1.0}, "start_ridge"),
        ({"loss": "hinged"}, "hinged"),
        ({"optimizer": "adamax"}, "adamax"),
        ({"parameterization": "jpeg"}, "jpeg"),
        ({"learning_rate": -1.0}, "learning rate"),
        ({"features": {"kind": "resnet"}}, "resnet"),
        ({"decay_steps": 0}, "decay_steps"),
    ],
)
def test_refuses(keywords, message):
    with pytest.raises(ValueError, match=message):
        methods.dgkip(**keywords)


def test_needs_labels(binary):
    unlabelled = binary._replace(train=binary.train._replace(targets=None))
    with pytest.raises(ValueError, match="no class labels"):
        methods.dgkip(**KEYWORDS).prepare(jax.random.key(0), unlabelled)


def test_registry():
    assert isinstance(methods.make("selection", how="kmeans"), methods.Method)
    with pytest.raises(ValueError, match="'dgkp'.*dgkip"):
        methods.make("dgkp")
    with pytest.raises(ValueError, match="did you mean 'per_class'"):
        methods.make("dgkip", per_clas=3)
