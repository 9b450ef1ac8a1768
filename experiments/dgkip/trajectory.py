"""Figure 2: parameter deviation, its bound and test accuracy against the step.

    python -m experiments.dgkip.trajectory --data_dir=DIR

CIFAR-10, classes 0 and 1, convolutional random features, 1, 10 and 50 images per class.
At logarithmically spaced steps the convex problem is solved on the samples, so that the
deviation `|theta_S - theta_O| / |theta_O|` stands beside its bound
`sqrt(2 G / lambda_S) / |theta_O|`. Writes a record and a PNG beside it. Nothing is
chosen by these curves: the settings are those of `experiments.dgkip.transfer`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from ddjax import methods
from ddjax.kernels import duality, erm, losses
from ddjax.models import feature_maps
from ddjax.runtime.loop import run_keys
from ddjax.synthetic.distilled import decoded_inputs
from experiments import records
from experiments.dgkip import common

__all__ = ["plot", "trajectory"]

_NETWORKS = flags.DEFINE_integer("networks", 8, "Random networks; the paper's: 8.")
_WIDTH = flags.DEFINE_integer("width", 256, "Channels a layer; the paper's: 256.")
_PER_CLASS = flags.DEFINE_list("per_class", ["1", "10", "50"], "Images per class.")
_STEPS = flags.DEFINE_list(
    "steps", ["500", "200", "150"], "Steps for each entry of --per_class."
)
_RATES = flags.DEFINE_list(
    "learning_rates", ["0.1", "0.1", "0.1"], "For each entry of --per_class."
)


def trajectory(
    problem, *, seed, features, per_class, steps, learning_rate, remember
) -> list[dict]:
    """Deviation, bound and test accuracy along one run of DGKIP-LR.

    Returns:
      One dictionary a looked-at step: `step`, `deviation`, `bound` (both relative to
      the norm of the reference solution) and `test` accuracy.
    """
    looked_at = sorted({0, steps, *np.geomspace(1, steps, 16).astype(int).tolist()})
    method = methods.dgkip(
        per_class=per_class,
        features=features,
        learning_rate=learning_rate,
        sample_block=20,
        decay_steps=steps,
        warmup_steps=steps // 10,
        targets_learning_rate=learning_rate / 10,
        duals="learned",
    )
    run = common.distil(
        method, problem, seed=seed, steps=steps, remember=remember, snapshots=looked_at
    )
    feature_map = feature_maps.from_settings(run_keys(seed).prepare, features)
    test = remember(
        "test_features",
        lambda: common.features_of(
            run.data.params, feature_map, problem.test
        )._asdict(),
    )
    reference = np.asarray(run.data.weights, np.float64)
    norm = np.linalg.norm(reference)
    ridge, loss = 1e-6 * per_class * problem.classes, losses.get("logistic")
    points = []
    for step, state in sorted(run.snapshots.items()):
        distilled = method.distilled(state, problem, run.data)
        rows = feature_maps.application(feature_map)(
            run.data.params, decoded_inputs(distilled)
        )
        gap = duality.gap(
            run.data.weights, rows, distilled.targets, loss=loss, ridge=ridge
        )
        solution = erm.solve(
            rows, distilled.targets, loss=loss, ridge=ridge, tolerance=1e-8
        )
        weights = np.asarray(solution.weights, np.float64)
        points.append(
            {
                "step": step,
                "deviation": float(np.linalg.norm(weights - reference) / norm),
                "bound": float(np.sqrt(2 * float(gap) / ridge) / norm),
                "test": common.accuracy(test["features"] @ weights, test["labels"]),
            }
        )
    return points


def plot(curves: dict[str, list[dict]], path: Path) -> None:
    """One panel a number of images per class: deviation, bound, and test accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(curves), figsize=(4.2 * len(curves), 3.4), squeeze=False
    )
    for panel, (count, points) in zip(panels[0], curves.items(), strict=True):
        steps = [max(p["step"], 0.7) for p in points]
        panel.loglog(steps, [p["bound"] for p in points], "C0.-", label="bound")
        panel.loglog(steps, [p["deviation"] for p in points], "C2.-", label="deviation")
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


def main(argv: Sequence[str]) -> None:
    """Runs the figure."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    seed = int(flags.FLAGS.seeds[0])
    features = {
        "architecture": {
            "kind": "convolutional",
            "depth": 3,
            "width": _WIDTH.value,
        },
        "networks": _NETWORKS.value,
    }
    began = time.perf_counter()
    dataset = flags.FLAGS.datasets[0]
    problem = common.load(dataset, seed=seed, classes=(0, 1))
    remember, curves = common.shelf(), {}
    for count, rate, steps in zip(
        _PER_CLASS.value, _RATES.value, _STEPS.value, strict=True
    ):
        curves[count] = trajectory(
            problem,
            seed=seed,
            features=features,
            per_class=int(count),
            steps=int(steps),
            learning_rate=float(rate),
            remember=remember,
        )
        logging.info("%s images per class: %s", count, curves[count][-1])
    full = (_NETWORKS.value, _WIDTH.value) == (8, 256)
    path = records.write_record(
        f"dgkip/figure2/{dataset}",
        {
            "dataset": dataset,
            "classes": [0, 1],
            "seed": seed,
            "features": features,
            "steps": [int(each) for each in _STEPS.value],
            "learning_rates": [float(each) for each in _RATES.value],
        },
        {"curves": curves},
        scale=f"classes 0 and 1, {len(problem.train.inputs)} real images, "
        f"{'/'.join(_STEPS.value)} steps",
        reduced=None
        if full
        else f"{_NETWORKS.value} networks of width {_WIDTH.value} for the paper's "
        "8 of 256",
        wall_seconds=time.perf_counter() - began,
    )
    plot(curves, path.with_suffix(".png"))
    logging.info("wrote %s and its PNG", path)


if __name__ == "__main__":
    common.define_data_flags(("cifar10",))
    app.run(main)
