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
several classes (softmax, Crammer-Singer, one-vs-rest), exact kernels, and that it is
the logarithm of the gap that is descended. The gap falls by many orders of magnitude
during a run, and the second-moment memory of an adaptive optimiser then holds the
early, huge gradients against the late, small ones; the gradient of the logarithm has no
such scale.

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
  margin, and falls along the share `anneal` of the run.

Source: "Generalized Kernel Inducing Points by Duality Gap for Dataset Distillation",
arXiv 2502.12607.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.kernels import losses
from ddjax.kernels.losses import Loss
from ddjax.methods import learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.distilled_gap import (
    Form,
    first_outputs,
    free_duals,
    gap_of,
    sample_features,
)
from ddjax.methods.learned_set import DescentState
from ddjax.methods.reference import (
    ReferenceSolution,
    relative_radius,
    solve_reference,
)
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Fitted

__all__ = ["DESCENT", "DUALS", "GAP_SPACES", "GapData", "dgkip"]

DUALS = ("optimality", "learned")
GAP_SPACES = ("auto", "features", "kernel")

DESCENT = Descent("adabelief", 1e-2, rates={"outputs": 0.1})
"""The paper's; `outputs` are those that learned duals belong to."""

# The smooth losses that the surrogate duals of losses with kinks belong to.
_SMOOTH_LOSSES = {"hinge": "soft_hinge", "multiclass_hinge": "soft_multiclass_hinge"}


class GapData(NamedTuple):
    """What steps look at.

    Attributes:
      reference: the solution on the real data.
      fitted: what the decoder took from the real data.
    """

    reference: ReferenceSolution
    fitted: Fitted


