r"""What the duality gap proves about a distilled set's test error, beside the truth.

The set's model :math:`\theta_S` lies within a radius of the model :math:`\theta_O` of
all the real data, so that every test point is certainly right, certainly wrong, or
undecided under :math:`\theta_S` without ever solving for it
(`ddjax.solvers.certificates.certificate`). Here it is solved for all the same, and the
certified interval stands beside the measured error, which must lie in it.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_positive
from ddjax.data.problem import Problem
from ddjax.evaluation import checks, convex
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.convex import Fitted, View
from ddjax.evaluation.matching import learning_pairs, matched_problem
from ddjax.evaluation.reference import (
    ConvexProblems,
    convex_problems,
    exact_product,
    reference_predictions,
    reference_solution,
)
from ddjax.evaluation.representation import representation
from ddjax.evaluation.wording import number, percent
from ddjax.kernels import infinite_width, losses
from ddjax.kernels.blocks import gram_in_blocks, map_in_blocks
from ddjax.kernels.random_features import Architecture
from ddjax.solvers import certificates, erm
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

__all__ = ["certificate", "error_bounds", "in_words"]


class _Measured(NamedTuple):
    """A report, the models' predictions on the split, and the distance of the two."""

    report: dict[str, Any]
    predictions: Float[ndarray, "n *c"]
    reference: Float[ndarray, "n *c"]
    deviation: float
    own: erm.Solution | erm.KernelSolution


class _Judged(NamedTuple):
    """What a certificate is about.

    `answers` are the split's true signs or labels, as `certificates.certificate` wants
    them; `block` is how many inputs go at a time.
    """

    view: View
    problems: ConvexProblems
    reference: Fitted
    samples: Float[Array | ndarray, "m *shape"]
    problem: Problem
    split: str
    answers: Int[ndarray, " n"]
    block: int
    cache: Cache


