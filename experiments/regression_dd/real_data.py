"""Real tables: what a few distilled rows are worth beside all rows and real ones.

    python -m experiments.regression_dd.real_data --data_dir=DIR

For each data set, seed and number of rows m: ridge regression on random rows, k-means
centres, rows drawn by ridge leverage scores (also with importance weights), Nyström,
the exact optimum (`analytic`, linear models only) and rows learned by gradient descent
through ridge regression (`regression` with `inner="ridge"`), beside ridge regression on
all rows. Linear models, and random Fourier features.

Everything that is chosen is chosen on the validation split: for every method its ridge,
for the learned rows also the step. The test split is read once. One record a data set
and seed, under `experiments/results/regression_dd/real_data`, then the figure from all
records; what is on record is not measured again (`--again` does). Twenty minutes for
everything on two cores; `--datasets=diabetes` needs no files.
"""

import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags, logging

from ddjax import evaluation, methods, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.runtime import run_keys
from ddjax.storage import atomic
from ddjax.storage.cache import Cache, in_memory
from ddjax.synthetic.distilled import DistilledSet
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.dgkip import common
from experiments.regression_dd.real_data_tables import DATASETS, FOLDER
from experiments.tables import Record, below

__all__ = ["FEATURES", "contenders", "draw", "run_seed"]

# Of the Gaussian kernel, from (1, 2, 4) by full-data R2 on the validation split of
# seed 0.
LENGTH_SCALES = {"diabetes": 4.0, "california_housing": 1.0, "diamonds": 1.0}
FEATURES = ("inputs", "fourier")
_RIDGES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
_INNER_RIDGES = (1e-2, 1e-3)
_FIGURE = "figures/regression_dd_real_data.png"

_DATASETS, _SEEDS = common.define_data_flags(tuple(LENGTH_SCALES))
_COUNTS = commands.define_integers("counts", (1, 2, 5, 10, 20), "m, linear.")
_FOURIER_COUNTS = commands.define_integers(
    "fourier_counts", (10, 20, 50, 100), "m, random Fourier features."
)
_STEPS = flags.DEFINE_integer("steps", 800, "Steps of the learned rows.")
_FREQUENCIES = flags.DEFINE_integer("frequencies", 128, "Half the Fourier features.")
_LIMIT = flags.DEFINE_integer("limit", None, "The most real training rows.")
_NAME = flags.DEFINE_string("name", FOLDER, "Folder of the records.")
commands.define_record_flags()


class _Contender(NamedTuple):
    """A method, its steps, and the ridges that its sets may be trained with.

    The ridge None is the one that the method made the set for.
    """

    method: Method
    steps: int
    ridges: Sequence[float | None]


class _Worth(NamedTuple):
    """A set that may be chosen, and how good it is on the validation split."""

    validation: float
    distilled: DistilledSet
    ridge: float | None


def contenders(
    *, count: int, features: Mapping[str, Any], real_ridge: float, steps: int
) -> dict[str, list[_Contender]]:
    """The methods that are compared: name -> those of its settings that are tried.

    Args:
      count: rows m.
      features: see `ddjax.models.feature_maps.from_settings`.
      real_ridge: the best one for all rows.
      steps: of the learned rows; half as many for linear models.
    """
    linear = features["kind"] == "inputs"
    # A linear model has little to learn.
    steps = steps // 2 if linear else steps
    shared: dict[str, Any] = {"count": count, "features": features}
    selections: dict[str, dict[str, Any]] = {
        "random rows": {"how": "uniform"},
        "k-means": {"how": "kmeans_centres"},
        "leverage": {"how": "leverage"},
    }
    if linear:
        selections["leverage, weighted"] = {"how": "leverage", "weighted": True}
    found = {
        name: [
            _Contender(
                methods.row_selection(**shared, **settings, ridge=real_ridge),
                *(1, _RIDGES),
            )
        ]
        for name, settings in selections.items()
    }
    found["Nyström"] = [
        _Contender(methods.nystrom(**shared, ridge=ridge), 1, (None,))
        for ridge in _RIDGES
    ]
    if linear:
        exact = methods.analytic(count=count, real_ridge=real_ridge)
        found["exact optimum"] = [_Contender(exact, 1, (None,))]
    found["distilled"] = [
        _Contender(
            methods.regression(
                **shared,
                inner="ridge",
                inner_ridge=ridge,
                descent={"learning_rate": 0.03, "schedule": "cosine"},
            ),
            *(steps, (None,)),
        )
        for ridge in (_INNER_RIDGES[-1:] if linear else _INNER_RIDGES)
    ]
    return found