def dgkip(
    *,
    loss: str = "logistic",
    per_class: int = 1,
    features: Mapping[str, Any] | None = None,
    real_ridge: float = 1e-6,
    distilled_ridge: float = 1e-6,
    start_ridge: float | None = None,
    anneal: float = 0.8,
    form: Form = "auto",
    gap_space: str = "auto",
    duals: str = "optimality",
    learn_targets: bool = True,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
    solver_tolerance: float = 1e-4,
    solver_iterations: int = 500,
    require_convergence: bool = False,
    block: int = 256,
    sample_block: int | None = None,
) -> Method:
    r"""Builds DGKIP as a `Method`.

    Metrics: `loss`, the logarithm of the gap that is descended; `gap`, that of the
    set's own problem; `deviation_bound`, the bound on
    :math:`\|\theta_S - \theta_O\|` over :math:`\|\theta_O\|` that follows from it; and
    `reference_radius`, how far :math:`\theta_O` itself may be from the optimum on the
    real data, over its norm: tiny where the solver converged.

    Args:
      loss: a name in `ddjax.kernels.losses.LOSSES`. Margin losses (`logistic`, `hinge`,
        `smoothed_hinge`, `squared_hinge`) treat two classes as one problem and more as
        one-vs-rest; `softmax` and `multiclass_hinge` treat any number jointly. Where a
        loss is flat (squared hinges beyond the margin) samples get no gradient: start
        from noise.
      per_class: samples a class (IPC).
      features: what the convex model sees inputs through, see
        `ddjax.models.feature_maps.from_settings`; the default is 30 fully connected
        networks of 3 x 1024. With `nngp` and `ntk` the real problem is solved on its
        n x n kernel.
      real_ridge: lambda_O per real sample (`per_sample` in `ddjax.kernels.ridge`); the
        paper's lambda_O is n_O 1e-6.
      distilled_ridge: lambda_S per distilled sample; the paper's is n_S 1e-6.
      start_ridge: lambda_S per sample at the first step, which falls geometrically to
        `distilled_ridge`; None (the paper) starts at the end.
      anneal: over which share of the run it falls, in (0, 1].
      form: of the gap, see `ddjax.kernels.duality.gap`.
      gap_space: `features` (no m x m kernel), `kernel` (as the paper writes it), or
        `auto`: features wherever there are any.
      duals: `optimality`, the paper's: those of the optimality condition at the
        reference; or `learned`, for classification losses.
      learn_targets: learn the labels too: real numbers for margin and regression
        losses, points of the simplex for multiclass losses.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets` and, with learned duals, `outputs`.
      solver_tolerance: relative duality gap at which the real problem is left.
      solver_iterations: at most so many iterations for it.
      require_convergence: raise where the real problem is not solved to the tolerance,
        instead of the warning.
      block: real inputs a block while their features are computed.
      sample_block: samples at once within a step, see
        `ddjax.models.feature_maps.in_blocks`.

    Raises:
      ValueError: an unknown name or a number out of range.
      ddjax.solvers.erm.NotConverged: when a run starts, see `require_convergence`.
    """
    given = dict(locals())
    checks.check_names(gap_space=(gap_space, GAP_SPACES), duals=(duals, DUALS))
    # The bound divides by the ridge.
    checks.check_positive(
        real_ridge=real_ridge, distilled_ridge=distilled_ridge, start_ridge=start_ridge
    )
    checks.check_share_of_run(anneal=anneal)
    convex = losses.get(loss)
    learned_duals = duals == "learned"
    if learned_duals and convex.kind == "regression":
        raise ValueError(
            f"duals='learned' is for classification losses, got loss {loss!r}: the "
            "duals of a regression loss do not vanish"
        )
    descended = convex
    if learned_duals and loss in _SMOOTH_LOSSES:
        descended = losses.get(_SMOOTH_LOSSES[loss])

    # The networks are drawn from the run's key in `prepare`; what is applied to them is
    # fixed by the settings.
    def feature_map(key: PRNGKeyArray) -> FeatureMap:
        return feature_maps.from_settings(key, features)

    example = feature_map(jax.random.key(0))
    parts = learned_set.of_keywords(
        given,
        DESCENT,
        groups=("outputs",),
        project_targets=learned_set.onto_simplex
        if convex.kind == "multiclass"
        else None,
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> GapData:
        reference = solve_reference(
            feature_map(key),
            problem,
            loss=convex,
            ridge_per_sample=real_ridge,
            tolerance=solver_tolerance,
            max_iterations=solver_iterations,
            require_convergence=require_convergence,
            block=block,
            cache=cache,
        )
        return GapData(reference, parts.fit(problem, cache))

    def init(key: PRNGKeyArray, problem: Problem, data: GapData) -> DescentState:
        stored, labels = learned_set.class_start(
            parts,
            key,
            problem,
            data.fitted,
            learned_set.class_targets_for(convex, problem.classes),
            per_class=per_class,
            initialization=initialization,
        )
        if not learned_duals:
            return parts.start(stored, labels)
        targets = parts.pairs({"stored": stored}).targets

        def objective(outputs: Array) -> Array:
            learned = {"stored": stored, "outputs": outputs}
            start = Progress(jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
            return gaps(learned, data.reference, start)[0]

        outputs = first_outputs(objective, targets, descended)
        return parts.start(stored, labels, {"outputs": outputs})

    def ridge_at(progress: Progress) -> Any:
        if start_ridge is None:
            return distilled_ridge
        dtype = jnp.result_type(float)
        done = progress.step.astype(dtype) / progress.steps.astype(dtype)
        left = jnp.maximum(0.0, 1.0 - done / anneal)
        return distilled_ridge * (start_ridge / distilled_ridge) ** left

    def gaps(
        learned: dict[str, Any], reference: ReferenceSolution, progress: Progress
    ) -> tuple[Array, dict[str, Array]]:
        """What is descended, and the gap and the bound of the set's own problem."""
        pairs = parts.pairs(learned)
        samples = sample_features(
            reference,
            example,
            pairs.inputs,
            in_kernel=gap_space == "kernel",
            sample_block=sample_block,
        )
        free = None
        if learned_duals:
            free = free_duals(learned["outputs"], pairs.targets, descended)

        def gap_with(loss: Loss, ridge: Any) -> Array:
            return gap_of(
                reference,
                samples,
                pairs.targets,
                loss=loss,
                ridge=ridge * pairs.inputs.shape[0],
                form=form,
                duals=free,
            )

        gap = gap_with(convex, distilled_ridge)
        scale = distilled_ridge * pairs.inputs.shape[0] * reference.squared_norm
        own = {"gap": gap, "deviation_bound": jnp.sqrt(2.0 * gap / scale)}
        return jnp.log(gap_with(descended, ridge_at(progress))), own

    def step(
        state: DescentState, batch: GapData, key: PRNGKeyArray, progress: Progress
    ):
        del key
        (value, own), gradients = jax.value_and_grad(gaps, has_aux=True)(
            state.learned, batch.reference, progress
        )
        metrics = {
            "loss": value,
            **own,
            "reference_radius": relative_radius(batch.reference),
        }
        return parts.update(state, gradients, progress), metrics

    def recipe(key: PRNGKeyArray, state: Any, problem: Problem) -> dict[str, Any]:
        del state
        return {
            "targets_kind": learned_set.targets_kind_for(convex, problem.classes),
            "features": feature_maps.to_recipe(feature_map(key)),
            "loss": {"name": loss},
            "ridge": {"strength": distilled_ridge, "convention": "per_sample"},
            "real_ridge": real_ridge,
        }

    return learned_set.gradient_method(
        "dgkip",
        given,
        parts,
        prepare=prepare,
        init=init,
        step=step,
        distilled=learned_set.distilled_from(parts, recipe),
        follows_length=start_ridge is not None,
        features=feature_settings(example),
    )
