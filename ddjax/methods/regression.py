r"""Distilled regression: a few samples on which a linear model learns what all teach.

Inner loop: T steps of gradient descent on the distilled samples X (m, d), targets Y
(m, c), from Q random initial weights (or :math:`T \to \infty`: ridge regression),

.. math::
    \ell(\theta) = \tfrac{1}{2m} \lVert \Phi(X)\theta - Y \rVert^2
      + \tfrac{\lambda_I}{2} \lVert \theta \rVert^2 , \qquad
    \theta_{t+1} = \theta_t - \eta \nabla \ell(\theta_t),

in closed form (`ddjax.kernels.unrolled`). Outer loop: descent in X, Y (and
:math:`\eta`, if it is learned) on the sum over the draws, or their mean, of

.. math::
    \mathcal{L}^{(q)} = \tfrac{1}{2n} \lVert \Phi(X_r)\theta_T^{(q)} - Y_r \rVert^2
      + \tfrac{\lambda_O}{2} \big(\lVert X \rVert^2 + \lVert Y \rVert^2\big) .

The real data enter through their second moments, taken in one pass beforehand: a step
costs the same for every n. Or each step looks at a batch of real rows, as the paper's
algorithm does.

The features :math:`\Phi` are the inputs themselves, or random features (Fourier, or of
random networks, whose kernel is the NNGP's): the paper's future work, through the same
functions.

Source: "Toward Dataset Distillation for Regression Problems", algorithm 1, definitions
2.1 to 2.6, and A.7 for the two schedules. `ddjax.kernels.unrolled` and
`ddjax.solvers.convergence` say what is corrected.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax import checks
from ddjax.data.feed import batches
from ddjax.data.problem import Problem
from ddjax.kernels import unrolled
from ddjax.methods import learned_set, least_squares
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.inner_regression import (
    InnerLoop,
    RegressionData,
    errors_of_draws,
    step_size_in_range,
)
from ddjax.methods.learned_set import DescentState, regression_targets
from ddjax.methods.row_selection import regression_set
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.solvers import analytic
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import ROW_INITIALIZATIONS, select_rows

__all__ = [
    "DESCENT",
    "INITIALIZATIONS",
    "INNER",
    "REDUCTIONS",
    "RegressionData",
    "RegressionState",
    "regression",
]

INNER = ("unrolled", "ridge")
REDUCTIONS = ("sum", "mean")
INITIALIZATIONS = (*ROW_INITIALIZATIONS, "analytic")

DESCENT = Descent("adam", 1e-2)
"""Ours; the paper's is `sgd` with rate 0.0025."""

# A draw is added when the real loss is at least this times that of the step before.
_RISE = 1.02


class RegressionState(NamedTuple):
    """What one step changes.

    Attributes:
      samples: the stored numbers and the step size, with their optimiser.
      draws: Q, how many draws of initial weights the next step takes.
      previous: mean squared error (half) of the step before; infinite at first.
      inner_steps: T of the step before, or of the first.
    """

    samples: DescentState
    draws: Int[Array, ""]
    previous: Float[Array, ""]
    inner_steps: Int[Array, ""]