def run_seed(
    problem: Problem,
    *,
    seed: int,
    features: Mapping[str, Any],
    counts: Sequence[int],
    steps: int,
) -> list[dict[str, Any]]:
    """One row a method and m, and first that of all real rows.

    Those m that are more than half the rows are left out.
    """
    cache = in_memory()
    full, real_ridge = _full_data(problem, features, seed=seed, cache=cache)
    rows = [{"features": features["kind"], "method": "all rows", **full}]
    for count in counts:
        if 2 * count > len(problem.train.inputs):
            continue
        every = contenders(
            count=count, features=features, real_ridge=real_ridge, steps=steps
        )
        for name, settings in every.items():
            began = time.perf_counter()
            best = max(
                (_best(each, problem, seed=seed, cache=cache) for each in settings),
                key=lambda worth: worth.validation,
            )
            test = evaluation.regression(ridge=best.ridge).evaluate(
                run_keys(seed).test, best.distilled, problem, "test", cache
            )
            own = best.distilled.recipe["ridge"]["strength"]
            row = {
                "features": features["kind"],
                "method": name,
                "count": count,
                "ridge": own if best.ridge is None else best.ridge,
                "validation": best.validation,
                **{what.split("/")[1]: score.mean for what, score in test.items()},
                "seconds": round(time.perf_counter() - began, 2),
            }
            logging.info("%s, seed %d: %s", problem.name, seed, row)
            rows.append(row)
    return rows


def _full_data(
    problem: Problem, features: Mapping[str, Any], *, seed: int, cache: Cache
) -> tuple[dict[str, Any], float]:
    """Ridge regression on all rows through the features of the other methods."""
    one_row = methods.row_selection(count=1, features=features)
    measures = {
        ridge: evaluation.full_data(
            loss="squared", ridge_per_sample=ridge, block=4096, label=f"{ridge:g}"
        )
        for ridge in _RIDGES
    }
    # The row says no more than what features the others see.
    result = _run(one_row, problem, measures.values(), seed=seed, steps=1, cache=cache)
    found = {
        ridge: result.validation[f"full_data_squared_{ridge:g}/r2"].mean
        for ridge in _RIDGES
    }
    best = max(found, key=lambda ridge: found[ridge])
    test = measures[best].evaluate(
        run_keys(seed).test, result.distilled, problem, "test", cache
    )
    row = {
        "count": len(problem.train.inputs),
        "ridge": best,
        "validation": found[best],
        **{
            what: test[f"full_data_squared_{best:g}/{what}"].mean
            for what in ("r2", "rmse", "mae")
        },
    }
    return row, best


def _best(
    contender: _Contender, problem: Problem, *, seed: int, cache: Cache
) -> _Worth:
    """What a method leaves with its best ridge; where it learns, the best quarter's."""
    labels = {_label(ridge): ridge for ridge in contender.ridges}
    result = _run(
        contender.method,
        problem,
        [evaluation.regression(ridge=r, label=label) for label, r in labels.items()],
        seed=seed,
        steps=contender.steps,
        cache=cache,
    )
    scores = {
        label: result.validation[f"regression_{label}/r2"].mean for label in labels
    }
    best = max(scores, key=lambda label: scores[label])
    return _Worth(scores[best], result.distilled, labels[best])


def _label(ridge: float | None) -> str:
    return "own" if ridge is None else f"{ridge:g}"


def _run(
    method: Method,
    problem: Problem,
    measures: Iterable[Evaluation],
    *,
    seed: int,
    steps: int,
    cache: Cache,
) -> runtime.TrainResult:
    """A run that is judged at its end; where it learns, at its start and quarters."""
    return runtime.train(
        method,
        problem,
        seed=seed,
        steps=steps,
        cache=cache,
        evaluations=list(measures),
        evaluate_every=steps // 4,
        verbose=False,
    )


