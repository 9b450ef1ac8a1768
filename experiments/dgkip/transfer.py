"""DGKIP on two classes: same-loss accuracies and the transfer between SVM and LR.

    python -m experiments.dgkip.transfer --data_dir=DIR [--datasets=mnist,cifar10]

For every data set and seed the networks are drawn and both convex problems are solved
on the real training data once; then samples are distilled for each loss and number of
images per class, and both convex models are trained on each set. The step is chosen by
the validation split; the test split is read once. Settings are chosen with
`--splits=validation`. Both models fit the set's own, learned labels. One record a data
set, architecture and seed, under `experiments/results/dgkip/transfer`; what is on
record is not measured again (`--again` does). On two cores with `--networks=4
--width=64`, as committed, some three minutes a record, nine of them.
"""

import time
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from ddjax import evaluation, methods, runtime
from ddjax.data.problem import Problem
from ddjax.kernels import losses
from ddjax.methods.base import Method
from ddjax.methods.dgkip import DUALS
from ddjax.methods.reference import solve_reference
from ddjax.models import feature_maps
from ddjax.storage.cache import Cache, in_memory
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.dgkip import common

__all__ = ["LOSSES", "PAPER_NETWORKS", "PROBES", "run_seed"]

LOSSES = {"lr": "logistic", "svm": "hinge"}
"""Short names of the paper's two models, and their losses."""

PROBES = {
    short: evaluation.probe(loss=loss, ridge_per_sample=common.RIDGE)
    for short, loss in LOSSES.items()
}
"""What a set is worth to each model."""

PAPER_NETWORKS = {
    "fully_connected": {"depth": 3, "width": 1024, "networks": 30},
    "convolutional": {"depth": 3, "width": 256, "networks": 8},
}

_DATASETS, _SEEDS = common.define_data_flags(common.DATASETS)
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture", "convolutional", list(PAPER_NETWORKS), "Random networks."
)
_NETWORKS = flags.DEFINE_integer(
    "networks", None, "How many; default: the paper's 30 or 8.", lower_bound=1
)
_WIDTH = flags.DEFINE_integer(
    "width", None, "Units or channels a layer; default: the paper's.", lower_bound=1
)
_PER_CLASS = commands.define_integers("per_class", (1, 10, 50), "Images per class.")
_STEPS = commands.define_integers(
    "steps", (500, 300, 150), "Steps for each entry of --per_class."
)
_RATES = commands.define_numbers(
    "learning_rates",
    (0.03, 0.03, 0.1),
    "Learning rate for each entry of --per_class: up over a tenth of the steps, then "
    "down to zero along a cosine. That of the labels is a tenth.",
)
_DUALS = flags.DEFINE_enum("duals", "learned", DUALS, "See `ddjax.methods.dgkip`.")
_START_RIDGE = flags.DEFINE_float(
    "start_ridge",
    None,
    "lambda_S per sample at the start; falls over 0.8 of the steps. Default: lambda_S.",
)
_NAME = flags.DEFINE_string(
    "name",
    None,
    "Folder of the records. Default: dgkip/transfer, or for fully connected networks "
    "dgkip/transfer_fully_connected.",
)
_SPLITS = commands.define_splits()
commands.define_record_flags()


def run_seed(
    problem: Problem,
    seed: int,
    *,
    features: dict,
    per_class: Sequence[int],
    steps: Sequence[int],
    learning_rates: Sequence[float],
    duals: str,
    start_ridge: float | None = None,
    splits: Sequence[str] = ("validation", "test"),
) -> list[dict]:
    """All rows of one data set and seed.

    Steps and learning rates are for each of `per_class`; the seed is of the networks
    and the starting samples.

    Returns:
      One dictionary a loss and number of images: gap, bound, seconds a step, and the
      accuracies of both models on each split; and two rows for all the real data.
    """
    cache, rows = in_memory(), []
    for short, loss in LOSSES.items():
        rows.append(
            _real_row(
                problem, seed, short, features=features, splits=splits, cache=cache
            )
        )
        logging.info("%s seed %d: %s", problem.name, seed, rows[-1])
        for count, rate, length in zip(per_class, learning_rates, steps, strict=True):
            method = methods.dgkip(
                loss=loss,
                per_class=count,
                features=features,
                real_ridge=common.RIDGE,
                distilled_ridge=common.RIDGE,
                sample_block=20,
                duals=duals,
                start_ridge=start_ridge,
                descent=common.descent(rate),
            )
            found = _distilled_row(
                method, problem, seed, short, steps=length, splits=splits, cache=cache
            )
            rows.append({"distilled_with": short, "per_class": count, **found})
            logging.info("%s seed %d: %s", problem.name, seed, rows[-1])
    return rows


