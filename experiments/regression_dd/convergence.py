r"""How fast the outer loop of distilled regression converges, beside the paper.

  python -m experiments.regression_dd.convergence

repeats the table of section 2.3 and figure 1 of "Toward Dataset Distillation for
Regression Problems": a linear problem with noise (`ddjax.data.linear`), m = 99 samples
from noise, T inner steps from each of Q random initial weights, batches of 32 real rows
and plain gradient descent, for T = 100, 125, 150 and 175; the slope of the logarithm of
the test loss over outer steps, its R², and the mu_T = (1 - e^slope) / alpha that the
paper derives from it. `READINGS` has what the paper leaves open, and how it is read.

The window of the fit, "excluding warmup and cooldown", is the longest in which the
logarithm falls along a line with R² >= 0.99 (`longest_linear_window`); the slope over
the middle of the fall (`decrease_window`), which does not look at the fit, stands
beside it.

  python -m experiments.regression_dd.convergence --readings=all --seeds=0

measures the readings that were searched, `search.json`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jaxtyping import Array

from ddjax import data, methods
from ddjax.data.problem import Problem
from ddjax.kernels import convergence, unrolled
from ddjax.methods import least_squares
from ddjax.methods.base import Method
from ddjax.methods.regression import RealData, State
from ddjax.models import feature_maps
from ddjax.runtime.loop import run_keys
from experiments import records
from experiments.regression_dd import curvature

__all__ = ["ALPHA", "READINGS", "STEPS", "TABLE", "Reading", "main", "method_of", "run"]

ALPHA = 0.0025
# A run is cut into so many parts; the inner loop is looked at after some of them.
PARTS = 25
SHOWN = (0, 1, 5, 25)
STEPS = (100, 125, 150, 175)
TABLE = ("fixed", "scheduled")
COMMON: dict[str, Any] = {
    "count": 99,
    "step_size": 0.05,
    "inner_ridge": 1e-3,
    "outer_ridge": 1e-3,
    "draws": 30,
    "reduction": "sum",
    "batch_size": 32,
    "form": "spectral",
    "initialization": "noise",
    "optimizer": "gradient_descent",
    "learning_rate": ALPHA,
}
_SCHEDULED = {"steps_growth": 300.0, "most_draws": 60}


class Reading(NamedTuple):
    """One way to fill what the paper leaves open.

    Attributes:
      says: in words.
      change: keywords of `methods.regression` that differ from `COMMON`.
      standardize: bring inputs and targets to mean 0 and deviation 1 first.
    """

    says: str
    change: Mapping[str, Any] = {}
    standardize: bool = False


READINGS: dict[str, Reading] = {
    "fixed": Reading("sum over 30 draws, T fixed"),
    "scheduled": Reading("sum over draws, from 30 to 60; T grows by half", _SCHEDULED),
    "growing_steps": Reading(
        "sum over 30 draws; T grows by half", {"steps_growth": 300.0}
    ),
    "scheduled_45": Reading(
        "sum over draws, from 30 to 45; T grows by half",
        {**_SCHEDULED, "most_draws": 45},
    ),
    "scheduled_full_batch": Reading(
        "scheduled, all real rows a step", {**_SCHEDULED, "batch_size": None}
    ),
    "scheduled_mean": Reading(
        "scheduled, mean over draws instead of their sum",
        {**_SCHEDULED, "reduction": "mean"},
    ),
    "scheduled_small_start": Reading(
        "scheduled, initial weights of deviation 0.1",
        {**_SCHEDULED, "weights_scale": 0.1},
    ),
    "scheduled_standardized": Reading(
        "scheduled, data standardised", _SCHEDULED, standardize=True
    ),
    "unhalved": Reading(
        "sum over 30 draws of the squared error without its half; T grows by half",
        {"steps_growth": 300.0, "learning_rate": 2 * ALPHA, "outer_ridge": 5e-4},
    ),
    "unhalved_small_start": Reading(
        "the same, initial weights of deviation 0.1",
        {
            "steps_growth": 300.0,
            "learning_rate": 2 * ALPHA,
            "outer_ridge": 5e-4,
            "weights_scale": 0.1,
        },
    ),
    "learned_step_size": Reading(
        "fixed, eta learned with alpha_eta and kept below its limit",
        {"learn_step_size": True, "step_size_learning_rate": ALPHA / 10},
    ),
    "learned_step_size_slowly": Reading(
        "fixed, eta learned with alpha_eta / 30 (the mean's gradient)",
        {"learn_step_size": True, "step_size_learning_rate": ALPHA / 300},
    ),
}
"""Name -> reading; `TABLE` names those of the README's table."""


