r"""DGKIP: kernel inducing points for any convex loss, through the duality gap.

Let :math:`\theta_O` solve the regularised problem on the real data. A distilled set S
whose own problem has a small duality gap *at* :math:`\theta_O` has its solution nearby:

.. math::
    \|\theta_S - \theta_O\|^2 \le \frac{2}{\lambda_S} G_S(\theta_O, a), \qquad
    G_S = P_S(\theta_O) - D_S(a)

for every feasible dual `a` (theorem 3.2), so that the samples can be learned by
descending the gap itself: no inner problem is ever solved. With the duals of the
optimality condition the gap is :math:`\|\nabla P_S(\theta_O)\|^2/(2\lambda_S)` for
differentiable losses (`ddjax.kernels.duality`), which costs no more than the forward
and backward pass of m samples.

Corrections and additions to the paper: its printed dual lacks :math:`1/\lambda`;
several classes (softmax, Crammer-Singer, one-vs-rest), exact kernels, and the objective
`log_gap`. The gap falls by many orders of magnitude during a run, and the second-moment
memory of an adaptive optimiser then holds the early, huge gradients against the late,
small ones; the gradient of the logarithm has no such scale.

With few samples and the paper's tiny :math:`\lambda_S` there is a trap besides: far
beyond the margin every dual vanishes, the gap is :math:`\lambda_S\|\theta_O\|^2/2`
(relative bound 1), and no gradient is left. Two ways around it:

- `duals="learned"`. The bound holds for every feasible dual, so the duals may be
  learned beside the samples, :math:`a_i = -\partial\ell(y_i, u_i)` at free outputs
  :math:`u_i`, and the Fenchel-Young slack between :math:`u_i` and the reference's
  output pulls a sample back to where it counts. At the optimal duals the gap is
  :math:`P_S(\theta_O) - P_S(\theta_S)`, never more than the paper's. The hinge is
  descended through the smooth loss that its surrogate duals belong to (`soft_hinge`),
  because the best duals of a kink are worth nothing on either side of it; the metric
  `gap` stays the hinge's own.
- `start_ridge`, by continuation: a large :math:`\lambda_S` keeps the samples near the
  margin, and falls along the run.

Source: "Generalized Kernel Inducing Points by Duality Gap for Dataset Distillation",
arXiv 2502.12607.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, UInt

from ddjax.data.problem import Problem
from ddjax.kernels import duality, erm, losses, random_features
from ddjax.kernels.losses import Loss
from ddjax.methods import optimization
from ddjax.methods.base import Arrays, Method, Remember, remember_nothing
from ddjax.methods.optimization import State
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.synthetic.distilled import DistilledSet

Form = Literal["auto", "full", "gradient_norm"]

__all__ = [
    "DUALS",
    "OBJECTIVES",
    "Reference",
    "dgkip",
    "distilled_gap",
    "solve_reference",
]

OBJECTIVES = ("log_gap", "gap")
DUALS = ("optimality", "learned")

# The smooth losses that the surrogate duals of losses with kinks belong to.
_STAND_INS = {"hinge": "soft_hinge", "multiclass_hinge": "soft_multiclass_hinge"}


class Reference(NamedTuple):
    """The solution on the real data, and what is needed to look at it.

    Attributes:
      weights: the solution in feature space, `(p, *c)`; for an exact kernel the
        coefficients `(n_support, *c)` of its support inputs.
      support: real inputs that carry a non-zero coefficient; None with features.
      squared_norm: squared Hilbert norm of the solution.
      gap: duality gap at which the real problem was left, enlarged to cover the
        rounding of the weights to float32.
      ridge: its absolute regularisation, lambda_O.
      params: parameters of the random networks ({} for the inputs themselves).
      key_data: words of the key they were drawn from.
    """

    weights: Float[Array, "p *c"]
    support: Array | None
    squared_norm: Float[Array, ""]
    gap: Float[Array, ""]
    ridge: Float[Array, ""]
    params: Any
    key_data: UInt[Array, " words"]


def dgkip(
    *,
    loss: str = "logistic",
    loss_settings: Mapping[str, float] | None = None,
    per_class: int = 1,
    features: Mapping[str, Any] | None = None,
    real_ridge: float = 1e-6,
    distilled_ridge: float = 1e-6,
    start_ridge: float | None = None,
    anneal_steps: int = 0,
    objective: str = "log_gap",
    form: Form = "auto",
    gap_space: str = "auto",
    duals: str = "optimality",
    duals_learning_rate: float = 0.1,
    learn_targets: bool = True,
    initialization: str = "real",
    parameterization: str | Mapping[str, Any] = "pixels",
    optimizer: str = "adabelief",
    learning_rate: float = 1e-2,
    targets_learning_rate: float | None = None,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
    solver_tolerance: float = 1e-4,
    solver_iterations: int = 500,
    block: int = 256,
    sample_block: int | None = None,
) -> Method:
    r"""Builds DGKIP as a `Method`.

    Args:
      loss: a name in `ddjax.kernels.losses.LOSSES`. Margin losses (`logistic`, `hinge`,
        `smoothed_hinge`, `squared_hinge`) treat two classes as one problem and more as
        one-vs-rest; `softmax` and `multiclass_hinge` treat any number jointly. Where a
        loss is flat (squared hinges beyond the margin) samples get no gradient: start
        from noise.
      loss_settings: the loss's own parameters.
      per_class: samples a class (IPC).
      features: what the convex model sees inputs through, see
        `ddjax.models.feature_maps.from_settings`; the default is 30 fully connected
        networks of 3 x 1024. With `nngp` and `ntk` the real problem is solved on its
        n x n kernel.
      real_ridge: lambda_O per real sample; the paper's lambda_O is n_O 1e-6.
      distilled_ridge: lambda_S per distilled sample; the paper's is n_S 1e-6.
      start_ridge: lambda_S per sample at the first step, which falls geometrically to
        `distilled_ridge` over `anneal_steps`; None (the paper) starts at the end.
      anneal_steps: over how many steps.
      objective: `log_gap`, or the paper's `gap`.
      form: of the gap, see `ddjax.kernels.duality.gap`.
      gap_space: `features` (no m x m kernel), `kernel` (as the paper writes it), or
        `auto`: features wherever there are any.
      duals: `optimality`, the paper's: those of the optimality condition at the
        reference; or `learned`, for classification losses.
      duals_learning_rate: of the outputs that learned duals belong to, > 0.
      learn_targets: learn the labels too: real numbers for margin and regression
        losses, points of the simplex for multiclass losses.
      initialization: see `ddjax.synthetic.initialization.select`.
      parameterization: see `ddjax.methods.optimization.learner`.
      optimizer: likewise; the paper's is AdaBelief, eps 1e-16.
      learning_rate: likewise; the paper's is 1e-2, constant.
      targets_learning_rate: likewise.
      decay_steps: likewise.
      warmup_steps: likewise.
      solver_tolerance: relative duality gap at which the real problem is left.
      solver_iterations: at most so many iterations for it.
      block: real inputs a block while their features are computed.
      sample_block: samples at once within a step, see
        `ddjax.models.feature_maps.in_blocks`.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {OBJECTIVES}, got {objective!r}")
    if gap_space not in ("auto", "features", "kernel"):
        raise ValueError(
            f"gap_space must be 'auto', 'features' or 'kernel', got {gap_space!r}"
        )
    if duals not in DUALS:
        raise ValueError(f"duals must be one of {DUALS}, got {duals!r}")
    for name, value in (
        ("real_ridge", real_ridge),
        ("distilled_ridge", distilled_ridge),
        ("start_ridge", distilled_ridge if start_ridge is None else start_ridge),
    ):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"{name} must be > 0 (the bound divides by it), got {value}"
            )
    convex = losses.get(loss, **dict(loss_settings or {}))
    learned_duals = duals == "learned"
    if learned_duals and convex.kind == "regression":
        raise ValueError(
            f"duals='learned' is for classification losses, got loss {loss!r}: the "
            "duals of a regression loss do not vanish"
        )
    descended = (
        losses.get(_STAND_INS[loss])
        if (learned_duals and loss in _STAND_INS)
        else convex
    )

    # The networks are drawn from the run's key in `prepare`; what is applied to them is
    # fixed by the settings.
    def feature_map(key: PRNGKeyArray) -> FeatureMap:
        return feature_maps.from_settings(key, features)

    shape_of = feature_map(jax.random.key(0))
    parts = optimization.learner(
        per_class=per_class,
        initialization=initialization,
        parameterization=parameterization,
        optimizer=optimizer,
        learning_rate=learning_rate,
        learn_targets=learn_targets,
        targets_learning_rate=targets_learning_rate,
        decay_steps=decay_steps,
        warmup_steps=warmup_steps,
        extra_learning_rates={"outputs": duals_learning_rate} if learned_duals else {},
        project_targets=_project_rows if convex.kind == "multiclass" else None,
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> Reference:
        return solve_reference(
            feature_map(key),
            problem,
            loss=convex,
            ridge_per_sample=real_ridge,
            tolerance=solver_tolerance,
            max_iterations=solver_iterations,
            block=block,
            remember=remember,
        )

    def init(key: PRNGKeyArray, problem: Problem, data: Reference) -> State:
        targets = optimization.class_targets_for(convex, problem.classes)
        if not learned_duals:
            return parts.start(key, problem, targets)
        count = per_class * problem.classes
        blank = jnp.zeros_like(targets(jnp.zeros(count, jnp.int32)))
        # No optimiser's first state depends on the values, only on their shapes.
        state = parts.start(key, problem, targets, {"outputs": blank})

        def objective(outputs: Array) -> Array:
            learned = {**state.learned, "outputs": outputs}
            return gaps(learned, data, jnp.zeros((), jnp.int32))[0]

        outputs = _first_outputs(objective, state.learned["targets"], descended)
        return state._replace(learned={**state.learned, "outputs": outputs})

    def ridge_at(step: Array) -> Array:
        if start_ridge is None or not anneal_steps:
            return jnp.float32(distilled_ridge)
        left = jnp.maximum(0.0, 1.0 - step.astype(jnp.float32) / anneal_steps)
        return distilled_ridge * jnp.float32(start_ridge / distilled_ridge) ** left

    def gaps(
        learned: dict[str, Any], reference: Reference, step: Array
    ) -> tuple[Array, Array]:
        """What is descended, and the gap of the set's own problem."""
        inputs, targets = parts.inputs(learned), learned["targets"]
        seen = _see(
            reference,
            shape_of,
            inputs,
            in_kernel=gap_space == "kernel",
            sample_block=sample_block,
        )
        free = None
        if learned_duals:
            free = _duals_at(learned["outputs"], targets, descended)

        def at(loss: Loss, ridge: Array) -> Array:
            absolute = ridge * inputs.shape[0]
            return _gap(
                reference,
                seen,
                targets,
                loss=loss,
                ridge=absolute,
                form=form,
                duals=free,
            )

        value = at(descended, ridge_at(step))
        value = jnp.log(value) if objective == "log_gap" else value
        return value, at(convex, jnp.float32(distilled_ridge))

    def step(state: State, batch: Reference, key: PRNGKeyArray):
        del key
        (value, gap), gradients = jax.value_and_grad(gaps, has_aux=True)(
            state.learned, batch, state.step
        )
        ridge = distilled_ridge * state.learned["targets"].shape[0]
        deviation = jnp.sqrt(2.0 * gap / (ridge * batch.squared_norm))
        metrics = {"loss": value, "gap": gap, "deviation_bound": deviation}
        return parts.update(state, gradients), metrics

    def distilled(state: State, problem: Problem, data: Reference) -> DistilledSet:
        recipe = feature_maps.to_recipe(
            feature_map(jax.random.wrap_key_data(data.key_data))
        )
        return optimization.distilled_set(
            state,
            problem,
            parts,
            targets_kind=optimization.targets_kind_for(convex, problem.classes),
            provenance={
                "features": recipe,
                "loss": {"name": loss, **dict(loss_settings or {})},
                "distilled_ridge": distilled_ridge,
                "real_ridge": real_ridge,
            },
        )

    return Method(prepare, init, lambda key, data: data, step, distilled)


class _Seen(NamedTuple):
    """Samples as the reference sees them; features, or kernel values alone."""

    rows: Array | None
    gram: Array | None
    predictions: Array | None


def _see(
    reference: Reference,
    feature_map: FeatureMap,
    inputs: Array,
    *,
    in_kernel: bool,
    sample_block: int | None,
) -> _Seen:
    if reference.support is not None:
        kernel = feature_maps.kernel(feature_map)
        predictions = kernel(inputs, reference.support) @ reference.weights
        return _Seen(None, kernel(inputs, inputs), predictions)
    apply = feature_maps.in_blocks(feature_maps.application(feature_map), sample_block)
    rows = apply(reference.params, inputs)
    if in_kernel:
        return _Seen(None, rows @ rows.T, rows @ reference.weights)
    return _Seen(rows, None, None)


def _gap(
    reference: Reference, seen: _Seen, targets: Array, *, ridge: Any, **settings: Any
) -> Array:
    if seen.rows is not None:
        return duality.gap(
            reference.weights, seen.rows, targets, ridge=ridge, **settings
        )
    assert seen.gram is not None and seen.predictions is not None
    return duality.kernel_gap(
        seen.predictions,
        reference.squared_norm,
        seen.gram,
        targets,
        ridge=ridge,
        **settings,
    )


def distilled_gap(
    reference: Reference,
    feature_map: FeatureMap,
    inputs: Float[Array, "m *shape"],
    targets: Float[Array, "m *c"],
    *,
    loss: Loss,
    ridge: float | Array,
    form: Form = "auto",
    in_kernel: bool = False,
    sample_block: int | None = None,
) -> Float[Array, ""]:
    """The distilled set's duality gap at the reference solution, with KKT duals.

    Args:
      reference: the solution on the real data.
      feature_map: what it sees inputs through; only the architecture is used, the
        networks' parameters being those of `reference`.
      inputs: the decoded samples.
      targets: theirs, as the loss wants them.
      loss: the convex loss.
      ridge: absolute regularisation of the distilled problem.
      form: see `ddjax.kernels.duality.gap`.
      in_kernel: evaluate it from the m x m kernel although there are features.
      sample_block: samples at once; None takes all.
    """
    seen = _see(
        reference, feature_map, inputs, in_kernel=in_kernel, sample_block=sample_block
    )
    return _gap(reference, seen, targets, loss=loss, ridge=ridge, form=form)


def _duals_at(outputs: Array, targets: Array, loss: Loss) -> Array:
    """Feasible duals from free numbers: margins for margin losses, outputs for others.

    A margin does not change its dual when the label beside it is learned.
    """
    if loss.kind == "margin":
        return targets * loss.surrogate(jnp.ones_like(targets), outputs)
    return loss.surrogate(targets, outputs)


def _first_outputs(
    objective: Callable[[Array], Array], targets: Array, loss: Loss
) -> Array:
    """One margin for all samples: that of the least objective on a grid."""
    pattern = jnp.ones_like(targets) if loss.kind == "margin" else targets
    scales = jnp.linspace(0.0, 20.0, 81)
    values = jax.lax.map(lambda scale: objective(scale * pattern), scales)
    return scales[jnp.argmin(values)] * pattern


def solve_reference(
    feature_map: FeatureMap,
    problem: Problem,
    *,
    loss: Loss,
    ridge_per_sample: float,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    block: int = 256,
    remember: Remember = remember_nothing,
) -> Reference:
    """Solves the convex problem on the real training data, once.

    Args:
      feature_map: what the model sees inputs through.
      problem: the real data; its training split is used.
      loss: the convex loss.
      ridge_per_sample: lambda_O / n_O.
      tolerance: relative duality gap at which to stop.
      max_iterations: at most so many.
      block: inputs a block while features or kernels are computed.
      remember: keeps the solution (`reference`) between runs, and may keep the features
        of the real data (`real_features`).

    Raises:
      ValueError: a problem without at least two classes.
    """
    labels = optimization.class_labels(problem.train)
    targets = optimization.class_targets_for(loss, problem.classes)(labels)
    ridge = ridge_per_sample * len(labels)
    inputs = problem.train.inputs
    exact = feature_map.kind in ("nngp", "ntk")
    params: Any = {}
    if not exact:
        params, _ = feature_maps.build(feature_map, inputs.shape[1:])

    def compute() -> Arrays:
        settings = {
            "loss": loss,
            "ridge": ridge,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        }
        if exact:
            return _solve_in_kernel(feature_map, inputs, targets, block, settings)
        rows = remember(
            "real_features",
            lambda: {
                "features": random_features.map_in_blocks(
                    feature_maps.application(feature_map),
                    inputs,
                    block=block,
                    arguments=(params,),
                )
            },
        )["features"]
        solution = erm.solve(rows, targets, **settings)
        exact_weights = np.asarray(solution.weights, np.float64)
        weights = exact_weights.astype(np.float32)
        rounding = float(np.linalg.norm(exact_weights - weights))
        return {
            "weights": weights,
            "squared_norm": _rounded(np.sum(exact_weights**2)),
            "gap": _rounded(_gap_after_rounding(solution.gap, ridge, rounding)),
        }

    found = remember("reference", compute)
    return Reference(
        weights=jnp.asarray(found["weights"]),
        support=jnp.asarray(found["support"]) if exact else None,
        squared_norm=jnp.asarray(found["squared_norm"]),
        gap=jnp.asarray(found["gap"]),
        ridge=jnp.float32(ridge),
        params=params,
        key_data=jnp.asarray(feature_map.key_data or (0, 0), jnp.uint32),
    )


def _solve_in_kernel(
    feature_map: FeatureMap,
    inputs: Array | np.ndarray,
    targets: Array,
    block: int,
    settings: dict[str, Any],
) -> Arrays:
    """The reference solution of an exact kernel, by its non-zero coefficients."""
    kernel = feature_maps.kernel(feature_map)
    gram = random_features.gram_in_blocks(kernel, inputs, inputs, block=block)
    solution = erm.solve_kernel(gram, targets, **settings)
    coefficients = np.asarray(solution.coefficients, np.float64)
    rows = coefficients.reshape(len(coefficients), -1)
    used = np.flatnonzero(np.abs(rows).max(axis=1) > 0)
    squared_norm = np.sum(rows * (np.asarray(gram, np.float64) @ rows))
    return {
        "weights": np.asarray(coefficients[used], np.float32),
        "support": np.asarray(inputs)[used],
        "squared_norm": _rounded(squared_norm),
        "gap": _rounded(solution.gap),
    }


def _rounded(value: Any) -> np.ndarray:
    return np.asarray(value, np.float32)


def _gap_after_rounding(gap: float, ridge: float, rounding: float) -> float:
    """A gap whose radius `sqrt(2 gap / ridge)` covers the weights' rounding as well."""
    return 0.5 * ridge * (np.sqrt(2.0 * gap / ridge) + rounding) ** 2


def _project_rows(targets: Array) -> Array:
    # optax divides floats by integer ranks.
    with jax.numpy_dtype_promotion("standard"):
        return jax.vmap(optax.projections.projection_simplex)(targets)
