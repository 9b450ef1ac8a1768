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
`ddjax.kernels.convergence` say what is corrected.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt

from ddjax.data.problem import Problem, Split
from ddjax.kernels import analytic, unrolled
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import least_squares, optimization
from ddjax.methods.base import HostRows, Method, Remember, remember_nothing
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import ROW_INITIALIZATIONS, select_rows

__all__ = ["INITIALIZATIONS", "INNER", "REDUCTIONS", "RealData", "State", "regression"]

INNER = ("unrolled", "ridge")
REDUCTIONS = ("sum", "mean")
INITIALIZATIONS = (*ROW_INITIALIZATIONS, "analytic")

# A learned step size stays between these shares of the limit.
_LEAST_SHARE, _MOST_SHARE = 1e-3, 0.99


class RealData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real inputs and targets, or `HostRows`; None with moments.
      error: the squared error through moments; None with batches.
      params: parameters of random features ({} for the inputs themselves).
      key_data: words of the key they were drawn from.
    """

    real: Split | HostRows | None
    error: least_squares.SquaredError | None
    params: Any
    key_data: UInt[Array, " words"]


class State(NamedTuple):
    """What one step changes.

    Attributes:
      learner: samples, targets and the step size, with their optimiser.
      draws: Q, how many draws of initial weights the next step takes.
      previous: mean squared error (half) of the step before; infinite at first.
    """

    learner: optimization.State
    draws: Int[Array, ""]
    previous: Float[Array, ""]


def regression(
    *,
    count: int = 10,
    inner: str = "unrolled",
    inner_steps: int = 100,
    inner_ridge: float = 1e-3,
    step_size: float | None = None,
    learn_step_size: bool = False,
    step_size_learning_rate: float | None = None,
    draws: int = 30,
    reduction: str = "mean",
    weights_scale: float = 1.0,
    outer_ridge: float = 0.0,
    batch_size: int | None = None,
    steps_growth: float | None = None,
    most_draws: int | None = None,
    draws_threshold: float = 1.02,
    form: unrolled.Form = "auto",
    space: unrolled.Space = "auto",
    features: Mapping[str, Any] | None = None,
    learn_targets: bool = True,
    initialization: str = "real",
    parameterization: str | Mapping[str, Any] = "pixels",
    optimizer: str = "adam",
    learning_rate: float = 1e-2,
    targets_learning_rate: float | None = None,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
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
      inner_ridge: lambda_I of the average loss, >= 0 (> 0 for `ridge`).
      step_size: eta at the start, refused from its limit on; None takes half the
        limit. Should the samples grow until eta were beyond 0.99 of the limit, it is
        lowered to that, learned or not.
      learn_step_size: learn eta too. After each step it is put back between 0.001 and
        0.99 of the limit for the new samples.
      step_size_learning_rate: its learning rate; None takes `learning_rate`.
      draws: Q, initial weights a step, drawn anew at each.
      reduction: `sum` over the draws (the paper; gradients grow with Q) or `mean`.
      weights_scale: standard deviation of the initial weights.
      outer_ridge: lambda_O >= 0.
      batch_size: real rows a step; None takes all, through their moments.
      steps_growth: with a number tau, step s takes
        :math:`T + \lfloor \tfrac{T}{2}(1 - e^{-s/\tau}) \rfloor` inner steps (the
        paper's schedule has tau = 300); None keeps T. Compiled once all the same.
      most_draws: with a number, a draw is added, up to that many, whenever the real
        loss is at least `draws_threshold` times that of the step before; None keeps Q.
      draws_threshold: that factor, the paper's 1.02.
      form: of the iterate, see `ddjax.kernels.unrolled.iterate`; `scan` does not go
        with `steps_growth`.
      space: likewise.
      features: see `ddjax.models.feature_maps.from_settings`: `inputs` (the default),
        `fourier` or `random_features`.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select_rows`; or `analytic`,
        the exact optimum for `inner="ridge"` (`ddjax.methods.analytic`), its rows mixed
        by a random rotation where there are more samples than outputs.
      parameterization: see `ddjax.methods.optimization.gradient_learner`.
      optimizer: likewise; the paper's is `gradient_descent`.
      learning_rate: likewise; the paper's alpha_x is 0.0025.
      targets_learning_rate: likewise.
      decay_steps: likewise.
      warmup_steps: likewise.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without regression targets, or a step size that is too large, with its limit.
    """
    _check_names(inner, reduction, initialization, form, space)
    _check_numbers(
        at_least_one={
            "count": count,
            "inner_steps": inner_steps,
            "draws": draws,
            "block": block,
            "batch_size": 1 if batch_size is None else batch_size,
        },
        positive={
            "step_size": step_size,
            "steps_growth": steps_growth,
            "draws_threshold": draws_threshold,
            "inner_ridge": inner_ridge if inner == "ridge" else None,
        },
        not_negative={
            "inner_ridge": inner_ridge,
            "outer_ridge": outer_ridge,
            "weights_scale": weights_scale,
        },
    )
    most = draws if most_draws is None else most_draws
    if most < draws:
        raise ValueError(f"most_draws is {most}, less than draws = {draws}")
    if form == "scan" and steps_growth is not None:
        raise ValueError("form='scan' takes a fixed number of steps: no steps_growth")
    settings: dict[str, Any] = {"kind": "inputs"} if features is None else {**features}
    seen = feature_maps.from_settings(jax.random.key(0), settings)
    apply = feature_maps.application(seen)
    if initialization == "analytic" and (seen.kind != "inputs" or batch_size):
        raise ValueError(
            "initialization='analytic' needs features of kind 'inputs' and the moments "
            "of the real data (batch_size=None)"
        )
    iterated = inner == "unrolled"
    parts = optimization.gradient_learner(
        parameterization=parameterization,
        optimizer=optimizer,
        learning_rate=learning_rate,
        learn_targets=learn_targets,
        targets_learning_rate=targets_learning_rate,
        decay_steps=decay_steps,
        warmup_steps=warmup_steps,
        extra_learning_rates=(
            {"step_size": step_size_learning_rate or learning_rate}
            if learn_step_size and iterated
            else None
        ),
        frozen=() if learn_step_size or not iterated else ("step_size",),
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> RealData:
        real, error = problem.train, None
        least_squares.regression_targets(real)
        drawn = feature_maps.from_settings(key, settings)
        if batch_size is None:
            found = least_squares.moments(
                problem, drawn, block=block, remember=remember
            )
            real, error = None, least_squares.squared_error(found)
        elif not isinstance(real.inputs, jax.Array):
            real = HostRows(real, min(batch_size, len(real.inputs)))
        params, _ = feature_maps.build(drawn, problem.train.inputs.shape[1:])
        words = jnp.asarray(drawn.key_data or (0, 0), jnp.uint32)
        return RealData(real, error, params, words)

    def init(key: PRNGKeyArray, problem: Problem, data: RealData) -> State:
        if initialization == "analytic":
            inputs, targets = _analytic_start(
                key, problem, data, count=count, ridge=inner_ridge
            )
        else:
            inputs, targets = select_rows(key, problem, count=count, how=initialization)
        extra = {}
        if iterated:
            rows = apply(data.params, inputs)
            eta = step_size
            if eta is None:
                eta = 0.5 * float(unrolled.step_size_limit(rows, ridge=inner_ridge))
            unrolled.check_step_size(rows, step_size=eta, ridge=inner_ridge)
            extra = {"step_size": jnp.asarray(eta, rows.dtype)}
        return State(
            parts.start(inputs, targets, None, extra),
            jnp.asarray(draws, jnp.int32),
            jnp.asarray(jnp.inf, jnp.float32),
        )

    def steps_at(step: Array) -> Any:
        if steps_growth is None:
            return inner_steps
        share = -0.5 * jnp.expm1(-(step + 1).astype(jnp.float32) / steps_growth)
        return inner_steps + (share * inner_steps).astype(jnp.int32)

    def real_error(weights: Array, data: RealData, real_rows: Array | None) -> Array:
        if data.error is not None:
            return least_squares.squared_error_at(weights, data.error)
        assert isinstance(data.real, Split) and real_rows is not None
        wanted = jnp.asarray(least_squares.regression_targets(data.real))
        away = jnp.matmul(real_rows, weights, precision="highest") - wanted
        return 0.5 * jnp.sum(jnp.square(away)) / away.shape[0]

    def errors_of(learned, data: RealData, starts: Array | None, steps) -> Array:
        """Error on the real data of the weights from each draw."""
        rows, targets = apply(data.params, parts.inputs(learned)), learned["targets"]
        real_rows = (
            apply(data.params, jnp.asarray(data.real.inputs))
            if isinstance(data.real, Split)
            else None
        )
        if starts is None:
            solution = ridge_regression.solve(
                rows, targets, ridge=inner_ridge, convention="per_sample"
            )
            return real_error(solution.weights, data, real_rows)[None]

        def one(start: Array) -> Array:
            weights = unrolled.iterate(
                rows,
                targets,
                start,
                step_size=learned["step_size"],
                ridge=inner_ridge,
                steps=steps,
                form=form,
                space=space,
            )
            return real_error(weights, data, real_rows)

        return jax.vmap(one)(starts)

    def limit_of(learned, data: RealData) -> Array:
        rows = apply(data.params, jax.lax.stop_gradient(parts.inputs(learned)))
        return unrolled.step_size_limit(rows, ridge=inner_ridge)

    def inside(learned, data: RealData) -> tuple[dict[str, Any], Array]:
        limit = limit_of(learned, data)
        eta = jnp.minimum(learned["step_size"], _MOST_SHARE * limit)
        if learn_step_size:
            eta = jnp.maximum(eta, _LEAST_SHARE * limit)
        return {**learned, "step_size": eta}, limit

    def step(state: State, batch: RealData, key: PRNGKeyArray):
        learned, starts, shown = state.learner.learned, None, {}
        steps = steps_at(state.learner.step)
        if iterated:
            learned, limit = inside(learned, batch)
            width = jax.eval_shape(apply, batch.params, parts.inputs(learned)).shape[1]
            targets = learned["targets"]
            shape = (most, width, targets.shape[1])
            starts = weights_scale * jax.random.normal(key, shape, targets.dtype)
            shown = {
                "step_size": learned["step_size"],
                "step_size_limit": limit,
                "inner_steps": jnp.asarray(steps, jnp.int32),
                "draws": state.draws,
            }
        # A draw beyond Q is made, for the shapes not to change, but does not count.
        taken = jnp.ones((1,))
        if iterated:
            taken = (jnp.arange(most) < state.draws).astype(jnp.float32)
        number = taken.sum()

        def objective(learned):
            errors = errors_of(learned, batch, starts, steps)
            error = jnp.sum(taken * errors) / number
            squares = jnp.sum(jnp.square(parts.inputs(learned)))
            squares = squares + jnp.sum(jnp.square(learned["targets"]))
            value = error + 0.5 * outer_ridge * squares
            total = value * number if reduction == "sum" else value
            return total, (value, error)

        (_, (value, error)), gradients = jax.value_and_grad(objective, has_aux=True)(
            learned
        )
        rises = (error >= draws_threshold * state.previous).astype(jnp.int32)
        more = jnp.minimum(state.draws + rises, most)
        learner = parts.update(state.learner._replace(learned=learned), gradients)
        return State(learner, more, error), {
            "loss": value,
            "real_loss": error,
            **shown,
        }

    def distilled(state: State, problem: Problem, data: RealData) -> DistilledSet:
        trained: dict[str, Any] = {"name": inner, "ridge": inner_ridge}
        learned = state.learner.learned
        if iterated:
            learned, _ = inside(learned, data)
            trained |= {
                "steps": int(steps_at(jnp.maximum(state.learner.step - 1, 0))),
                "step_size": float(learned["step_size"]),
                "weights_scale": weights_scale,
            }
        drawn = feature_maps.from_settings(
            jax.random.wrap_key_data(data.key_data), settings
        )
        return optimization.distilled_set(
            state.learner,
            problem,
            parts,
            targets_kind="regression",
            provenance={
                "features": feature_maps.to_recipe(drawn),
                "inner": trained,
                "ridge": inner_ridge,
            },
        )

    def sample(key: PRNGKeyArray, data: RealData) -> RealData:
        real = data.real
        if batch_size is None or not isinstance(real, Split):
            return data
        inputs = jnp.asarray(real.inputs)
        if inputs.shape[0] <= batch_size:
            return data
        rows = jax.random.choice(key, inputs.shape[0], (batch_size,), replace=False)
        targets = jnp.asarray(least_squares.regression_targets(real))
        return data._replace(real=Split(inputs[rows], targets[rows]))

    return Method(prepare, init, sample, step, distilled)


def _analytic_start(
    key: PRNGKeyArray, problem: Problem, data: RealData, *, count: int, ridge: float
) -> tuple[Float[Array, "m *shape"], Float[Array, "m c"]]:
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
    return (
        jnp.asarray(inputs.reshape(shape), jnp.float32),
        jnp.asarray(targets, jnp.float32),
    )


def _check_names(
    inner: str, reduction: str, initialization: str, form: str, space: str
) -> None:
    for name, value, known in (
        ("inner", inner, INNER),
        ("reduction", reduction, REDUCTIONS),
        ("initialization", initialization, INITIALIZATIONS),
        ("form", form, unrolled.FORMS),
        ("space", space, unrolled.SPACES),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, not one of {known}")


def _check_numbers(
    *,
    at_least_one: Mapping[str, int],
    positive: Mapping[str, float | None],
    not_negative: Mapping[str, float],
) -> None:
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and > 0, got {value}")
    for name, value in not_negative.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and >= 0, got {value}")
