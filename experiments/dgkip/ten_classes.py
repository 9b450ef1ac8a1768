"""All ten classes: DGKIP (softmax, one-vs-rest) beside selection, KIP and RFAD.

    python -m experiments.dgkip.ten_classes --data_dir=DIR [--again]

Beyond the paper, which stops at two classes. Every set is worth four numbers, in
columns that are never mixed: the softmax model and ten logistic ones (one-vs-rest) on
the same random features, kernel ridge regression on the exact NTK, and fully connected
networks trained from scratch. One record a data set and seed, under
`experiments/results/dgkip/ten_classes`; what is on record is not measured again
(`--again` does). The table's caption says how long it took, and on how many cores.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from ddjax import evaluation, methods, runtime
from ddjax.command.ending import ConfigError
from ddjax.data.problem import Problem
from ddjax.methods.base import Method
from ddjax.methods.dgkip import DUALS
from ddjax.models import feature_maps
from ddjax.storage.cache import in_memory
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.dgkip import common

__all__ = ["contenders", "run_seed"]

_DATASETS, _SEEDS = common.define_data_flags(("mnist", "fashion_mnist"))
_PER_CLASS = commands.define_integers("per_class", (1, 10), "Images per class.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Steps of every learned method.")
_NETWORKS = flags.DEFINE_integer("networks", 4, "Random networks of 3 x width.")
_WIDTH = flags.DEFINE_integer("width", 512, "Units a layer.")
_LIMIT = flags.DEFINE_integer("limit", None, "The most real training images.")
_BATCH = flags.DEFINE_integer("batch_size", 1000, "Real images a step, KIP and RFAD.")
_REAL_RIDGE = flags.DEFINE_float("real_ridge", 1e-5, "lambda_O per real sample.")
_RIDGE = flags.DEFINE_float("distilled_ridge", 1e-5, "lambda_S per sample.")
_DUALS = flags.DEFINE_enum("duals", "learned", DUALS, "See `ddjax.methods.dgkip`.")
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["validation", "test"], "validation while settings are chosen."
)
_NAME = flags.DEFINE_string("name", "dgkip/ten_classes", "Folder of the records.")
_ONLY = flags.DEFINE_list(
    "only",
    [],
    """Only these methods, by name (--only='KIP,"DGKIP, softmax"'); default: all.""",
)
_MEASURES = commands.define_choices(
    "measures",
    ("probe", "one_vs_rest", "kernel_regression", "network"),
    "What the sets are worth; network training takes the longest.",
)
commands.define_record_flags()


def contenders(
    *,
    per_class: int,
    steps: int,
    features: dict,
    batch_size: int,
    real_ridge: float,
    distilled_ridge: float,
    duals: str,
) -> dict[str, tuple[Method, int]]:
    """The methods that are compared, name -> (method, steps)."""
    architecture = features["architecture"]
    dgkip: dict[str, Any] = {
        "per_class": per_class,
        "features": features,
        "real_ridge": real_ridge,
        "distilled_ridge": distilled_ridge,
        "duals": duals,
        "initialization": "kmeans_centres",
        "descent": {
            "learning_rate": 0.3,
            "schedule": "cosine",
            "warmup": 0.1,
            "rates": {"targets": 0.03},
        },
        "solver_tolerance": 1e-3,
    }
    batches: dict[str, Any] = {"per_class": per_class, "batch_size": batch_size}
    # At 0.3 one-vs-rest leaves its minimum again with more than one image a class.
    slower = {**dgkip["descent"], "learning_rate": 0.3 if per_class == 1 else 0.1}
    one_vs_rest = {**dgkip, "descent": slower}
    return {
        "random real": (methods.selection(how="balanced", per_class=per_class), 1),
        "k-means": (methods.selection(how="kmeans_centres", per_class=per_class), 1),
        "KIP": (
            methods.kip(
                features={"kind": "ntk", "architecture": architecture},
                descent={"schedule": "cosine"},
                **batches,
            ),
            steps,
        ),
        "RFAD": (
            methods.rfad(
                architecture=architecture,
                networks=2,
                descent={"learning_rate": 1e-2, "schedule": "cosine"},
                **batches,
            ),
            steps,
        ),
        "DGKIP, softmax": (methods.dgkip(loss="softmax", **dgkip), steps),
        "DGKIP, one-vs-rest": (methods.dgkip(loss="logistic", **one_vs_rest), steps),
    }


def run_seed(
    problem: Problem,
    *,
    seed: int,
    make: Callable[[int], dict[str, tuple[Method, int]]],
    per_class: Sequence[int],
    features: dict,
    distilled_ridge: float,
    split: str,
    measures: Sequence[str],
) -> list[dict]:
    """One row a method and number of images: what each set is worth.

    Args:
      problem: ten classes.
      seed: of everything random.
      make: images per class -> methods by name, see `contenders`.
      per_class: images per class.
      features: of the convex probe, see `ddjax.models.feature_maps.from_settings`.
      distilled_ridge: lambda_S per sample of the convex probe.
      split: `validation` or `test`.
      measures: of `probe`, `one_vs_rest`, `kernel_regression` and `network`.
    """
    keys = runtime.run_keys(seed)
    recipe = feature_maps.to_recipe(feature_maps.from_settings(keys.prepare, features))
    known = {
        "probe": evaluation.probe(loss="softmax", ridge_per_sample=distilled_ridge),
        "one_vs_rest": evaluation.probe(
            loss="logistic", ridge_per_sample=distilled_ridge
        ),
        "kernel_regression": evaluation.kernel_regression(
            kernel="ntk", architecture=features["architecture"]
        ),
        "network": evaluation.network(architecture="fully_connected", networks=3),
    }
    cache, rows = in_memory(), []
    for count in per_class:
        for name, (method, steps) in make(count).items():
            result = runtime.train(
                method, problem, seed=seed, steps=steps, cache=cache, verbose=False
            )
            # Every set is probed through the same networks, whatever it was made with.
            distilled = result.distilled._replace(
                recipe={**result.distilled.recipe, "features": recipe}
            )
            row = {
                "method": name,
                "per_class": count,
                "seconds_per_step": result.seconds_per_step,
            }
            for measure in measures:
                worth = known[measure].evaluate(
                    keys.test, distilled, problem, split, cache
                )
                row |= {scalar: score.mean for scalar, score in worth.items()}
            logging.info("seed %d: %s", seed, row)
            rows.append(row)
    return rows


def main() -> None:
    """Measures what is not on record yet."""
    features = {
        "architecture": {"kind": "fully_connected", "depth": 3, "width": _WIDTH.value},
        "networks": _NETWORKS.value,
    }
    settings = {
        "steps": _STEPS.value,
        "features": features,
        "batch_size": _BATCH.value,
        "real_ridge": _REAL_RIDGE.value,
        "distilled_ridge": _RIDGE.value,
        "duals": _DUALS.value,
    }

    def make(count: int) -> dict[str, tuple[Method, int]]:
        found = contenders(per_class=count, **settings)
        return {k: v for k, v in found.items() if not _ONLY.value or k in _ONLY.value}

    known = contenders(per_class=1, **settings)
    for name in _ONLY.value:
        if name not in known:
            raise ConfigError(f"--only={name}: there are: {'; '.join(known)}")

    def cell(dataset: str, seed: int) -> Cell:
        def rows() -> dict[str, Any]:
            problem = common.load(dataset, seed=seed, limit=_LIMIT.value)
            found = run_seed(
                problem,
                seed=seed,
                make=make,
                per_class=_PER_CLASS.value,
                features=features,
                distilled_ridge=_RIDGE.value,
                split=_SPLIT.value,
                measures=_MEASURES.value,
            )
            return {"rows": found, "images": len(problem.train.inputs)}

        def result(found: Mapping[str, Any]) -> Measured:
            count = found[""]["images"]
            return Measured(
                {"rows": found[""]["rows"]},
                scale=f"ten classes, {count} real images, {_STEPS.value} steps",
                reduced=f"{_NETWORKS.value} networks for the 30 of the two-class paper"
                + (f"; {count} real images" if _LIMIT.value else ""),
            )

        return Cell(
            f"{_NAME.value}/{dataset}_seed{seed}",
            {
                "dataset": dataset,
                "seed": seed,
                "split": _SPLIT.value,
                "per_class": _PER_CLASS.value,
                "limit": _LIMIT.value,
                **settings,
            },
            commands.whole(rows),
            result,
            check=lambda: commands.check_data(dataset),
        )

    commands.measure(
        [cell(dataset, seed) for seed in _SEEDS.value for dataset in _DATASETS.value],
        tables=["ten_classes"] if _NAME.value == "dgkip/ten_classes" else [],
    )


if __name__ == "__main__":
    commands.run(main)
