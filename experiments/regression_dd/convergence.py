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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jaxtyping import Array, Float, Int

from ddjax import data, methods, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, score
from ddjax.kernels import unrolled
from ddjax.methods import least_squares
from ddjax.methods.base import Method, Progress
from ddjax.methods.least_squares import SquaredError
from ddjax.methods.regression import RegressionData, RegressionState
from ddjax.models import feature_maps
from ddjax.runtime import TrainResult
from ddjax.solvers import convergence
from ddjax.synthetic.distilled import DistilledSet, decoded
from experiments import records
from experiments.regression_dd import curvature

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
"""Name -> reading; `TABLE` names those of the README's table."""


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
        weights = unrolled.iterate(
            inputs,
            targets,
            start,
            step_size=step_size,
            ridge=ridge,
            steps=count,
        )
        return least_squares.squared_error_at(weights, error)

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
    name: str, *, seeds: Sequence[int], outer: int, counts: Sequence[int]
) -> list[dict[str, Any]]:
    """One row for each T: the fits of every seed, and curves of the first."""
    reading, rows = READINGS[name], []
    for count in counts:
        method, runs = method_of(reading, count), []
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
        rows.append({**row, "runs": runs})
    return rows


def theory(*, seed: int, outer: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Theorem 2.9 near the end points of the fixed variant."""
    found = []
    for count in counts:
        method = method_of(READINGS["fixed"], count)
        problem = load(seed, standardize=False)
        result = run(method, problem, seed=seed, outer=outer)
        found.append(
            curvature.near(
                result.distilled,
                squared_error(problem),
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
