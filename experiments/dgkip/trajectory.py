"""Figure 2: parameter deviation, its bound and test accuracy against the step.

    python -m experiments.dgkip.trajectory --data_dir=DIR

CIFAR-10, classes 0 and 1, convolutional random features, 1, 10 and 50 images per class.
Every few steps the convex problem is solved on the samples, so that the deviation
`|theta_S - theta_O| / |theta_O|` stands beside its bound
`sqrt(2 G / lambda_S) / |theta_O|`. Nothing is chosen by these curves: the settings are
those of `experiments.dgkip.transfer`.

Writes `experiments/results/dgkip/figure2/cifar10.json` and a PNG beside it, which
`--again` makes anew. Two minutes on two cores with `--networks=4 --width=64`, as
committed; some twenty times as long with the paper's networks.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import PRNGKeyArray

from ddjax import methods, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.kernels import duality, losses
from ddjax.methods.reference import solve_reference
from ddjax.models import feature_maps
from ddjax.solvers import erm
from ddjax.storage.cache import Cache, in_memory, no_cache
from ddjax.synthetic.distilled import DistilledSet, decoded
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.data_flag import define_data_dir
from experiments.dgkip import common
from experiments.tables import Record

__all__ = ["deviation", "plot", "trajectory"]

define_data_dir()
_DATASET = flags.DEFINE_enum("dataset", "cifar10", common.DATASETS, "Data set.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the run.", lower_bound=0)
_NETWORKS = flags.DEFINE_integer("networks", 8, "Random networks; the paper's: 8.")
_WIDTH = flags.DEFINE_integer("width", 256, "Channels a layer; the paper's: 256.")
_PER_CLASS = commands.define_integers("per_class", (1, 10, 50), "Images per class.")
_STEPS = commands.define_integers(
    "steps", (500, 200, 150), "Steps for each entry of --per_class."
)
_RATES = commands.define_numbers(
    "learning_rates", (0.1, 0.1, 0.1), "For each entry of --per_class."
)
_EVERY = flags.DEFINE_integer("every", 5, "Steps between points.", lower_bound=1)
commands.define_record_flags()


def deviation() -> Evaluation:
    r"""How far the set's model is from that of the real data, for DGKIP with features.

    Scalars: `deviation/measured`,
    :math:`\|\theta_S - \theta_O\| / \|\theta_O\|`; `deviation/bound`, with the gap G
    of the optimality condition's duals,
    :math:`\sqrt{2 G / \lambda_S} / \|\theta_O\|`; and `deviation/test`, the accuracy
    of the set's model on the test split, whichever split is asked for: the figure
    shows it, and nothing is chosen by it.
    """

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        del key, split
        feature_map = feature_maps.from_recipe(distilled.recipe["features"])
        loss = losses.get(distilled.recipe["loss"]["name"])
        reference = solve_reference(
            feature_map,
            problem,
            loss=loss,
            ridge_per_sample=distilled.recipe["real_ridge"],
            cache=cache,
        )
        inputs, targets = map(jnp.asarray, decoded(distilled))
        ridge = distilled.recipe["ridge"]["strength"] * len(inputs)
        rows = feature_maps.application(feature_map)(reference.params, inputs)
        gap = duality.gap(reference.weights, rows, targets, loss=loss, ridge=ridge)
        solution = erm.solve(rows, targets, loss=loss, ridge=ridge, tolerance=1e-8)
        aim = np.asarray(reference.weights, np.float64)
        norm = np.linalg.norm(aim)
        found = {
            "measured": np.linalg.norm(solution.weights - aim) / norm,
            "bound": np.sqrt(2 * float(gap) / ridge) / norm,
            "test": common.accuracy_on(
                problem,
                "test",
                weights=solution.weights,
                feature_map=feature_map,
                params=reference.params,
                cache=cache,
            ),
        }
        return {f"deviation/{k}": score([float(v)]) for k, v in found.items()}

    return Evaluation("deviation", {}, evaluate)


def trajectory(
    problem: Problem,
    *,
    seed: int,
    features: Mapping[str, Any],
    per_class: int,
    steps: int,
    learning_rate: float,
    every: int,
    cache: Cache,
) -> list[dict]:
    """Deviation, bound and test accuracy along one run of DGKIP-LR on two classes.

    A point `every` so many steps. Runs that share the cache aim at the same solution.

    Returns:
      One dictionary a point: `step`, `deviation`, `bound` (both relative to the norm of
      the reference solution) and `test` accuracy.
    """
    result = runtime.train(
        methods.dgkip(
            per_class=per_class,
            features=features,
            real_ridge=common.RIDGE,
            distilled_ridge=common.RIDGE,
            sample_block=20,
            duals="learned",
            descent=common.descent(learning_rate),
        ),
        problem,
        seed=seed,
        steps=steps,
        cache=cache,
        evaluations=[deviation()],
        evaluate_every=every,
        choose="last",
        verbose=False,
    )
    names = {"deviation": "measured", "bound": "bound", "test": "test"}
    return [
        {"step": row["step"]}
        | {name: row[f"validation/deviation/{what}"] for name, what in names.items()}
        for row in result.history
        if "validation/deviation/measured" in row
    ]


def plot(curves: dict[str, list[dict]], path: Path) -> None:
    """One panel a number of images per class: deviation, bound, and test accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(curves), figsize=(4.2 * len(curves), 3.4), squeeze=False
    )
    for panel, (count, points) in zip(panels[0], curves.items(), strict=True):
        steps = [p["step"] for p in points]
        panel.semilogy(steps, [p["bound"] for p in points], "C0.-", label="bound")
        panel.semilogy(
            steps, [p["deviation"] for p in points], "C2.-", label="deviation"
        )
        panel.set(title=f"{count} image(s) per class", xlabel="step")
        accuracy = panel.twinx()
        accuracy.plot(steps, [100 * p["test"] for p in points], "C3.--", lw=1)
        accuracy.set_ylim(50, 100)
        accuracy.tick_params(axis="y", colors="C3")
        if panel is panels[0][0]:
            panel.set_ylabel("relative to the norm of the reference")
            panel.legend(loc="lower left", frameon=False)
        if panel is panels[0][-1]:
            accuracy.set_ylabel("test accuracy, % (dashed)", color="C3")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Measures a curve for each number of images and draws them."""
    common.check_same_length(_PER_CLASS, _STEPS, _RATES)
    dataset, seed = _DATASET.value, _SEED.value
    networks, width = _NETWORKS.value, _WIDTH.value
    features = {
        "architecture": {"kind": "convolutional", "depth": 3, "width": width},
        "networks": networks,
    }
    load = functools.cache(lambda: common.load(dataset, seed=seed, classes=(0, 1)))
    cache = in_memory()

    def curve(count: int, rate: float, steps: int) -> list[dict]:
        return trajectory(
            load(),
            seed=seed,
            features=features,
            per_class=count,
            steps=steps,
            learning_rate=rate,
            every=_EVERY.value,
            cache=cache,
        )

    lengths = zip(_PER_CLASS.value, _RATES.value, _STEPS.value, strict=True)
    cell = Cell(
        f"dgkip/figure2/{dataset}",
        {
            "dataset": dataset,
            "classes": [0, 1],
            "seed": seed,
            "features": features,
            "steps": _STEPS.value,
            "learning_rates": _RATES.value,
            "every": _EVERY.value,
        },
        {str(each[0]): functools.partial(curve, *each) for each in lengths},
        lambda found: Measured(
            {"curves": found},
            f"classes 0 and 1, {len(load().train.inputs)} real images, "
            f"{'/'.join(map(str, _STEPS.value))} steps",
            None
            if (networks, width) == (8, 256)
            else f"{networks} networks of width {width} for the paper's 8 of 256",
        ),
        check=lambda: commands.check_data(dataset),
    )

    def draw(found: Sequence[Record]) -> None:
        (record,) = (each for each in found if each["name"] == cell.name)
        path = commands.directory() / f"{cell.name}.png"
        plot(record["results"]["curves"], path)
        print(f"drew {path}")

    commands.measure([cell], finish=draw)


if __name__ == "__main__":
    commands.run(main)
