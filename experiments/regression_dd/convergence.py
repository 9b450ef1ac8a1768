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

Writes `experiments/results/regression_dd/convergence.json` and two figures in an hour
on two cores, the search in half an hour. What is on record is not measured again
(`--again` does); no data are needed.
"""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging
from jaxtyping import Array, Float, Int

from ddjax import data, methods, runtime
from ddjax.command.ending import ConfigError
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, score
from ddjax.methods import least_squares
from ddjax.methods.base import Method, Progress
from ddjax.methods.least_squares import SquaredError
from ddjax.methods.regression import RegressionData, RegressionState
from ddjax.models import feature_maps
from ddjax.runtime import TrainResult
from ddjax.solvers import convergence
from ddjax.synthetic.distilled import DistilledSet, decoded
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.regression_dd import curvature
from experiments.tables import Record

__all__ = [
    "ALPHA",
    "READINGS",
    "STEPS",
    "TABLE",
    "JudgedData",
    "Reading",
    "inner_loop",
    "judged",
    "main",
    "method_of",
    "run",
    "squared_error",
    "test_error",
]

ALPHA = 0.0025
# A run is cut into so many parts; the inner loop is looked at after some of them.
PARTS = 25
SHOWN = (0, 1, 5, 25)
STEPS = (100, 125, 150, 175)
# What a record says about a run's last step.
_LAST = (
    *("loss", "real_loss"),
    *("step_size", "step_size_limit", "inner_steps", "draws"),
)
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
    "descent": {"optimizer": "sgd", "learning_rate": ALPHA},
}
# The paper's 300 of 2500 outer steps.
_GROWING = {"steps_growth": 0.12}
_SCHEDULED = {**_GROWING, "most_draws": 60}
_UNHALVED = {
    **_GROWING,
    "descent": {**COMMON["descent"], "learning_rate": 2 * ALPHA},
    "outer_ridge": 5e-4,
}


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


def _learned_step_size(rate: float) -> dict[str, Any]:
    descent = {**COMMON["descent"], "rates": {"step_size": rate}}
    return {"learn_step_size": True, "descent": descent}


READINGS: dict[str, Reading] = {
    "fixed": Reading("sum over 30 draws, T fixed"),
    "scheduled": Reading("sum over draws, from 30 to 60; T grows by half", _SCHEDULED),
    "growing_steps": Reading("sum over 30 draws; T grows by half", _GROWING),
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
        _UNHALVED,
    ),
    "unhalved_small_start": Reading(
        "the same, initial weights of deviation 0.1",
        {**_UNHALVED, "weights_scale": 0.1},
    ),
    "learned_step_size": Reading(
        "fixed, eta learned with alpha_eta and kept below its limit",
        _learned_step_size(ALPHA / 10),
    ),
    "learned_step_size_slowly": Reading(
        "fixed, eta learned with alpha_eta / 30 (the mean's gradient)",
        _learned_step_size(ALPHA / 300),
    ),
}
"""Name -> reading; `TABLE` names those of the page's table."""


_READINGS = commands.define_choices(
    "readings", TABLE, "Readings, or all.", choices=("all", *READINGS)
)
_SEEDS = commands.define_seeds((0, 1, 2, 3, 4))
_STEPS = commands.define_integers("inner_steps", STEPS, "The T.")
_OUTER = flags.DEFINE_integer("outer_steps", 2500, "Outer steps of a run.")
_THEORY = flags.DEFINE_bool("theory", True, "Check theorem 2.9 as well.")
commands.define_record_flags()


class JudgedData(NamedTuple):
    """What steps look at that are judged on the test rows.

    Attributes:
      real: what the method prepared.
      test: half the mean squared error on the test rows.
    """

    real: RegressionData
    test: SquaredError


def method_of(reading: Reading, steps: int) -> Method:
    """The method of a reading with T inner steps."""
    return methods.regression(**{**COMMON, **reading.change, "inner_steps": steps})


def judged(method: Method) -> Method:
    """The same regression, whose steps also say how good they are on the test rows.

    The metric `test_loss` is the mean over the step's own draws of initial weights,
    before its update. Nothing else changes.
    """

    def prepare(key, problem, cache):
        return JudgedData(method.prepare(key, problem, cache), test_error(problem))

    def init(key, problem, data: JudgedData) -> RegressionState:
        return method.init(key, problem, data.real)

    def sample(key, data: JudgedData) -> JudgedData:
        return data._replace(real=method.sample(key, data.real))

    def step(state: RegressionState, batch: JudgedData, key, progress: Progress):
        on_test = batch.real._replace(real=None, error=batch.test)
        _, seen = method.step(state, on_test, key, progress)
        after, metrics = method.step(state, batch.real, key, progress)
        return after, {**metrics, "test_loss": seen["real_loss"]}

    def distilled(key, state: RegressionState, problem, data: JudgedData):
        return method.distilled(key, state, problem, data.real)

    return method._replace(
        settings={**method.settings, "judged_on": "test"},
        prepare=prepare,
        init=init,
        sample=sample,
        step=step,
        distilled=distilled,
    )


