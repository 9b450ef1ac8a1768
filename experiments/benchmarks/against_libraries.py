r"""Convex solvers against scikit-learn's, kernels' gradients against neural-tangents'.

    python -m experiments.benchmarks.against_libraries --data_dir=DIR [--again] [--toy]

- Solvers: the problem on all real data of DGKIP, random ReLU features of MNIST (zeros
  against ones, and ten classes) with a ridge of 1e-6 a sample. Each solver is given the
  loosest of its tolerances, by decades, with which its objective is certainly within
  1e-5 of the optimum: the dual objective of a solution to 1e-8 is the bound.
- Kernels: the kernel ridge loss of KIP and its gradient in m images and 40 real ones,
  of 28 x 28 pixels, by the tangent kernel of an infinitely wide network.

`--toy` takes digits in place of MNIST. Writes
`experiments/results/benchmarks/against_libraries.json`, which `--again` measures anew,
on your machine: some ten minutes on two cores.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ddjax import data
from ddjax.kernels import duality, infinite_width, random_features, ridge
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models import feature_maps
from ddjax.solvers import erm
from experiments import commands
from experiments.benchmarks import common
from experiments.commands import Cell, Measured
from experiments.data_flag import data_dir, define_data_dir

__all__ = ["KERNELS", "SOLVERS", "kernel_entry", "main", "solver_entry"]

_OPTIONS = common.define_flags()
define_data_dir()

_CLOSE = 1e-5

SOLVERS: dict[str, tuple[str, int, int]] = {
    "hinge, LinearSVC": ("hinge", 2, 1024),
    "logistic, LogisticRegression": ("logistic", 2, 1024),
    "softmax, LogisticRegression": ("softmax", 10, 512),
}
"""What is solved, and by what of scikit-learn -> loss, classes, width of each of four
networks."""

KERNELS: dict[str, random_features.Architecture] = {
    "fully connected": random_features.fully_connected(depth=3),
    "convolutional, no pooling": random_features.convolutional(pooling="none"),
}
"""Networks of the kernels, three layers each."""


def _features(classes: int, width: int, toy: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random features of all real images, and their classes."""
    problem = data.load(
        "digits" if toy else "mnist",
        directory=None if toy else data_dir(),
        classes=list(range(classes)),
    )
    architecture = {"kind": "fully_connected", "width": 32 if toy else width}
    described = feature_maps.from_settings(
        jax.random.key(_OPTIONS.seed.value),
        {"kind": "random_features", "architecture": architecture, "networks": 4},
    )
    limit = 300 if toy else 12_000
    inputs = np.asarray(problem.train.inputs)[:limit]
    params, apply = feature_maps.build(described, inputs.shape[1:])
    rows = map_in_blocks(apply, inputs, block=500, arguments=(params,))
    return rows, np.asarray(problem.train.labels)[:limit]


def _sklearn(loss: str, strength: float, tolerance: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    settings: dict[str, Any] = {
        "C": 1 / strength,
        "fit_intercept": False,
        "random_state": 0,
    }
    if loss == "hinge":
        return LinearSVC(loss="hinge", tol=tolerance, max_iter=10**6, **settings)
    return LogisticRegression(tol=tolerance, max_iter=10**5, **settings)


def solver_entry(name: str, *, toy: bool, repeats: int) -> dict[str, Any]:
    """Seconds of both solvers at an equal distance from the optimum."""
    loss, classes, width = SOLVERS[name]
    rows, labels = _features(classes, width, toy)
    strength = 1e-6 * len(rows)
    targets = np.eye(classes)[labels] if classes > 2 else np.where(labels == 1, 1, -1.0)

    def ours(tolerance: float) -> np.ndarray:
        return erm.solve(
            rows, targets, loss=loss, ridge=strength, tolerance=tolerance
        ).weights

    def theirs(tolerance: float) -> np.ndarray:
        fitted = _sklearn(loss, strength, tolerance).fit(rows, labels)
        return fitted.coef_[0] if classes == 2 else fitted.coef_.T

    exact = erm.solve(rows, targets, loss=loss, ridge=strength, tolerance=1e-8)
    bound = exact.primal - exact.gap
    calls, reached, wide = {}, {}, rows.astype(np.float64)
    for form, solve in (("ddjax", ours), ("scikit-learn", theirs)):
        for tolerance in (10.0**-decade for decade in range(1, 9)):
            calls[form] = functools.partial(solve, tolerance)
            with jax.enable_x64(True):
                objective = duality.primal(
                    calls[form](), wide, targets, loss=loss, ridge=strength
                )
            reached[form] = (float(objective) - bound) / bound
            if reached[form] <= _CLOSE:
                break
    timings = common.time_in_turns(calls, repeats=repeats, warmups=0)
    return {
        "what": f"{name}, {len(rows)} x {rows.shape[1]}",
        "other": "scikit-learn",
        "seconds": timings,
        "times_ours": common.ratios(timings, base="ddjax"),
        "from_the_optimum": reached,
    }


def _kip(
    kernel: Callable[..., Array], real: Array, truth: Array, targets: Array
) -> Callable[[Array], tuple[Array, Array]]:
    def loss(images: Array) -> Array:
        gram, cross = kernel(images, images), kernel(real, images)
        found = ridge.kernel_solve(gram, targets, ridge=1e-6 * jnp.trace(gram))
        return jnp.mean((cross @ found.coefficients - truth) ** 2)

    return jax.jit(jax.value_and_grad(loss))


def kernel_entry(name: str, *, toy: bool, repeats: int) -> dict[str, Any]:
    """Seconds of a loss and its gradient by both kernels."""
    side, count, batch = (8, 4, 6) if toy else (28, 10, 40)
    keys = jax.random.split(jax.random.key(_OPTIONS.seed.value))
    images, real = (
        jax.random.normal(key, (size, side, side, 1))
        for key, size in zip(keys, (count, batch), strict=True)
    )
    truth, targets = (jnp.eye(10)[jnp.arange(n) % 10] for n in (batch, count))
    calls = {}
    backends: dict[str, Any] = {
        "ddjax": "closed_form",
        "neural-tangents": "neural_tangents",
    }
    for form, backend in backends.items():
        kernel = infinite_width.kernel_fn(KERNELS[name], kind="ntk", backend=backend)
        calls[form] = functools.partial(_kip(kernel, real, truth, targets), images)
    one, other = (np.asarray(call()[1]) for call in calls.values())
    timings = common.time_in_turns(calls, repeats=repeats)
    return {
        "what": f"KIP's gradient, {name}, {count} images, {batch} real ones",
        "other": "neural-tangents",
        "seconds": timings,
        "times_ours": common.ratios(timings, base="ddjax"),
        "disagreement": float(np.abs(one - other).max() / np.abs(one).max()),
    }


def main() -> None:
    """Measures every solver and every kernel."""
    toy, repeats = _OPTIONS.toy.value, _OPTIONS.repeats.value
    settings = {"toy": toy, "repeats": repeats}
    cell = Cell(
        "benchmarks/against_libraries",
        {"seed": _OPTIONS.seed.value, **settings},
        {
            name: functools.partial(measure, name, **settings)
            for measure, names in ((solver_entry, SOLVERS), (kernel_entry, KERNELS))
            for name in names
        },
        lambda found: Measured(
            {"entries": list(found.values())},
            f"median of {repeats} in turns, float32",
            "toy shapes" if toy else None,
        ),
    )
    commands.measure([cell], tables=["against_libraries"])


if __name__ == "__main__":
    commands.run(main)
