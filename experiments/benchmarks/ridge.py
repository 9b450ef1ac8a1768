r"""Ridge regression and its gradient, against three other ways to compute them.

    python -m experiments.benchmarks.ridge [--again] [--toy]

Two problems, each solved and differentiated:

- `features`: :math:`W = F^\top (F F^\top + \lambda I)^{-1} Y` or its feature-space
  form, whichever side is smaller;
- `kernel`: :math:`\alpha = (K + \lambda I)^{-1} Y`, the Gram being given.

The gradient is that of :math:`\tfrac12 \lVert G \circ W \rVert^2` with a fixed G, in
the features (or the Gram) and the targets: the solution and everything behind it count.

The others: `jnp.linalg.solve` and its automatic derivative; lineax's Cholesky solver
and its automatic derivative; scipy's Cholesky with the adjoint written out by hand in
NumPy, the least work that the gradient can be had for. All in float32, with the same
matrix products and the same smaller side.

Writes `experiments/results/benchmarks/ridge.json`, which `--again` measures anew, on
your machine: a minute and a half on two cores.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array

from ddjax.kernels import ridge
from experiments import commands
from experiments.benchmarks import common
from experiments.commands import Cell, Measured

__all__ = ["FULL", "TOY", "Shape", "main", "measure"]

OURS = "ddjax"
_OPTIONS = common.define_flags()


class Shape(NamedTuple):
    """Samples m, features p and outputs c of one problem."""

    samples: int
    features: int
    outputs: int


FULL = (
    Shape(100, 4096, 10),
    Shape(500, 4096, 10),
    Shape(2000, 4096, 10),
    Shape(8192, 1024, 10),
)
TOY = (Shape(8, 16, 2), Shape(16, 8, 2))


class _Problem(NamedTuple):
    rows: np.ndarray
    gram: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    kernel_mask: np.ndarray
    ridge: float


def _problem(shape: Shape, seed: int) -> _Problem:
    draw = np.random.default_rng(seed)
    m, p, c = shape
    rows = draw.normal(size=(m, p)) / np.sqrt(p)
    arrays = [
        np.asarray(array, np.float32)
        for array in (
            rows,
            rows @ rows.T,
            draw.normal(size=(m, c)),
            draw.normal(size=(p, c)),
            draw.normal(size=(m, c)),
        )
    ]
    return _Problem(*arrays, ridge=0.1)


# Solutions: (rows, targets, ridge) -> weights, and (gram, targets, ridge) -> alpha.


def _from_regularised(
    solve: Callable[[Array, Array], Array],
) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Both problems by a solver of `A x = b`, A symmetric positive definite."""

    def regularised(gram: Array, strength: float) -> Array:
        return gram + strength * jnp.eye(gram.shape[0], dtype=gram.dtype)

    def features(rows: Array, targets: Array, strength: float) -> Array:
        if rows.shape[0] <= rows.shape[1]:
            return rows.T @ solve(regularised(rows @ rows.T, strength), targets)
        return solve(regularised(rows.T @ rows, strength), rows.T @ targets)

    def kernel(gram: Array, targets: Array, strength: float) -> Array:
        return solve(regularised(gram, strength), targets)

    return features, kernel


def _lineax_solve(matrix: Array, right: Array) -> Array:
    import lineax

    operator = lineax.MatrixLinearOperator(matrix, lineax.positive_semidefinite_tag)
    solver = lineax.Cholesky()
    state = solver.init(operator, {})

    def one(column: Array) -> Array:
        return lineax.linear_solve(operator, column, solver, state=state).value

    return jax.vmap(one, in_axes=1, out_axes=1)(right)


