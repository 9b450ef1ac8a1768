r"""What the duality gap proves about a distilled set's test error, beside the truth.

The set's model :math:`\theta_S` lies within a radius of the model :math:`\theta_O` of
all the real data, so that every test point is certainly right, certainly wrong, or
undecided under :math:`\theta_S` without ever solving for it
(`ddjax.kernels.duality.certificate`). Here it is solved for all the same, and the
certified interval stands beside the measured error, which must lie in it.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import check_match, chosen_split
from ddjax.evaluation.convex import compiled_kernel, refuse_larger
from ddjax.evaluation.probe import targets_for
from ddjax.evaluation.representation import representation
from ddjax.kernels import duality, erm, infinite_width, losses
from ddjax.kernels.blocks import gram_in_blocks, map_in_blocks
from ddjax.kernels.losses import Loss
from ddjax.kernels.random_features import Architecture
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = ["certificate"]


class _Sides(NamedTuple):
    """The two convex problems.

    Attributes:
      loss: of both.
      real_targets: hard labels of the real data in the loss's units.
      real_ridge: absolute.
      targets: of the distilled set, in the loss's units.
      ridge: absolute, of the distilled problem.
      solver: tolerance and iterations.
    """

    loss: Loss
    real_targets: Float[Array, "n *c"]
    real_ridge: float
    targets: Float[Array, "m *c"]
    ridge: float
    solver: dict[str, Any]


class _Reference(NamedTuple):
    """The solution on the real data.

    Attributes:
      weights: of features `(p, *c)`, or coefficients of the kernel `(n, *c)`; float64.
      squared_norm: squared norm of the solution.
      gap: absolute duality gap at which it was left.
    """

    weights: ndarray
    squared_norm: float
    gap: float


class _Measured(NamedTuple):
    """A report, and the models that it speaks about.

    Attributes:
      report: of `ddjax.kernels.duality.certificate`.
      predictions: of the distilled set's model on the split.
      reference: of the real data's model on the split.
      deviation: distance of the two models.
    """

    report: dict[str, Any]
    predictions: ndarray
    reference: ndarray
    deviation: float


class _Inputs(NamedTuple):
    """Everything that is looked at, in preprocessed space.

    Attributes:
      real: the training data.
      samples: the distilled set.
      split: what the error is measured on.
      signs_or_labels: the split's true answers, as `duality.certificate` wants them.
      block: inputs at a time.
    """

    real: Array | ndarray
    samples: Array
    split: Array | ndarray
    signs_or_labels: ndarray
    block: int


def certificate(
    *,
    loss: str | None = None,
    loss_settings: Mapping[str, float] | None = None,
    real_ridge: float | None = None,
    distilled_ridge: float | None = None,
    features: str = "distillation",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    largest: int = 8 * 2**30,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """Certified interval of the test error, and the measured test error.

    Solves the convex problem on the real training data (once, however often it is
    evaluated) and on the distilled set. The scalars, under `certificate/`, are every
    number of the report of `ddjax.kernels.duality.certificate`, so that they can be
    stored and checked with `check_certificate`; among them

    - `gap` and `radius`: the duality gap at the real solution, and how far the set's
      model can be from it; `radius_to_exact_reference` allows for the gap at which the
      real problem was left;
    - `error_lower` and `error_upper`: what the test error of the set's model must lie
      between; the same with `midpoint_` for the smaller ball;

    and beside them what was measured: `deviation`, the distance of the two models,
    `error`, the test error of the set's model, and `reference_error`, that of the real
    data's.

    Args:
      loss: of both problems; None takes what the set was distilled with, as do the
        following.
      loss_settings: the loss's own parameters.
      real_ridge: lambda_O per real sample.
      distilled_ridge: lambda_S per distilled sample.
      features: one of `representation.FEATURES`.
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks.
      tolerance: relative duality gap at which both problems are left.
      max_iterations: at most so many.
      largest: bytes of features (n p) or kernel (n n) that may be held.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        setting that neither was given nor is known of the set, or a problem without
        classes.
    """
    given = {
        "loss": loss and {"name": loss, **(loss_settings or {})},
        "real_ridge": real_ridge,
        "distilled_ridge": distilled_ridge,
    }
    if loss is not None:
        losses.get(loss, **dict(loss_settings or {}))
    for name, value in (
        ("real_ridge", real_ridge),
        ("distilled_ridge", distilled_ridge),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be > 0, got {value}")
    maps = representation(
        features, architecture=architecture, networks=networks, draws=1
    )
    name = "certificate" + (f"_{label}" if label else "")
    solver = {"tolerance": tolerance, "max_iterations": max_iterations}
    solved: dict[Any, tuple[Any, _Reference]] = {}

    def reference_for(feature_map: FeatureMap, sides: _Sides, real: Any) -> _Reference:
        """Solved once for the same data, loss and features."""
        what = feature_map, sides.loss, sides.real_ridge
        if what not in solved or solved[what][0] is not real:
            solve = _solve_kernel if _is_kernel(feature_map) else _solve_features
            solved.clear()
            solved[what] = real, solve(feature_map, sides, real, block, largest)
        return solved[what][1]

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        sides = _sides(given, distilled, problem, solver)
        feature_map = maps(key, distilled)[0]
        labels = np.asarray(data.targets)
        single = sides.targets.ndim == 1
        measure = _measure_kernel if _is_kernel(feature_map) else _measure_features
        found = measure(
            feature_map,
            sides,
            reference_for(feature_map, sides, problem.train.inputs),
            _Inputs(
                real=problem.train.inputs,
                samples=decoded_inputs(distilled),
                split=data.inputs,
                signs_or_labels=np.where(labels == 1, 1, -1) if single else labels,
                block=block,
            ),
        )
        numbers = {
            what: float(value)
            for what, value in found.report.items()
            if isinstance(value, int | float)
        }
        numbers["deviation"] = found.deviation
        numbers["error"] = 1.0 - accuracy(found.predictions, labels)
        numbers["reference_error"] = 1.0 - accuracy(found.reference, labels)
        return {f"{name}/{what}": score([value]) for what, value in numbers.items()}

    return Evaluation(name, evaluate)


def _is_kernel(feature_map: FeatureMap) -> bool:
    return feature_map.kind in ("nngp", "ntk")


def _sides(
    given: dict[str, Any],
    distilled: DistilledSet,
    problem: Problem,
    solver: dict[str, Any],
) -> _Sides:
    if not problem.classes:
        raise ValueError(
            f"a certificate bounds a classifier's test error, but problem "
            f"{problem.name!r} has no classes"
        )
    chosen = {}
    for what, value in given.items():
        chosen[what] = distilled.provenance.get(what) if value is None else value
        if chosen[what] is None:
            raise ValueError(
                f"the set does not say the {what} it was distilled with; give {what}"
            )
    settings = dict(chosen["loss"])
    convex = losses.get(settings.pop("name"), **settings)
    labels = np.asarray(problem.train.targets, np.int32)
    targets = targets_for(convex, distilled, problem.classes)
    return _Sides(
        loss=convex,
        real_targets=learning_targets.hard_targets(labels, convex, problem.classes),
        real_ridge=chosen["real_ridge"] * len(labels),
        targets=targets,
        ridge=chosen["distilled_ridge"] * len(targets),
        solver=solver,
    )


def _solve_features(
    feature_map: FeatureMap, sides: _Sides, real: Any, block: int, largest: int
) -> _Reference:
    params, apply = feature_maps.build(feature_map, real.shape[1:])
    one = jax.eval_shape(apply, params, jnp.zeros((1, *real.shape[1:])))
    refuse_larger(4 * len(real) * one.size, largest, "features")
    features = map_in_blocks(apply, real, block=block, arguments=(params,))
    found = erm.solve(
        features,
        sides.real_targets,
        loss=sides.loss,
        ridge=sides.real_ridge,
        **sides.solver,
    )
    return _Reference(found.weights, float(np.sum(found.weights**2)), found.gap)


def _solve_kernel(
    feature_map: FeatureMap, sides: _Sides, real: Any, block: int, largest: int
) -> _Reference:
    refuse_larger(4 * len(real) ** 2, largest, "kernel")
    found = erm.solve_kernel(
        gram_in_blocks(compiled_kernel(feature_map), real, block=block),
        sides.real_targets,
        loss=sides.loss,
        ridge=sides.real_ridge,
        **sides.solver,
    )
    return _Reference(found.coefficients, found.squared_norm, found.gap)


def _measure_features(
    feature_map: FeatureMap, sides: _Sides, reference: _Reference, inputs: _Inputs
) -> _Measured:
    params, apply = feature_maps.build(feature_map, inputs.samples.shape[1:])
    samples, split = (
        map_in_blocks(apply, rows, block=inputs.block, arguments=(params,))
        for rows in (inputs.samples, inputs.split)
    )
    own = erm.solve(
        samples, sides.targets, loss=sides.loss, ridge=sides.ridge, **sides.solver
    )
    report = duality.certificate(
        reference.weights,
        samples,
        sides.targets,
        loss=sides.loss,
        ridge=sides.ridge,
        duals=own.duals,
        reference_gap=reference.gap,
        reference_ridge=sides.real_ridge,
        test_features=split,
        test_labels=inputs.signs_or_labels,
    )
    return _Measured(
        report,
        _product(split, own.weights),
        _product(split, reference.weights),
        float(np.linalg.norm(own.weights - reference.weights)),
    )


def _measure_kernel(
    feature_map: FeatureMap, sides: _Sides, reference: _Reference, inputs: _Inputs
) -> _Measured:
    kernel, block = compiled_kernel(feature_map), inputs.block

    def between(rows: Any, columns: Any) -> ndarray:
        return gram_in_blocks(kernel, rows, columns, block=block)

    gram = gram_in_blocks(kernel, inputs.samples, block=block)
    of_samples = _product(between(inputs.samples, inputs.real), reference.weights)
    of_split = _product(between(inputs.split, inputs.real), reference.weights)
    cross = between(inputs.split, inputs.samples)
    own = erm.solve_kernel(
        gram, sides.targets, loss=sides.loss, ridge=sides.ridge, **sides.solver
    )
    report = duality.kernel_certificate(
        of_samples,
        reference.squared_norm,
        gram,
        sides.targets,
        loss=sides.loss,
        ridge=sides.ridge,
        duals=own.duals,
        reference_gap=reference.gap,
        reference_ridge=sides.real_ridge,
        test_predictions=of_split,
        test_diagonal=_diagonal(feature_map, inputs.split, block),
        test_labels=inputs.signs_or_labels,
        test_gram=cross,
    )
    shared = float(np.sum(own.coefficients * of_samples))
    square = reference.squared_norm - 2.0 * shared + own.squared_norm
    return _Measured(
        report,
        _product(cross, own.coefficients),
        of_split,
        math.sqrt(max(square, 0.0)),
    )


def _diagonal(feature_map: FeatureMap, inputs: Any, block: int) -> ndarray:
    assert feature_map.architecture is not None
    kind: Any = feature_map.kind
    diagonal = infinite_width.diagonal_fn(feature_map.architecture, kind=kind)
    return map_in_blocks(diagonal, inputs, block=block)


def _product(rows: ndarray, weights: ndarray) -> ndarray:
    """`rows @ weights` in float64, a few rows at a time."""
    parts = np.array_split(rows, max(1, len(rows) // 256))
    return np.concatenate([part.astype(np.float64) @ weights for part in parts])