def load(seed: int, *, standardize: bool) -> Problem:
    """The problem of a seed, as drawn or standardised."""
    return data.load(
        f"linear:{seed}",
        preprocessing="standardize" if standardize else "none",
        standardize_targets=standardize,
    )


def test_error(problem: Problem) -> SquaredError:
    """Half the mean squared error on the test rows."""
    return squared_error(problem._replace(train=problem.test))


def squared_error(problem: Problem) -> SquaredError:
    """Half the mean squared error of a linear model on the training rows."""
    return least_squares.squared_error(
        least_squares.moments(problem, feature_maps.inputs())
    )


def run(
    method: Method, problem: Problem, *, seed: int, outer: int, curves: bool = False
) -> TrainResult:
    """Distils for `outer` steps, judging every one of them on the test rows.

    Args:
      method: the method.
      problem: the problem.
      seed: of everything random but the problem.
      outer: steps.
      curves: whether to follow the inner loop, too, `PARTS` times along the run (the
        columns `validation/inner_loop/...` of the history); `outer` is then a multiple
        of `PARTS`.
    """
    return runtime.train(
        judged(method),
        # Nothing is chosen here: the rows that judge are the test rows throughout.
        problem._replace(validation=problem.test),
        seed=seed,
        steps=outer,
        log_every=1,
        evaluations=[inner_loop()] if curves else [],
        evaluate_every=outer // PARTS,
        choose="last",
        verbose=False,
    )


def inner_loop(*, points: int = 41, draws: int = 30) -> Evaluation:
    """Half the mean squared error along the inner loop of a set, mean over draws.

    The scalar `inner_loop/I` is the error after I inner steps, for whole numbers from 0
    to the last of the set's inner steps.

    Args:
      points: at so many of them, or at all where there are fewer.
      draws: of initial weights.
    """

    def evaluate(key, distilled: DistilledSet, problem, split, cache=None):
        del cache
        pairs, inner = decoded(distilled), distilled.recipe["inner"]
        starts = inner["weights_scale"] * jax.random.normal(
            key, (draws, pairs.inputs.shape[1], pairs.targets.shape[1])
        )
        counts = np.unique(np.linspace(0, inner["steps"], points).astype(np.int32))
        errors = _errors_after(
            jnp.asarray(counts),
            pairs.inputs,
            pairs.targets,
            starts,
            inner["step_size"],
            inner["ridge"],
            squared_error(problem._replace(train=getattr(problem, split))),
        )
        return {
            f"inner_loop/{count}": score(values)
            for count, values in zip(counts, np.asarray(errors).tolist(), strict=True)
        }

    return Evaluation("inner_loop", {"points": points, "draws": draws}, evaluate)


@jax.jit
def _errors_after(
    counts: Int[Array, " k"],
    inputs: Float[Array, "m d"],
    targets: Float[Array, "m c"],
    starts: Float[Array, "q d c"],
    step_size: Any,
    ridge: Any,
    error: SquaredError,
) -> Float[Array, "k q"]:
    """Errors after some numbers of inner steps, from each start."""

    def one(count: Array, start: Array) -> Array:
        return curvature.error_after(
            count, inputs, targets, start, step_size, ridge, error
        )

    over_starts = jax.vmap(one, in_axes=(None, 0))
    return jax.lax.map(lambda count: over_starts(count, starts), counts)


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