def certificate(
    *,
    loss: str | None = None,
    loss_settings: Mapping[str, float] | None = None,
    real_ridge_per_sample: float | None = None,
    distilled_ridge_per_sample: float | None = None,
    features: str = "distillation",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    require_convergence: bool = False,
    largest: int = 8 * 2**30,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """Certified interval of the test error, and the measured test error.

    Solves the convex problem on the real training data (once, however often it is
    evaluated with one cache) and on the distilled set. The scalars, under
    `certificate/`, are every number of the report of
    `ddjax.solvers.certificates.certificate`, so that they can be stored and checked
    with `check_certificate`; among them

    - `gap` and `radius`: the duality gap at the real solution, and how far the set's
      model can be from it; `radius_to_exact_reference` allows for the gap at which the
      real problem was left;
    - `error_lower` and `error_upper`: what the test error of the set's model must lie
      between; the same with `midpoint_` for the smaller ball;

    beside them what was measured: `deviation`, the distance of the two models, `error`,
    the test error of the set's model, and `reference_error`, that of the real data's;
    and what to make of it: `reference_norm`, the norm of the real solution, with
    `relative_deviation` and `relative_radius`, the distance and its bound over that
    norm (as the metric `deviation_bound` of DGKIP's steps is); `reference_converged`
    and `converged`, 1 where the real and the distilled problem were solved to the
    tolerance; and `proves_something`, 0 where no test point is decided. `in_words` says
    it as a sentence; where a solution did not converge, that sentence is part of a
    warning.

    Args:
      loss: of both problems; None takes what the set was distilled with, as do the
        following.
      loss_settings: the loss's own parameters.
      real_ridge_per_sample: lambda_O per real sample.
      distilled_ridge_per_sample: lambda_S per distilled sample.
      features: one of `representation.FEATURES`.
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks.
      tolerance: relative duality gap at which both problems are left.
      max_iterations: at most so many.
      require_convergence: raise instead of warning where the tolerance is not reached.
      largest: bytes of features (n p) or kernel (n n) that may be held.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        setting that neither was given nor is known of the set, or a problem without
        classes.
      ddjax.solvers.erm.NotConverged: when it is evaluated, if convergence is required.
    """
    settings = plain(locals(), "settings")
    if loss is not None:
        losses.get(loss, **dict(loss_settings or {}))
    given = {
        "real_ridge_per_sample": real_ridge_per_sample,
        "distilled_ridge_per_sample": distilled_ridge_per_sample,
    }
    check_positive(required=False, **given)
    check_positive(required=True, tolerance=tolerance)
    maps = representation(
        features, architecture=architecture, networks=networks, draws=1
    )
    name = "certificate" + (f"_{label}" if label else "")
    solver = {"tolerance": tolerance, "max_iterations": max_iterations}
    given_loss = None if loss is None else {"name": loss, **(loss_settings or {})}

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        problem = matched_problem(distilled, problem, split, "train")
        pairs = learning_pairs(distilled, problem)
        problems = convex_problems(
            distilled,
            pairs,
            problem,
            loss=given_loss,
            **given,
            solver=solver,
        )
        view = convex.view_through(maps(key, distilled)[0], pairs.inputs.shape[1:])
        labels = checks.known_labels(problem, split)
        reference = reference_solution(
            view, problems, problem, block=block, largest=largest, cache=cache
        )
        single = problems.targets.ndim == 1
        measure = _measure_kernel if view.exact else _measure_features
        found = measure(
            _Judged(
                view=view,
                problems=problems,
                reference=reference,
                samples=pairs.inputs,
                problem=problem,
                split=split,
                answers=np.where(labels == 1, 1, -1) if single else labels,
                block=block,
                cache=cache,
            )
        )
        numbers = _numbers(found, reference, labels)
        for what, solution in (("real data", reference), ("distilled set", found.own)):
            checks.check_convergence(
                f"the solution of {name!r} on the {what}",
                solution,
                tolerance=tolerance,
                required=require_convergence,
                consequence=in_words(numbers),
            )
        return {f"{name}/{what}": score([value]) for what, value in numbers.items()}

    return Evaluation(name, settings, evaluate)


def in_words(numbers: Mapping[str, float]) -> str:
    """What a certificate proves, as a sentence.

    Args:
      numbers: the scalars of the evaluation by their names without its prefix.
    """
    lower, upper = error_bounds(numbers)
    ball = (
        "the distance of the set's model from the real data's is only known to be at "
        f"most {number(numbers['relative_radius'])} times that model's norm"
    )
    if not numbers["proves_something"]:
        return f"the certificate proves nothing about the test error: {ball}"
    return (
        f"the test error is proven to lie between {percent(lower)} and "
        f"{percent(upper)}: {ball.replace('only known', 'proven')}"
    )


def error_bounds(numbers: Mapping[str, float]) -> tuple[float, float]:
    """Between which the test error is proven to lie, by both balls together.

    Args:
      numbers: as for `in_words`.
    """
    return (
        max(numbers["error_lower"], numbers["midpoint_error_lower"]),
        min(numbers["error_upper"], numbers["midpoint_error_upper"]),
    )


def _numbers(
    found: _Measured, reference: Fitted, labels: Int[ndarray, " n"]
) -> dict[str, float]:
    numbers = {
        what: float(value)
        for what, value in found.report.items()
        if isinstance(value, int | float)
    }
    widths = [
        numbers[f"{ball}error_upper"] - numbers[f"{ball}error_lower"]
        for ball in ("", "midpoint_")
    ]
    norm = math.sqrt(reference.squared_norm)
    return {
        **numbers,
        "deviation": found.deviation,
        "relative_deviation": found.deviation / max(norm, 1e-300),
        "relative_radius": numbers["radius"] / max(norm, 1e-300),
        "error": 1.0 - accuracy(found.predictions, labels),
        "reference_error": 1.0 - accuracy(found.reference, labels),
        "reference_norm": norm,
        "reference_converged": float(reference.converged),
        "converged": float(found.own.converged),
        "proves_something": float(min(widths) < 1.0),
    }


def _measure_features(judged: _Judged) -> _Measured:
    view, problems, reference = judged.view, judged.problems, judged.reference
    samples = convex.features_of(view, judged.samples, block=judged.block)
    split = np.asarray(
        convex.split_features(
            view, judged.problem, judged.split, block=judged.block, cache=judged.cache
        )
    )
    posed: dict[str, Any] = {"loss": problems.loss, "ridge": problems.ridge}
    own = erm.solve(samples, problems.targets, **posed, **problems.solver)
    report = certificates.certificate(
        reference.weights,
        samples,
        problems.targets,
        **posed,
        duals=own.duals,
        reference_gap=reference.gap,
        reference_ridge=problems.real_ridge,
        test_features=split,
        test_labels=judged.answers,
    )
    return _Measured(
        report,
        exact_product(split, own.weights),
        exact_product(split, reference.weights),
        float(np.linalg.norm(own.weights - reference.weights)),
        own,
    )


def _measure_kernel(judged: _Judged) -> _Measured:
    view, problems, reference = judged.view, judged.problems, judged.reference
    kernel, samples = convex.compiled_kernel(view.feature_map), judged.samples
    inputs = getattr(judged.problem, judged.split).inputs

    def between(rows: Any, columns: Any) -> ndarray:
        return gram_in_blocks(kernel, rows, columns, block=judged.block)

    gram = between(samples, samples)
    to_real = between(samples, judged.problem.train.inputs)
    of_samples = exact_product(to_real, reference.weights)
    of_split = reference_predictions(
        view,
        reference,
        problems,
        judged.problem,
        judged.split,
        block=judged.block,
        cache=judged.cache,
    )
    cross = between(inputs, samples)
    posed: dict[str, Any] = {"loss": problems.loss, "ridge": problems.ridge}
    own = erm.solve_kernel(gram, problems.targets, **posed, **problems.solver)
    report = certificates.kernel_certificate(
        of_samples,
        reference.squared_norm,
        gram,
        problems.targets,
        **posed,
        duals=own.duals,
        reference_gap=reference.gap,
        reference_ridge=problems.real_ridge,
        test_predictions=of_split,
        test_diagonal=_diagonal(judged),
        test_labels=judged.answers,
        test_gram=cross,
    )
    shared = float(np.sum(own.coefficients * of_samples))
    square = reference.squared_norm - 2.0 * shared + own.squared_norm
    return _Measured(
        report,
        exact_product(cross, own.coefficients),
        of_split,
        math.sqrt(max(square, 0.0)),
        own,
    )


def _diagonal(judged: _Judged) -> Float[ndarray, " n"]:
    feature_map = judged.view.feature_map
    assert feature_map.architecture is not None
    kind: Any = feature_map.kind
    diagonal = infinite_width.diagonal_fn(feature_map.architecture, kind=kind)
    inputs = getattr(judged.problem, judged.split).inputs
    return map_in_blocks(diagonal, inputs, block=judged.block)