def regression(
    *,
    count: int = 10,
    inner: str = "unrolled",
    inner_steps: int = 100,
    inner_ridge: float = 1e-3,
    step_size: float | None = None,
    learn_step_size: bool = False,
    draws: int = 30,
    reduction: str = "mean",
    weights_scale: float = 1.0,
    outer_ridge: float = 0.0,
    batch_size: int | None = None,
    steps_growth: float | None = None,
    most_draws: int | None = None,
    form: unrolled.Form = "auto",
    features: Mapping[str, Any] | None = None,
    learn_targets: bool = True,
    initialization: str = "uniform",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
    block: int = 4096,
) -> Method:
    r"""Builds distilled regression as a `Method`.

    Metrics: `loss`, the mean over draws of :math:`\mathcal{L}^{(q)}` (whatever the
    reduction); `real_loss`, its first term; and for the unrolled inner loop
    `step_size`, `step_size_limit` (:math:`2m/(\sigma_{\max}^2 + m\lambda_I)`, below
    which the inner loop contracts), `inner_steps` and `draws`.

    Args:
      count: distilled samples m.
      inner: `unrolled` (T steps of gradient descent) or `ridge` (their limit, ridge
        regression, which knows no draws, step size or steps: what is said about those
        is not looked at).
      inner_steps: T, >= 1.
      inner_ridge: lambda_I of the average loss (`per_sample` in
        `ddjax.kernels.ridge`), >= 0 (> 0 for `ridge`).
      step_size: eta at the start, refused from its limit on; None takes half the
        limit. Should the samples grow until eta were beyond 0.99 of the limit, it is
        lowered to that, learned or not.
      learn_step_size: learn eta too. After each step it is put back between 0.001 and
        0.99 of the limit for the new samples.
      draws: Q, initial weights a step, drawn anew at each.
      reduction: `sum` over the draws (the paper; gradients grow with Q) or `mean`.
      weights_scale: standard deviation of the initial weights.
      outer_ridge: lambda_O >= 0, of the squared norm of samples and targets.
      batch_size: real rows a step; None takes all, through their moments.
      steps_growth: with a share tau of the run, the step after a share s takes
        :math:`T + \lfloor \tfrac{T}{2}(1 - e^{-s/\tau}) \rfloor` inner steps (the
        paper's 300 of 2500 outer steps are 0.12); None keeps T. Compiled once all the
        same.
      most_draws: with a number, a draw is added, up to that many, whenever the real
        loss is at least 1.02 times that of the step before (the paper); None keeps Q.
      form: of the iterate, see `ddjax.kernels.unrolled.iterate`; `scan` does not go
        with `steps_growth`.
      features: see `ddjax.models.feature_maps.from_settings`: `inputs` (the default),
        `fourier` or `random_features`.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select_rows`; or
        `decoder_noise`, with targets N(0, 1); or `analytic`, the exact optimum for
        `inner="ridge"` (`ddjax.methods.analytic`), its rows mixed by a random rotation
        where there are more samples than outputs.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets` and `step_size`.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without targets, or a step size that is too large, with its limit.
    """
    given = dict(locals())
    checks.check_names(
        inner=(inner, INNER),
        reduction=(reduction, REDUCTIONS),
        form=(form, unrolled.FORMS),
    )
    checks.check_counts(
        count=count,
        inner_steps=inner_steps,
        draws=draws,
        block=block,
        batch_size=batch_size,
    )
    checks.check_positive(step_size=step_size, steps_growth=steps_growth)
    if inner == "ridge":
        checks.check_positive(inner_ridge=inner_ridge)
    checks.check_not_negative(
        inner_ridge=inner_ridge, outer_ridge=outer_ridge, weights_scale=weights_scale
    )
    most = draws if most_draws is None else most_draws
    if most < draws:
        raise ValueError(f"most_draws is {most}, less than draws = {draws}")
    if form == "scan" and steps_growth is not None:
        raise ValueError("form='scan' takes a fixed number of steps: no steps_growth")
    feature_keywords = dict(features or {"kind": "inputs"})

    def feature_map(key: PRNGKeyArray) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(key, feature_keywords)

    example = feature_map(jax.random.key(0))
    apply = feature_maps.application(example)
    if initialization == "analytic" and (example.kind != "inputs" or batch_size):
        raise ValueError(
            "initialization='analytic' needs features of kind 'inputs' and the moments "
            "of the real data (batch_size=None)"
        )
    iterated = inner == "unrolled"
    loop = InnerLoop(apply, inner_ridge, form, learn_step_size)
    parts = learned_set.of_keywords(
        given,
        DESCENT,
        known=INITIALIZATIONS,
        by_class=False,
        groups=("step_size",),
        frozen=() if learn_step_size and iterated else ("step_size",),
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> RegressionData:
        regression_targets(problem.train)
        drawn = feature_map(key)
        real, error = None, None
        if batch_size is None:
            found = least_squares.moments(problem, drawn, block=block, cache=cache)
            error = least_squares.squared_error(found)
        else:
            real = batches(problem.train, batch_size)
        params, _ = feature_maps.build(drawn, problem.train.inputs.shape[1:])
        return RegressionData(real, error, params, parts.fit(problem, cache))

    def init(
        key: PRNGKeyArray, problem: Problem, data: RegressionData
    ) -> RegressionState:
        stored = _first_stored(
            key,
            problem,
            data,
            parts.decoder,
            count=count,
            ridge=inner_ridge,
            initialization=initialization,
        )
        extra = {}
        if iterated:
            rows = apply(data.params, parts.pairs({"stored": stored}).inputs)
            eta = step_size
            if eta is None:
                eta = 0.5 * float(unrolled.step_size_limit(rows, ridge=inner_ridge))
            unrolled.check_step_size(rows, step_size=eta, ridge=inner_ridge)
            extra = {"step_size": jnp.asarray(eta, rows.dtype)}
        return RegressionState(
            parts.start(stored, None, extra),
            jnp.asarray(draws, jnp.int32),
            jnp.asarray(jnp.inf, jnp.result_type(float)),
            jnp.asarray(inner_steps, jnp.int32),
        )

    def limited(learned, params: Any) -> tuple[dict[str, Any], Array]:
        """With a step size below its limit for these samples, and the limit."""
        inputs = parts.pairs(learned).inputs
        eta, limit = step_size_in_range(loop, learned["step_size"], params, inputs)
        return {**learned, "step_size": eta}, limit

    def step(
        state: RegressionState,
        batch: RegressionData,
        key: PRNGKeyArray,
        progress: Progress,
    ):
        learned, starts, shown = state.samples.learned, None, {}
        steps = _steps_at(progress, inner_steps, steps_growth)
        # A draw beyond Q is made, for the shapes not to change, but does not count.
        taken = jnp.ones((1,))
        if iterated:
            learned, limit = limited(learned, batch.params)
            pairs = parts.pairs(learned)
            width = jax.eval_shape(apply, batch.params, pairs.inputs).shape[1]
            shape = (most, width, pairs.targets.shape[1])
            starts = weights_scale * jax.random.normal(key, shape, pairs.targets.dtype)
            taken = (jnp.arange(most, dtype=jnp.int32) < state.draws).astype(
                pairs.targets.dtype
            )
            shown = {
                "step_size": learned["step_size"],
                "step_size_limit": limit,
                "inner_steps": jnp.asarray(steps, jnp.int32),
                "draws": state.draws,
            }
        number = taken.sum()

        def objective(learned):
            pairs = parts.pairs(learned)
            errors = errors_of_draws(
                loop,
                pairs,
                batch,
                starts=starts,
                step_size=learned.get("step_size"),
                steps=steps,
            )
            error = jnp.sum(taken * errors) / number
            squares = jnp.sum(jnp.square(pairs.inputs))
            squares = squares + jnp.sum(jnp.square(pairs.targets))
            value = error + 0.5 * outer_ridge * squares
            total = value * number if reduction == "sum" else value
            return total, (value, error)

        (_, (value, error)), gradients = jax.value_and_grad(objective, has_aux=True)(
            learned
        )
        rises = (error >= _RISE * state.previous).astype(jnp.int32)
        samples = parts.update(
            state.samples._replace(learned=learned), gradients, progress
        )
        after = RegressionState(
            samples,
            jnp.minimum(state.draws + rises, most),
            error,
            jnp.asarray(steps, jnp.int32),
        )
        return after, {"loss": value, "real_loss": error, **shown}

    def distilled(
        key: PRNGKeyArray,
        state: RegressionState,
        problem: Problem,
        data: RegressionData,
    ) -> DistilledSet:
        trained: dict[str, Any] = {"name": inner, "ridge": inner_ridge}
        learned = state.samples.learned
        if iterated:
            learned, _ = limited(learned, data.params)
            trained |= {
                "steps": int(state.inner_steps),
                "step_size": float(learned["step_size"]),
                "weights_scale": weights_scale,
            }
        return regression_set(
            problem,
            parts.decoder,
            learned["stored"],
            ridge=inner_ridge,
            features=feature_map(key),
            inner=trained,
        )

    return learned_set.gradient_method(
        "regression",
        given,
        parts,
        prepare=prepare,
        init=init,
        step=step,
        distilled=distilled,
        follows_length=steps_growth is not None,
        features=feature_settings(example),
    )


def _steps_at(progress: Progress, first: int, growth: float | None) -> Any:
    """T along the run, see `regression`."""
    if growth is None:
        return first
    dtype = jnp.result_type(float)
    grown = growth * progress.steps.astype(dtype)
    share = -0.5 * jnp.expm1(-(progress.step + 1).astype(dtype) / grown)
    return first + (share * first).astype(jnp.int32)


def _first_stored(
    key: PRNGKeyArray,
    problem: Problem,
    data: RegressionData,
    decoder: Decoder,
    *,
    count: int,
    ridge: float,
    initialization: str,
) -> Stored:
    if initialization == learned_set.DECODER_NOISE and decoder.noise is not None:
        outputs = regression_targets(problem.train).shape[1]
        inputs_key, targets_key = jax.random.split(key)
        targets = jax.random.normal(targets_key, (count, outputs))
        shape = (count, *problem.train.inputs.shape[1:])
        return decoder.noise(inputs_key, shape, targets, data.fitted)
    if initialization == "analytic":
        pairs = _analytic_start(key, problem, data, count=count, ridge=ridge)
    else:
        inputs, targets = select_rows(key, problem, count=count, how=initialization)
        assert targets is not None  # `prepare` has seen them
        pairs = Pairs(inputs, targets)
    return decoder.init(pairs, data.fitted)


def _analytic_start(
    key: PRNGKeyArray,
    problem: Problem,
    data: RegressionData,
    *,
    count: int,
    ridge: float,
) -> Pairs:
    """The exact optimum for ridge regression; the nearest one with too few samples."""
    assert data.error is not None
    root = np.asarray(data.error.root, np.float64)
    found = analytic.distilled_set(
        np.asarray(data.error.optimum, np.float64),
        ridge=ridge,
        convention="per_sample",
        count=count,
        approximate=True,
        metric=root.T @ root,
    )
    inputs, targets = found.inputs, found.targets
    if count > targets.shape[1]:
        # What is zero has no gradient. U X and U Y train to the weights of X and Y.
        normal = jax.random.normal(key, (count, count))
        rotation = np.linalg.qr(np.asarray(normal, np.float64))[0]
        inputs, targets = rotation @ inputs, rotation @ targets
    shape = (count, *problem.train.inputs.shape[1:])
    return Pairs(jnp.asarray(inputs.reshape(shape)), jnp.asarray(targets))