def draw(found: Sequence[Record]) -> bytes:
    """Test R2 against m, a panel a data set and kind of features, as a PNG.

    Lines are means over seeds, shaded their standard deviation. Beside them R2 of all
    rows (solid) and 98 % of it (dotted).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(each["config"]["dataset"] for each in found))
    size = (4.0 * len(datasets), 3.2 * len(FEATURES) + 0.6)
    figure = Figure(size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(FEATURES), len(datasets), squeeze=False)
    handles: dict[str, Any] = {}
    for column, dataset in enumerate(datasets):
        for axis, features in zip(axes[:, column], FEATURES, strict=True):
            _draw_panel(axis, found, dataset, features, handles)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncol=4,
        fontsize=8, frameon=False,
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


_COLOURS = {
    "distilled": "#c8553d",
    "exact optimum": "#8a5fa8",
    "Nyström": "#2667ac",
    "k-means": "#4b8f5b",
    "leverage": "#b98b2f",
    "leverage, weighted": "#4f7d86",
    "random rows": "#888888",
}


def _draw_panel(
    axis: Any,
    found: Sequence[Record],
    dataset: str,
    features: str,
    handles: dict[str, Any],
) -> None:
    cells: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in found:
        if record["config"]["dataset"] == dataset:
            for row in record["results"]["rows"]:
                if row["features"] == features:
                    cells[row["method"]][row["count"]].append(row["r2"])
    full = float(np.mean([value for v in cells["all rows"].values() for value in v]))
    handles["all rows"] = axis.axhline(full, color="#333333", linewidth=1.2)
    handles["98 % of it"] = axis.axhline(
        0.98 * full, color="#333333", linewidth=1, linestyle=":"
    )
    for method, colour in _COLOURS.items():
        if method not in cells:
            continue
        counts = sorted(cells[method])
        means = np.array([np.mean(cells[method][count]) for count in counts])
        spread = np.array([np.std(cells[method][count], ddof=1) for count in counts])
        (handles[method],) = axis.plot(
            counts, means, "o-", color=colour, markersize=3.5, linewidth=1.5
        )
        axis.fill_between(
            counts, means - spread, means + spread, color=colour, alpha=0.08, lw=0
        )
    axis.set_xscale("log")
    shown = sorted({count for name in _COLOURS for count in cells.get(name, ())})
    axis.set_xticks(shown, [str(count) for count in shown])
    axis.minorticks_off()
    axis.set_ylim(-0.1, min(1.0, full + 0.1))
    kind = "linear" if features == "inputs" else "random Fourier features"
    axis.set_title(
        f"{DATASETS[dataset]}, {kind}", fontsize=9, loc="left", color="#333333"
    )
    axis.set_xlabel("rows m", fontsize=8, color="#555555")
    axis.set_ylabel("test R²", fontsize=8, color="#555555")
    axis.tick_params(labelsize=8, colors="#555555")
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def main() -> None:
    """Measures what is not on record yet, and draws what is."""
    counts = {"inputs": _COUNTS.value, "fourier": _FOURIER_COUNTS.value}

    def cell(dataset: str, seed: int) -> Cell:
        fourier = {
            "kind": "fourier",
            "frequencies": _FREQUENCIES.value,
            "length_scale": LENGTH_SCALES[dataset],
        }

        def rows() -> dict[str, Any]:
            problem = common.load(dataset, seed=seed, limit=_LIMIT.value)
            found = [
                row
                for features in ({"kind": "inputs"}, fourier)
                for row in run_seed(
                    problem,
                    seed=seed,
                    features=features,
                    counts=counts[features["kind"]],
                    steps=_STEPS.value,
                )
            ]
            return {"rows": found, "all": len(problem.train.inputs)}

        return Cell(
            f"{_NAME.value}/{dataset}_seed{seed}",
            {
                "dataset": dataset,
                "seed": seed,
                "fourier": fourier,
                "counts": counts,
                "steps": _STEPS.value,
                "ridges": _RIDGES,
                "inner_ridges": _INNER_RIDGES,
            },
            commands.whole(rows),
            lambda found: Measured(
                {"rows": found[""]["rows"]},
                f"{dataset}: {found['']['all']} rows",
                f"at most {_LIMIT.value} rows" if _LIMIT.value else None,
            ),
            check=lambda: commands.check_data(dataset),
        )

    def redraw(found: Sequence[Record]) -> None:
        path = commands.directory() / _FIGURE
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(path, draw(below(found, FOLDER)))
        print(f"drew {path}")

    cells = [
        cell(dataset, seed) for seed in _SEEDS.value for dataset in _DATASETS.value
    ]
    if _NAME.value == FOLDER:
        tables = ("regression_real_data", "regression_fewest_rows")
        commands.measure(cells, tables=tables, finish=redraw)
    else:
        commands.measure(cells)


if __name__ == "__main__":
    commands.run(main)