def _traceable(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    if name == OURS:
        return (
            lambda rows, targets, s: ridge.solve(rows, targets, ridge=s).weights,
            lambda gram, y, s: ridge.kernel_solve(gram, y, ridge=s).coefficients,
        )
    solver = {"jnp.linalg.solve": jnp.linalg.solve, "lineax": _lineax_solve}[name]
    return _from_regularised(solver)


def _scipy_kernel(
    gram: np.ndarray, targets: np.ndarray, strength: float, mask: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """Alpha, and with a mask the gradients in the Gram and the targets."""
    matrix = gram + np.float32(strength) * np.eye(len(gram), dtype=gram.dtype)
    factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True)
    alpha = scipy.linalg.cho_solve(factor, targets)
    if mask is None:
        return (alpha,)
    adjoint = scipy.linalg.cho_solve(factor, mask * mask * alpha)
    return alpha, -adjoint @ alpha.T, adjoint


def _scipy_features(
    rows: np.ndarray, targets: np.ndarray, strength: float, mask: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """Weights, and with a mask the gradients in the features and the targets."""
    samples = len(rows) <= rows.shape[1]
    gram = rows @ rows.T if samples else rows.T @ rows
    matrix = gram + np.float32(strength) * np.eye(len(gram), dtype=gram.dtype)
    factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True)
    if samples:
        alpha = scipy.linalg.cho_solve(factor, targets)
        weights = rows.T @ alpha
        if mask is None:
            return (weights,)
        outer = mask * mask * weights
        adjoint = scipy.linalg.cho_solve(factor, rows @ outer)
        gradient = alpha @ outer.T - adjoint @ weights.T - alpha @ (adjoint.T @ rows)
        return weights, gradient, adjoint
    weights = scipy.linalg.cho_solve(factor, rows.T @ targets)
    if mask is None:
        return (weights,)
    adjoint = scipy.linalg.cho_solve(factor, mask * mask * weights)
    gradient = (
        targets @ adjoint.T - (rows @ adjoint) @ weights.T - rows @ weights @ adjoint.T
    )
    return weights, gradient, rows @ adjoint


def _calls(problem: _Problem, of: str, what: str) -> dict[str, Callable[[], Any]]:
    """Calls by name, giving the solution, or the gradient in matrix and targets."""
    which = ("features", "kernel").index(of)
    matrix = (problem.rows, problem.gram)[which]
    mask = (problem.mask, problem.kernel_mask)[which]
    on_device = jnp.asarray(matrix), jnp.asarray(problem.targets)
    mask_on_device = jnp.asarray(mask)
    calls: dict[str, Callable[[], Any]] = {}
    for name in (OURS, "jnp.linalg.solve", "lineax"):
        solve = _traceable(name)[which]

        def outer(matrix: Array, targets: Array, solve: Any = solve) -> Array:
            solution = solve(matrix, targets, problem.ridge)
            return 0.5 * jnp.sum(jnp.square(mask_on_device * solution))

        if what == "solution":
            compiled = jax.jit(lambda a, y, f=solve: f(a, y, problem.ridge))
        else:
            compiled = jax.jit(jax.grad(outer, argnums=(0, 1)))
        calls[name] = functools.partial(compiled, *on_device)
    by_hand = (_scipy_features, _scipy_kernel)[which]
    of_gradient = None if what == "solution" else mask
    calls["scipy"] = functools.partial(
        by_hand, matrix, problem.targets, problem.ridge, of_gradient
    )
    return calls


def _disagreement(calls: dict[str, Callable[[], Any]], what: str, of: str) -> float:
    """Largest difference between ours and the others, relative to the largest entry.

    The gradient in a Gram counts as symmetric: only its symmetric part is defined.
    """

    def read(name: str) -> list[np.ndarray]:
        arrays = [np.asarray(array) for array in jax.tree.leaves(calls[name]())]
        arrays = arrays[:1] if what == "solution" else arrays[-2:]
        if what == "gradient" and of == "kernel":
            arrays[0] = 0.5 * (arrays[0] + arrays[0].T)
        return arrays

    ours = read(OURS)
    worst = 0.0
    for name in calls.keys() - {OURS}:
        for mine, other in zip(ours, read(name), strict=True):
            worst = max(worst, float(np.abs(mine - other).max() / np.abs(mine).max()))
    return worst


def measure(
    shapes: Sequence[Shape], *, seed: int, repeats: int
) -> list[dict[str, Any]]:
    """One entry per shape, problem (features, kernel) and quantity."""
    entries = []
    for shape in shapes:
        problem = _problem(shape, seed)
        for of in ("features", "kernel"):
            if of == "kernel" and shape.samples > shape.features:
                continue  # a Gram of more samples than features has no full rank
            for what in ("solution", "gradient"):
                calls = _calls(problem, of, what)
                timings = common.time_in_turns(calls, repeats=repeats)
                entries.append(
                    {
                        "problem": of,
                        "quantity": what,
                        "shape": shape,
                        "seconds": timings,
                        "times_ours": common.ratios(timings, base=OURS),
                        "disagreement": _disagreement(calls, what, of),
                    }
                )
    return entries


def main() -> None:
    """Times every shape."""
    shapes = TOY if _OPTIONS.toy.value else FULL
    seed, repeats = _OPTIONS.seed.value, _OPTIONS.repeats.value
    cell = Cell(
        "benchmarks/ridge",
        {"seed": seed, "repeats": repeats, "shapes": shapes},
        {
            " x ".join(map(str, shape)): functools.partial(
                measure, (shape,), seed=seed, repeats=repeats
            )
            for shape in shapes
        },
        lambda found: Measured(
            {"entries": [entry for part in found.values() for entry in part]},
            f"{len(shapes)} shapes, median of {repeats} in turns, float32",
            "toy shapes" if _OPTIONS.toy.value else None,
        ),
    )
    commands.measure([cell], tables=["ridge"])


if __name__ == "__main__":
    commands.run(main)