def _real_row(
    problem: Problem,
    seed: int,
    short: str,
    *,
    features: dict,
    splits: Sequence[str],
    cache: Cache,
) -> dict[str, Any]:
    """The solution on all the real data, which runs then find in the cache."""
    began = time.perf_counter()
    feature_map = feature_maps.from_settings(runtime.run_keys(seed).prepare, features)
    reference = solve_reference(
        feature_map,
        problem,
        loss=losses.get(LOSSES[short]),
        ridge_per_sample=common.RIDGE,
        cache=cache,
    )
    worth = {
        name: common.accuracy_on(
            problem,
            name,
            weights=reference.weights,
            feature_map=feature_map,
            params=reference.params,
            cache=cache,
        )
        for name in splits
    }
    return {
        "distilled_with": "all real data",
        "evaluated_with": {short: worth},
        "relative_gap": float(reference.gap / reference.squared_norm),
        "solver_seconds": time.perf_counter() - began,
        "images": len(problem.train.inputs),
    }


def _distilled_row(
    method: Method,
    problem: Problem,
    seed: int,
    short: str,
    *,
    steps: int,
    splits: Sequence[str],
    cache: Cache,
) -> dict[str, Any]:
    """The step whose samples are worth most to their own loss on validation data."""
    result = runtime.train(
        method,
        problem,
        seed=seed,
        steps=steps,
        cache=cache,
        evaluations=[PROBES[short]],
        evaluate_every=max(1, steps // 10),
        log_every=1,
        verbose=False,
    )
    # The metrics of a step are those of the state before it: before the first step
    # they are not known.
    metrics = next(row for row in result.history if row["step"] == max(1, result.step))
    key = runtime.run_keys(seed).test
    worth: dict[str, dict[str, float]] = {other: {} for other in PROBES}
    for other, measure in PROBES.items():
        for name in splits:
            scores = measure.evaluate(key, result.distilled, problem, name, cache)
            worth[other][name] = scores[f"{measure.name}/accuracy"].mean
    return {
        "step": result.step,
        "gap": metrics["gap"],
        "deviation_bound": metrics["deviation_bound"],
        "seconds_per_step": result.seconds_per_step,
        "evaluated_with": worth,
    }


def main() -> None:
    """Measures what is not on record yet."""
    common.check_same_length(_PER_CLASS, _STEPS, _RATES)
    kind = _ARCHITECTURE.value
    paper = PAPER_NETWORKS[kind]
    default = "transfer" if kind == "convolutional" else f"transfer_{kind}"
    folder = _NAME.value or f"dgkip/{default}"
    networks = _NETWORKS.value or paper["networks"]
    width = _WIDTH.value or paper["width"]
    reduced = None
    if (networks, width) != (paper["networks"], paper["width"]):
        reduced = (
            f"{networks} networks of width {width} for the paper's "
            f"{paper['networks']} of {paper['width']}"
        )
    # What `run_seed` takes, and the records have.
    settings: dict[str, Any] = {
        "features": {
            "architecture": {"kind": kind, "depth": paper["depth"], "width": width},
            "networks": networks,
        },
        "per_class": _PER_CLASS.value,
        "steps": _STEPS.value,
        "learning_rates": _RATES.value,
        "duals": _DUALS.value,
        "start_ridge": _START_RIDGE.value,
    }

    def cell(dataset: str, seed: int) -> Cell:
        def rows() -> list[dict]:
            problem = common.load(dataset, seed=seed, classes=(0, 1))
            return run_seed(problem, seed, **settings, splits=_SPLITS.value)

        return Cell(
            f"{folder}/{dataset}_{kind}_seed{seed}",
            {"dataset": dataset, "classes": [0, 1], "seed": seed, **settings},
            commands.whole(rows),
            lambda found: Measured(
                {"rows": found[""]},
                f"classes 0 and 1, {found[''][0]['images']} real images, "
                f"{'/'.join(map(str, _STEPS.value))} steps",
                reduced,
            ),
            check=lambda: commands.check_data(dataset),
        )

    table = folder.removeprefix("dgkip/")
    commands.measure(
        [cell(dataset, seed) for seed in _SEEDS.value for dataset in _DATASETS.value],
        tables=[table] if table in ("transfer", "transfer_fully_connected") else [],
    )


if __name__ == "__main__":
    commands.run(main)