Advance = Callable[..., tuple[State, Any]]


class Curves(NamedTuple):
    """One run.

    Attributes:
      test: loss on the test rows at each outer step, mean over draws.
      metrics: of the method, one value a step.
      states: outer step -> state before it.
      seconds: for all of it.
    """

    test: np.ndarray
    metrics: dict[str, np.ndarray]
    states: dict[int, State]
    seconds: float


def method_of(reading: Reading, steps: int) -> Method:
    """The method of a reading with T inner steps."""
    return methods.regression(**{**COMMON, **reading.change, "inner_steps": steps})


def load(seed: int, *, standardize: bool) -> Problem:
    """The problem of a seed, as drawn or standardised."""
    return data.load(
        f"linear:{seed}",
        preprocessing="standardize" if standardize else "none",
        standardize_targets=standardize,
    )


def test_error(problem: Problem) -> least_squares.SquaredError:
    """Half the mean squared error on the test rows."""
    rows = problem._replace(train=problem.test)
    return least_squares.squared_error(
        least_squares.moments(rows, feature_maps.inputs())
    )


def compiled(method: Method, *, outer: int) -> Advance:
    """`(state, data, test, key, start) -> (state, curves)`, a part of `outer` steps.

    Compiled once for a method, whatever the seed.
    """

    @jax.jit
    def advance(state: State, real: RealData, test, key, start: Array):
        def body(state: State, step: Array):
            sample_key, step_key = jax.random.split(jax.random.fold_in(key, step))
            # The same draws of initial weights, judged on the test rows.
            judged = real._replace(real=None, error=test)
            loss = method.step(state, judged, step_key)[1]["real_loss"]
            state, metrics = method.step(
                state, method.sample(sample_key, real), step_key
            )
            return state, (loss, metrics)

        return jax.lax.scan(body, state, start + jnp.arange(outer // PARTS))

    return advance


def run(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    outer: int,
    advance: Advance,
) -> Curves:
    """Distils for `outer` steps, judging every one of them on the test rows.

    Args:
      method: the method.
      problem: the problem.
      seed: of everything random but the problem.
      outer: a multiple of `PARTS`.
      advance: from `compiled`, for the same method and number of steps.
    """
    began, length = time.perf_counter(), outer // PARTS
    keys = run_keys(seed)
    real = method.prepare(keys.prepare, problem, methods.remember_nothing)
    state, parts, test = method.init(keys.init, problem, real), [], test_error(problem)
    kept = {0: state}
    for start in range(0, outer, length):
        state, part = advance(state, real, test, keys.steps, jnp.asarray(start))
        parts.append(jax.device_get(part))
        kept[start + length] = state
    losses, metrics = jax.tree.map(lambda *each: np.concatenate(each), *parts)
    return Curves(losses, metrics, kept, time.perf_counter() - began)


def fits(losses: np.ndarray) -> dict[str, Any]:
    """The slope by both rules; mu_T from the first."""
    window = convergence.longest_linear_window(losses, r_squared=0.99, shortest=100)
    fit = convergence.log_linear_fit(losses, window=window)
    middle = convergence.log_linear_fit(
        losses, window=convergence.decrease_window(losses)
    )
    return {
        "slope": fit.slope,
        "intercept": fit.intercept,
        "r_squared": fit.r_squared,
        "window": window,
        "mu": -float(np.expm1(fit.slope)) / ALPHA,
        "middle_slope": middle.slope,
        "middle_r_squared": middle.r_squared,
    }


def inner_curves(
    state: State, problem: Problem, *, inner_steps: int, seed: int
) -> dict[str, list[float]]:
    """Test loss along the inner loop of one state, mean over draws."""
    learned, test = state.learner.learned, test_error(problem)
    inputs, targets = learned["stored"]["inputs"], learned["targets"]
    starts = jax.random.normal(jax.random.key(seed), (30, inputs.shape[1], 1))
    counts = np.unique(np.linspace(0, inner_steps, 41).astype(np.int32))

    @jax.jit
    def loss(count: Array) -> Array:
        def one(start: Array) -> Array:
            weights = unrolled.iterate(
                inputs,
                targets,
                start,
                step_size=learned["step_size"],
                ridge=COMMON["inner_ridge"],
                steps=count,
            )
            return least_squares.squared_error_at(weights, test)

        return jnp.mean(jax.vmap(one)(starts))

    losses = [float(loss(jnp.asarray(count))) for count in counts]
    return {"inner_step": counts.tolist(), "test_loss": losses}


def measure(
    name: str, *, seeds: Sequence[int], outer: int, counts: Sequence[int]
) -> list[dict[str, Any]]:
    """One row for each T: the fits of every seed, and curves of the first."""
    reading, rows = READINGS[name], []
    for count in counts:
        method = method_of(reading, count)
        advance, runs = compiled(method, outer=outer), []
        row: dict[str, Any] = {"inner_steps": count}
        shown = [outer // PARTS * part for part in SHOWN]
        for seed in seeds:
            problem = load(seed, standardize=reading.standardize)
            curves = run(
                method,
                problem,
                seed=seed,
                outer=outer,
                advance=advance,
            )
            last = {k: float(v[-1]) for k, v in curves.metrics.items()}
            found: dict[str, Any] = {"seed": seed, "seconds": curves.seconds}
            found |= {"last_test_loss": float(curves.test[-1]), "last": last}
            limit = curves.metrics["step_size_limit"]
            found["least_step_size_limit"] = float(limit.min())
            try:
                found |= fits(curves.test)
            except ValueError as error:
                found["no_fit"] = str(error)
            logging.info("%s, T = %d: %s", name, count, found)
            runs.append(found)
            if seed == seeds[0]:
                every = max(1, outer // 250)
                row["outer_curve"] = {
                    "outer_step": list(range(0, outer, every)),
                    "test_loss": [float(f"{v:.4g}") for v in curves.test[::every]],
                }
                row["inner_curves"] = {
                    str(step): inner_curves(
                        curves.states[step],
                        problem,
                        inner_steps=int(
                            curves.metrics["inner_steps"][min(step, outer - 1)]
                        ),
                        seed=seed,
                    )
                    for step in shown
                }
        rows.append({**row, "runs": runs})
    return rows


def theory(*, seed: int, outer: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Theorem 2.9 near the end points of the fixed variant."""
    found = []
    for count in counts:
        method = method_of(READINGS["fixed"], count)
        problem = load(seed, standardize=False)
        advance = compiled(method, outer=outer)
        curves = run(method, problem, seed=seed, outer=outer, advance=advance)
        error = least_squares.squared_error(
            least_squares.moments(problem, feature_maps.inputs())
        )
        found.append(
            curvature.near(
                curves.states[outer],
                error,
                inner_steps=count,
                inner_ridge=COMMON["inner_ridge"],
                outer_ridge=COMMON["outer_ridge"],
                alpha=ALPHA,
                draws=COMMON["draws"],
            )
        )
        logging.info("curvature, T = %d: %s", count, found[-1])
    return found


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Figure 1: test loss along the inner loop (top) and the outer loop (bottom)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        2, len(rows), figsize=(3.1 * len(rows), 5.6), squeeze=False, sharey="row"
    )
    for row, top, bottom in zip(rows, *panels, strict=True):
        colours = plt.get_cmap("viridis")(
            np.linspace(0.0, 0.85, len(row["inner_curves"]))
        )
        for (step, curve), colour in zip(
            row["inner_curves"].items(), colours, strict=True
        ):
            top.semilogy(
                curve["inner_step"],
                curve["test_loss"],
                color=colour,
                label=f"s = {step}",
            )
        top.set_title(f"T = {row['inner_steps']}")
        top.set_xlabel("inner step t")
        curve, fit = row["outer_curve"], row["runs"][0]
        bottom.semilogy(curve["outer_step"], curve["test_loss"], color="0.35", lw=1)
        if "slope" in fit:
            start, stop = fit["window"]
            steps = np.asarray([start, stop])
            line = np.exp(fit["intercept"] + fit["slope"] * steps)
            bottom.semilogy(
                steps,
                line,
                color="tab:red",
                label=f"slope {fit['slope']:.4f}\nR² {fit['r_squared']:.4f}",
            )
            bottom.legend(frameon=False)
        bottom.set_xlabel("outer step s")
    panels[0][0].legend(frameon=False)
    for panel in panels[:, 0]:
        panel.set_ylabel("test loss")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str]) -> None:
    """Measures, draws and writes the records."""
    import threadpoolctl

    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    # The matrices are small: threads would only wait for one another.
    with threadpoolctl.threadpool_limits(limits=1):
        _main()


def _main() -> None:
    began, names = time.perf_counter(), list(_READINGS.value)
    searched = names == ["all"]
    names = list(READINGS) if searched else names
    for name in names:
        if name not in READINGS:
            raise app.UsageError(f"no reading {name!r}; known: {', '.join(READINGS)}")
    seeds, outer = [int(each) for each in _SEEDS.value], _OUTER.value
    if outer < PARTS or outer % PARTS:
        raise app.UsageError(f"--outer_steps is {outer}, no multiple of {PARTS}")
    counts = [int(each) for each in _STEPS.value]
    settings = {"seeds": seeds, "outer_steps": outer, "common": COMMON, "alpha": ALPHA}
    scale = f"m = 99, d = 100, 800 real rows, {outer} outer steps"
    reduced = None if outer >= 2500 else f"{outer} of 2500 outer steps"
    folder = Path(_DIRECTORY.value)
    found = {}
    for name in names:
        rows = measure(name, seeds=seeds, outer=outer, counts=counts)
        found[name] = {**READINGS[name]._asdict(), "rows": rows}
        if name in TABLE and not searched:
            path = folder / "figures" / f"regression_dd_convergence_{name}.png"
            plot(rows, path)
            logging.info("drew %s", path)
    if searched:
        for each in found.values():
            for row in each["rows"]:
                del row["outer_curve"], row["inner_curves"]
    results: dict[str, Any] = {"readings": found}
    if _THEORY.value and not searched:
        results["theory"] = theory(
            seed=seeds[0], outer=outer, counts=(counts[0], counts[-1])
        )
    path = records.write_record(
        "regression_dd/search" if searched else "regression_dd/convergence",
        settings,
        results,
        scale=scale,
        reduced=reduced,
        wall_seconds=time.perf_counter() - began,
        directory=folder,
    )
    logging.info("wrote %s", path)


if __name__ == "__main__":
    _READINGS = flags.DEFINE_list("readings", list(TABLE), "Readings, or all.")
    _SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
    _STEPS = flags.DEFINE_list("inner_steps", [str(n) for n in STEPS], "The T.")
    _OUTER = flags.DEFINE_integer("outer_steps", 2500, "Outer steps of a run.")
    _THEORY = flags.DEFINE_bool("theory", True, "Check theorem 2.9 as well.")
    _DIRECTORY = flags.DEFINE_string("directory", str(records.RESULTS), "Of records.")
    app.run(main)
