"""The convex problem on all the real data, solved once: what DGKIP aims at."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ddjax.data.problem import Problem, identity
from ddjax.kernels.blocks import gram_in_blocks, map_in_blocks
from ddjax.kernels.losses import Loss
from ddjax.methods import learned_set
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.solvers import erm
from ddjax.storage.cache import Arrays, Cache, no_cache

__all__ = [
    "ReferenceNotConverged",
    "ReferenceSolution",
    "relative_radius",
    "solve_reference",
]


class ReferenceSolution(NamedTuple):
    """The solution on the real data, and what is needed to look at it.

    Attributes:
      weights: the solution in feature space, `(p, *c)`; for an exact kernel the
        coefficients `(n_support, *c)` of its support inputs.
      support: real inputs that carry a non-zero coefficient; None with features.
      squared_norm: squared Hilbert norm of the solution.
      gap: duality gap at which the real problem was left, enlarged to cover the
        rounding of the weights.
      ridge: its absolute regularisation, lambda_O.
      converged: whether the gap is within the tolerance that was asked for.
      params: parameters of the random networks ({} for the inputs themselves).
    """

    weights: Float[Array, "p *c"]
    support: Array | None
    squared_norm: Float[Array, ""]
    gap: Float[Array, ""]
    ridge: Float[Array, ""]
    converged: Bool[Array, ""]
    params: Any


class ReferenceNotConverged(erm.NotConverged):
    """The solution on the real data was left before its tolerance.

    Its attributes are those of `ddjax.solvers.erm.NotConverged`.
    """

    def __init__(self, found: Arrays, *, tolerance: float, radius: float):
        """Says what follows; `radius` is that of `relative_radius`."""
        self.gap, self.primal = float(found["gap"]), float(found["primal"])
        self.tolerance, self.iterations = tolerance, int(found["iterations"])
        RuntimeError.__init__(
            self,
            "the solution on all real data, which samples are distilled towards, did "
            f"not converge to the relative duality gap {tolerance:g}: after "
            f"{self.iterations} iterations it is only known to lie within {radius:.3g} "
            "times its norm of the optimum. Raise solver_iterations, solver_tolerance "
            "or real_ridge",
        )


def solve_reference(
    feature_map: FeatureMap,
    problem: Problem,
    *,
    loss: Loss,
    ridge_per_sample: float,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    require_convergence: bool = False,
    block: int = 256,
    cache: Cache = no_cache,
) -> ReferenceSolution:
    """Solves the convex problem on the real training data, once.

    Where the solver stops short of the tolerance, a warning says by how much.

    Args:
      feature_map: what the model sees inputs through.
      problem: the real data; its training split is used.
      loss: the convex loss.
      ridge_per_sample: lambda_O / n_O.
      tolerance: relative duality gap at which to stop.
      max_iterations: at most so many.
      require_convergence: raise where the tolerance is not reached.
      block: inputs a block while features or kernels are computed.
      cache: keeps the solution (`reference`), and may keep the features of the real
        data (`real_features`).

    Raises:
      ValueError: a problem without at least two classes.
      ReferenceNotConverged: the tolerance is not reached, if that is required.
    """
    labels = learned_set.class_labels(problem.train)
    targets = learned_set.class_targets_for(loss, problem.classes)(labels)
    ridge = ridge_per_sample * len(labels)
    inputs = problem.train.inputs
    exact = feature_map.kind in ("nngp", "ntk")
    params: Any = {}
    if not exact:
        params, _ = feature_maps.build(feature_map, inputs.shape[1:])
    features_known_by = {
        "problem": identity(problem),
        "features": feature_maps.to_recipe(feature_map),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }
    solver: dict[str, Any] = {
        "ridge": ridge,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }

    def compute() -> Arrays:
        if exact:
            return _solve_in_kernel(
                feature_map, inputs, targets, block, {"loss": loss, **solver}
            )
        rows = cache(
            "real_features",
            {**features_known_by, "split": "train"},
            lambda: {
                "features": map_in_blocks(
                    feature_maps.application(feature_map),
                    inputs,
                    block=block,
                    arguments=(params,),
                )
            },
        )["features"]
        solution = erm.solve(rows, targets, loss=loss, **solver)
        weights = np.asarray(solution.weights, np.float64)
        rounded = weights.astype(_dtype())
        rounding = float(np.linalg.norm(weights - rounded))
        return {
            "weights": rounded,
            "squared_norm": np.asarray(np.sum(weights**2)),
            "gap": np.asarray(_gap_after_rounding(solution.gap, ridge, rounding)),
            **_outcome(solution),
        }

    depends_on = {
        **features_known_by,
        **solver,
        "loss": [loss.name, *map(list, loss.settings)],
    }
    found = cache("reference", depends_on, compute)
    converged = bool(np.asarray(found["converged"]))
    dtype = _dtype()
    reference = ReferenceSolution(
        weights=jnp.asarray(found["weights"], dtype),
        support=jnp.asarray(found["support"]) if exact else None,
        squared_norm=jnp.asarray(found["squared_norm"], dtype),
        gap=jnp.asarray(found["gap"], dtype),
        ridge=jnp.asarray(ridge, dtype),
        converged=jnp.asarray(converged),
        params=params,
    )
    if not converged:
        radius = float(relative_radius(reference))
        error = ReferenceNotConverged(found, tolerance=tolerance, radius=radius)
        if require_convergence:
            raise error
        warnings.warn(str(error), stacklevel=2)
    return reference


def relative_radius(reference: ReferenceSolution) -> Float[Array, ""]:
    r"""How far the optimum may be, over the solution's norm.

    .. math:: \sqrt{2\,\mathrm{gap}/\lambda_O}\,/\,\lVert\theta_O\rVert
    """
    squared = 2.0 * reference.gap / (reference.ridge * reference.squared_norm)
    return jnp.sqrt(squared)


def _solve_in_kernel(
    feature_map: FeatureMap,
    inputs: Array | np.ndarray,
    targets: Array,
    block: int,
    settings: dict[str, Any],
) -> Arrays:
    """The reference solution of an exact kernel, by its non-zero coefficients."""
    kernel = feature_maps.kernel(feature_map)
    gram = gram_in_blocks(kernel, inputs, inputs, block=block)
    solution = erm.solve_kernel(gram, targets, **settings)
    coefficients = np.asarray(solution.coefficients, np.float64)
    sizes = np.abs(coefficients.reshape(len(coefficients), -1)).max(axis=1)
    used = np.flatnonzero(sizes > 0)
    return {
        "weights": coefficients[used].astype(_dtype()),
        "support": np.asarray(inputs)[used],
        "squared_norm": np.asarray(solution.squared_norm),
        "gap": np.asarray(solution.gap, np.float64),
        **_outcome(solution),
    }


def _outcome(solution: erm.Solution | erm.KernelSolution) -> Arrays:
    """What is said of a solution that did not converge, and whether it did."""
    return {
        "primal": np.asarray(solution.primal, np.float64),
        "iterations": np.asarray(solution.iterations, np.int64),
        "converged": np.asarray(solution.converged, np.int32),
    }


def _dtype() -> Any:
    return np.dtype(jnp.result_type(float))


def _gap_after_rounding(gap: float, ridge: float, rounding: float) -> float:
    """A gap whose radius `sqrt(2 gap / ridge)` covers the weights' rounding as well."""
    return 0.5 * ridge * (np.sqrt(2.0 * gap / ridge) + rounding) ** 2