def inner_curve(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """Test loss along the inner loop, from an evaluated step's row."""
    prefix = "validation/inner_loop/"
    found = sorted(
        (int(name.removeprefix(prefix)), value)
        for name, value in row.items()
        if name.startswith(prefix) and not name.endswith("/std")
    )
    steps, losses = zip(*found, strict=True)
    return {"inner_step": list(steps), "test_loss": list(losses)}


def measure(
    name: str, *, seeds: Sequence[int], outer: int, count: int
) -> dict[str, Any]:
    """A reading with T inner steps: the fits of all seeds, and curves of the first."""
    reading, runs = READINGS[name], []
    method = method_of(reading, count)
    row: dict[str, Any] = {"inner_steps": count}
    for seed in seeds:
        began = time.perf_counter()
        problem = load(seed, standardize=reading.standardize)
        first = seed == seeds[0]
        result = run(method, problem, seed=seed, outer=outer, curves=first)
        steps = {each["step"]: each for each in result.history}
        test = np.array([steps[step]["test_loss"] for step in range(1, outer + 1)])
        found: dict[str, Any] = {
            "seed": seed,
            "seconds": time.perf_counter() - began,
            "last_test_loss": float(test[-1]),
            "last": {name: steps[outer][name] for name in _LAST},
            "least_step_size_limit": min(
                steps[step]["step_size_limit"] for step in range(1, outer + 1)
            ),
        }
        try:
            found |= fits(test)
        except ValueError as error:
            found["no_fit"] = str(error)
        logging.info("%s, T = %d: %s", name, count, found)
        runs.append(found)
        if first:
            every = max(1, outer // 250)
            row["outer_curve"] = {
                "outer_step": list(range(0, outer, every)),
                "test_loss": [float(f"{v:.4g}") for v in test[::every]],
            }
            row["inner_curves"] = {
                str(step): inner_curve(steps[step])
                for step in (outer // PARTS * part for part in SHOWN)
            }
    return {**row, "runs": runs}


def theory(*, seed: int, outer: int, count: int) -> dict[str, Any]:
    """Theorem 2.9 near the end point of the fixed variant with T inner steps."""
    method = method_of(READINGS["fixed"], count)
    problem = load(seed, standardize=False)
    result = run(method, problem, seed=seed, outer=outer)
    return curvature.near(
        result.distilled,
        squared_error(problem),
        outer_ridge=COMMON["outer_ridge"],
        alpha=ALPHA,
        draws=COMMON["draws"],
    )


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


def main() -> None:
    """Measures, draws and writes the records."""
    outer, seeds, names = _OUTER.value, _SEEDS.value, _READINGS.value
    if outer < PARTS or outer % PARTS:
        raise ConfigError(f"--outer_steps={outer} is no multiple of {PARTS}")
    searched = names == ["all"]
    if "all" in names and not searched:
        raise ConfigError("--readings=all stands alone")
    names = list(READINGS) if searched else names

    def rows(name: str, count: int) -> dict[str, Any]:
        with _one_thread():
            row = measure(name, seeds=seeds, outer=outer, count=count)
        if searched:
            del row["outer_curve"], row["inner_curves"]
        return row

    def near_the_end(count: int) -> dict[str, Any]:
        with _one_thread():
            return theory(seed=seeds[0], outer=outer, count=count)

    readings = {
        name: {
            f"{name}, T = {count}": functools.partial(rows, name, count)
            for count in _STEPS.value
        }
        for name in names
    }
    parts = {part: each for found in readings.values() for part, each in found.items()}
    ends = sorted({_STEPS.value[0], _STEPS.value[-1]})
    if _THEORY.value and not searched:
        parts |= {
            f"theory, T = {count}": functools.partial(near_the_end, count)
            for count in ends
        }

    def result(found: Mapping[str, Any]) -> Measured:
        results: dict[str, Any] = {
            "readings": {
                name: {
                    **READINGS[name]._asdict(),
                    "rows": [found[part] for part in of_reading],
                }
                for name, of_reading in readings.items()
            }
        }
        if _THEORY.value and not searched:
            results["theory"] = [found[f"theory, T = {count}"] for count in ends]
        return Measured(
            results,
            f"m = 99, d = 100, 800 real rows, {outer} outer steps",
            None if outer >= 2500 else f"{outer} of 2500 outer steps",
        )

    cell = Cell(
        f"regression_dd/{'search' if searched else 'convergence'}",
        {"seeds": seeds, "outer_steps": outer, "common": COMMON, "alpha": ALPHA},
        parts,
        result,
    )

    def draw(found: Sequence[Record]) -> None:
        (record,) = (each for each in found if each["name"] == cell.name)
        for name in TABLE:
            if name in record["results"]["readings"]:
                figure = f"figures/regression_dd_convergence_{name}.png"
                path = commands.directory() / figure
                plot(record["results"]["readings"][name]["rows"], path)
                print(f"drew {path}")

    if searched:
        commands.measure([cell], tables=["regression_readings"])
    else:
        shown = set(TABLE) <= set(names)
        tables = ["regression_convergence"] if shown else []
        tables += ["regression_theory"] if _THEORY.value else []
        commands.measure([cell], tables=tables, finish=draw)


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """The matrices are small: threads would only wait for one another."""
    import threadpoolctl

    return threadpoolctl.threadpool_limits(limits=1)


if __name__ == "__main__":
    commands.run(main)
