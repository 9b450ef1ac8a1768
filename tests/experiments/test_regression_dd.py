"""The convergence experiment runs at toy size, finds known slopes, and is tabulated."""

import chex
import jax
import numpy as np
import pytest

from configs.regression_dd import synthetic as synthetic_config
from ddjax import data, methods, runtime, synthetic
from experiments import settings
from experiments.regression_dd import curvature, tables
from tests.experiments import in_process, made_up

convergence = in_process.load("regression_dd.convergence")


@pytest.mark.parametrize("arg", [None, "fixed,T=175", "runlocal"])
def test_the_configuration_is_the_reading_of_the_table(arg):
    config = synthetic_config.get_config(arg)
    settings.resolve(config)
    if arg == "runlocal":
        return
    method = config.method.to_dict()
    reading = convergence.READINGS["fixed" if arg else "scheduled"]
    expected = {**convergence.COMMON, **reading.change}
    expected["inner_steps"] = 175 if arg else 100
    assert method.pop("name") == "regression"
    assert (
        methods.regression(**method).settings == methods.regression(**expected).settings
    )


def test_known_slopes_are_found():
    noise = 1 + 1e-3 * np.random.default_rng(0).standard_normal(1500)
    curve = (50 * np.exp(-0.006 * np.arange(1500)) + 1e-4) * noise
    found = convergence.fits(curve)
    assert found["slope"] == pytest.approx(-0.006, rel=0.05)
    assert found["mu"] == pytest.approx((1 - np.exp(-0.006)) / 0.0025, rel=0.05)
    assert found["r_squared"] >= 0.99 and found["middle_slope"] < -0.005


def test_the_paper_s_mu_follows_from_its_slopes():
    # To what its digits allow: mu of slope -0.0052 is 2.075, printed 2.087.
    for slope, _, mu in tables.PAPER.values():
        value, spread = (float(part) for part in mu.split(" ± "))
        implied = (1 - np.exp(float(slope.split(" ± ")[0]))) / convergence.ALPHA
        assert implied == pytest.approx(value, abs=0.1 * spread)


def test_runs_leave_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "COMMON", {**convergence.COMMON, "count": 5})
    row = convergence.measure("scheduled", seeds=[0], outer=25, count=4)
    assert len(row["outer_curve"]["test_loss"]) == 25
    assert np.isfinite(row["outer_curve"]["test_loss"]).all()
    assert len(row["inner_curves"]) == len(convergence.SHOWN)
    # The inner loop's end is what the step is judged by, but for the draws.
    (at_start,) = row["inner_curves"]["0"]["test_loss"][-1:]
    assert at_start == pytest.approx(row["outer_curve"]["test_loss"][0], rel=0.2)
    assert row["inner_curves"]["0"]["inner_step"] == [0, 1, 2, 3, 4]
    path = tmp_path / "figures" / "figure.png"
    convergence.plot([row], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_judging_changes_nothing_else(monkeypatch):
    monkeypatch.setattr(convergence, "COMMON", {**convergence.COMMON, "count": 5})
    method = convergence.method_of(convergence.READINGS["scheduled"], 4)
    problem = convergence.load(0, standardize=False)
    plain = runtime.train(method, problem, steps=3, log_every=1, verbose=False)
    judged = convergence.run(method, problem, seed=0, outer=3)
    found = [row.pop("test_loss") for row in judged.history]
    assert len(found) == 3 and np.isfinite(found).all()
    for row, other in zip(plain.history, judged.history, strict=True):
        # Two programs: the same numbers up to rounding.
        assert row | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, rel=1e-5)
    sets = plain.distilled.stored, judged.distilled.stored
    chex.assert_trees_all_close(*sets, rtol=1e-4, atol=1e-6)
    # They are different runs all the same: what they prepare is not the same.
    assert convergence.judged(method).settings != method.settings


def test_the_inner_loop_ends_where_gradient_descent_does():
    problem = convergence.load(0, standardize=False)
    method = methods.regression(
        count=5, inner_steps=4, draws=2, step_size=0.05, inner_ridge=0.01
    )
    distilled = runtime.train(method, problem, steps=0, verbose=False).distilled
    key = jax.random.key(3)
    found = convergence.inner_loop(points=3, draws=6).evaluate(
        key, distilled, problem, "validation"
    )
    assert list(found) == ["inner_loop/0", "inner_loop/2", "inner_loop/4"]
    x, y = (np.asarray(each, np.float64) for each in synthetic.decoded(distilled))
    starts = np.asarray(jax.random.normal(key, (6, x.shape[1], 1)), np.float64)
    for steps in (0, 2, 4):
        errors = []
        for weights in starts:
            for _ in range(steps):
                slope = x.T @ (x @ weights - y) / 5 + 0.01 * weights
                weights = weights - 0.05 * slope
            away = np.asarray(problem.validation.inputs) @ weights
            away = away - np.asarray(problem.validation.targets)
            errors.append(0.5 * np.square(away).sum() / len(away))
        score = found[f"inner_loop/{steps}"]
        assert score.mean == pytest.approx(np.mean(errors), rel=1e-4)
        assert score.draws == 6


def test_the_theory_s_numbers_hang_together():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    problem = data.from_arrays((x, (x @ np.ones((3, 1))).astype(np.float32)))
    method = methods.regression(count=3, inner_steps=5, draws=2)
    near = curvature.near(
        runtime.train(method, problem, steps=0, verbose=False).distilled,
        convergence.squared_error(problem),
        outer_ridge=1e-3,
        alpha=1e-3,
        draws=2,
        stretch=20,
        refinements=60,
    )
    assert near["optimum"] < near["loss_at_end"]
    assert near["smallest_at_end"] < near["largest_at_optimum"]
    assert 0 < near["constant"] <= near["lipschitz"]
    # A step below 1 / L: the loss falls as fast as is promised.
    assert near["alpha_times_lipschitz"] < 1
    assert near["rates"].holds


def record(name, results):
    return made_up.record(name, results, config={"seeds": [0, 1]}, seed=None)


def reading(says, *slopes):
    fit = {"r_squared": 0.99, "window": (0, 100)}
    runs = [
        {**fit, "slope": slope, "mu": -400 * slope, "middle_slope": slope}
        for slope in slopes
    ]
    return {"says": says, "rows": [{"inner_steps": 100, "runs": runs}]}


def test_tables():
    found = {"scheduled": reading("a", -0.005, -0.006), "fixed": reading("b", -0.002)}
    text = tables.convergence(
        [record("regression_dd/convergence", {"readings": found})]
    )
    assert "| slope, scheduled | -0.0055 ± 0.0007 |" in text
    assert "| slope, paper | -0.0052 ± 0.0005 |" in text
    assert "| mu_T, fixed | 0.800 |" in text
    failed = {"says": "c", "rows": [{"inner_steps": 100, "runs": [{"no_fit": "none"}]}]}
    tried = {**found, "odd": failed}
    text = tables.readings([record("regression_dd/search", {"readings": tried})])
    assert "| `odd`: c | no line |" in text
