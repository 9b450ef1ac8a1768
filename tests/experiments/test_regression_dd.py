"""The convergence experiment runs at toy size, finds known slopes, and is tabulated."""

import jax
import numpy as np
import pytest

from configs.regression_dd import synthetic
from ddjax import data, methods
from experiments import settings
from experiments.regression_dd import convergence, curvature, tables


@pytest.mark.parametrize("arg", [None, "fixed,T=175", "runlocal"])
def test_the_configuration_is_the_reading_of_the_table(arg):
    config = synthetic.get_config(arg)
    settings.resolve(config)
    if arg == "runlocal":
        return
    method = config.method.to_dict()
    reading = convergence.READINGS["fixed" if arg else "scheduled"]
    expected = {**convergence.COMMON, **reading.change}
    expected["inner_steps"] = 175 if arg else 100
    assert method.pop("name") == "regression"
    assert {k: v for k, v in method.items() if v is not None} == expected


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
    (row,) = convergence.measure("scheduled", seeds=[0], outer=25, counts=[4])
    assert len(row["outer_curve"]["test_loss"]) == 25
    assert np.isfinite(row["outer_curve"]["test_loss"]).all()
    assert len(row["inner_curves"]) == len(convergence.SHOWN)
    assert row["inner_curves"]["0"]["inner_step"] == [0, 1, 2, 3, 4]
    path = tmp_path / "figures" / "figure.png"
    convergence.plot([row], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_theory_s_numbers_hang_together():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    problem = data.from_arrays((x, (x @ np.ones((3, 1))).astype(np.float32)))
    method = methods.regression(count=3, inner_steps=5, draws=2)
    prepared = method.prepare(jax.random.key(0), problem)
    near = curvature.near(
        method.init(jax.random.key(1), problem, prepared),
        prepared.error,
        inner_steps=5,
        inner_ridge=1e-3,
        outer_ridge=1e-3,
        alpha=1e-3,
        draws=2,
        stretch=20,
        refinements=60,
        products=8,
    )
    assert near["optimum"] < near["loss_at_end"]
    assert near["smallest_at_end"] < near["largest_at_optimum"]
    assert 0 < near["constant"] <= near["lipschitz"]
    # A step below 1 / L: the loss falls as fast as is promised.
    assert near["alpha_times_lipschitz"] < 1
    assert near["rates"].holds


def record(name, results):
    return {
        "name": name,
        "config": {"seeds": [0, 1]},
        "seed": None,
        "scale": "tiny",
        "reduced": None,
        "hardware": {"processor": "P", "cores": 2, "devices": ["cpu"]},
        "wall_seconds": 60.0,
        "results": results,
    }


def reading(says, *slopes):
    runs = [
        {
            "slope": slope,
            "r_squared": 0.99,
            "mu": -400 * slope,
            "window": (0, 100),
            "middle_slope": slope,
        }
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
