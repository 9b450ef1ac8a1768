r"""What MTT and DATM share: samples that lead a network where an expert went.

An expert and one of its epochs t are drawn. A student starts from the expert's
parameters :math:`\theta^*_t`, takes N steps of SGD on augmented samples of the set with
a learned step size, and is to end where the expert was M epochs later:

.. math::
    \hat\theta_{i+1} = \hat\theta_i - \alpha \nabla_\theta
        \mathrm{CE}\big(f_{\hat\theta_i}(\omega_i(S_i)), Y_i\big),
    \quad \hat\theta_0 = \theta^*_t, \qquad
    L = \frac{\lVert \hat\theta_N - \theta^*_{t+M} \rVert^2}
             {\lVert \theta^*_t - \theta^*_{t+M} \rVert^2} .

The gradient by the samples and by :math:`\log\alpha` goes back through all N steps,
whose activations are computed again on the way (see
`ddjax.methods.class_samples.after_steps`).

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories"
(CVPR 2022), equation 2 and Algorithm 1. They learn :math:`\alpha` itself; its logarithm
stays positive, and at its start moves as fast with a rate that is
:math:`1 / \alpha^2` times theirs.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax import checks
from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split
from ddjax.methods import class_samples, experts, learned_set
from ddjax.methods.base import InitFn, Method, Progress
from ddjax.methods.class_samples import Augment
from ddjax.methods.descent import Descent
from ddjax.methods.experts import ExpertTraining
from ddjax.methods.frozen_features import DEVICE_BYTES
from ddjax.methods.learned_set import DescentState, LearnedSet, Samples
from ddjax.models import networks
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Fitted

__all__ = [
    "GROUP",
    "Starts",
    "TrajectoryData",
    "build",
    "latest_start",
    "rows_of_steps",
]

GROUP = "log_step_size"
"""The group of the student's step size."""


class Starts(NamedTuple):
    """From which epochs of an expert students start.

    Attributes:
      first: the earliest, >= 0.
      last_at_start: the latest at the start of the run.
      last: the latest at its end.
      growth: share of the run, in (0, 1], after which it is `last`.
    """

    first: int
    last_at_start: int
    last: int
    growth: float


class TrajectoryData(NamedTuple):
    """What steps look at.

    Attributes:
      experts: of whose inputs each row is an expert's `(epochs, P)`, from the first
        epoch that a student may start from to the last that one may end at.
      fitted: what the decoder took from the real data.
      predictions: an expert's probabilities for real samples, `(n, c)`, for a start
        that asks for them.
    """

    experts: Split | Batches
    fitted: Fitted
    predictions: Float[Array | ndarray, "n c"] | None


def latest_start(starts: Starts, progress: Progress) -> Int[Array, ""]:
    r"""The latest epoch that a student may start from at a step of the run.

    .. math::
        \min\big(T, \; T_0 + \lfloor (T - T_0 + 1) \, s / g \rfloor\big)

    with s the share of the run that is done, g `growth`, :math:`T_0` `last_at_start`
    and T `last`.
    """
    dtype = jnp.result_type(float)
    done = progress.step.astype(dtype) / progress.steps.astype(dtype)
    grown = jnp.floor((starts.last - starts.last_at_start + 1) * done / starts.growth)
    return jnp.minimum(starts.last, starts.last_at_start + grown.astype(jnp.int32))


def rows_of_steps(
    key: PRNGKeyArray, *, count: int, batch_size: int, steps: int
) -> Int[Array, "steps b"]:
    """Which samples each step sees: whole batches of one random order after another.

    Args:
      key: of the orders.
      count: samples.
      batch_size: samples a step, at most `count`; those that are left over at the end
        of an order are not seen in it.
      steps: how many.
    """
    whole = count // batch_size
    orders = -(-steps // whole)
    rows = jax.vmap(lambda each: jax.random.permutation(each, count))(
        jax.random.split(key, orders)
    )
    return rows[:, : whole * batch_size].reshape(-1, batch_size)[:steps]


def build(
    name: str,
    given: Mapping[str, Any],
    *,
    starts: Starts,
    soft: bool,
    default: Descent,
    known: Collection[str],
    init: Callable[[LearnedSet, Callable[[], dict[str, Any]]], InitFn],
) -> Method:
    """A method from what tells the two apart.

    Args:
      name: the registered name.
      given: the keywords of its factory; those that both have are read here, see
        `ddjax.methods.datm`.
      starts: from which epochs students start.
      soft: whether targets are learned, and an expert's predictions made for a start.
      default: the method's own descent.
      known: the initialisations that it has.
      init: makes the slot `init` of the shared part and of what makes the method's own
        groups.
    """
    architecture, settings = given["architecture"], given["settings"]
    augment, expert_epochs = given["augment"], given["expert_epochs"]
    student_steps, student_batch = given["student_steps"], given["student_batch"]
    step_size = given["step_size"]
    checks.check_counts(
        student_steps=student_steps,
        expert_epochs=expert_epochs,
        student_batch=student_batch,
    )
    checks.check_positive(step_size=step_size)
    class_samples.check_network(architecture, settings)
    transform = class_samples.augmenter(augment, shared=False)
    training = experts.expert_training(given["experts"])
    _check_starts(starts, training, expert_epochs)
    parts = learned_set.of_keywords(
        {**given, "learn_targets": soft},
        default,
        known=known,
        groups=(GROUP,),
        project_targets=learned_set.onto_simplex,
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> TrajectoryData:
        del key
        class_samples.check_problem(problem)
        described: dict[str, Any] = {
            "architecture": architecture,
            "settings": settings,
            "augment": augment,
        }
        found = experts.trajectories(
            problem,
            training,
            **described,
            directory=given["experts_directory"],
            cache=cache,
        )
        predictions = None
        if soft:
            predictions = experts.predictions(
                problem, training, found[0, -1], **described, cache=cache
            )
        # What no student starts from or ends at need not be read.
        used = found[:, starts.first : starts.last + expert_epochs + 1]
        if used.nbytes <= DEVICE_BYTES:
            used = jnp.asarray(used)
        return TrajectoryData(
            batches(Split(used), 1), parts.fit(problem, cache), predictions
        )

    def extra() -> dict[str, Any]:
        return {GROUP: jnp.asarray(math.log(step_size), jnp.result_type(float))}

    def step(
        state: DescentState,
        batch: TrajectoryData,
        key: PRNGKeyArray,
        progress: Progress,
    ):
        pairs, pull_back = jax.vjp(parts.pairs, state.learned)
        network = networks.make_for(
            architecture,
            settings,
            outputs=pairs.targets.shape[1],
            shape=pairs.inputs.shape[1:],
        )
        epoch_key, student_key = jax.random.split(key)
        assert isinstance(batch.experts, Split)  # the loop has drawn the rows
        (along,) = jnp.asarray(batch.experts.inputs)
        latest = latest_start(starts, progress) - starts.first
        epoch = jax.random.randint(epoch_key, (), 0, latest + 1)
        unravel = experts.unraveler(network, pairs.inputs)

        def objective(pairs: Samples, log_step_size: Array) -> Array:
            trained = _student(
                student_key,
                network,
                unravel(along[epoch]),
                pairs,
                jnp.full(student_steps, jnp.exp(log_step_size)),
                transform,
                student_batch,
            )
            return normalized_distance(
                ravel_pytree(trained)[0], along[epoch], along[epoch + expert_epochs]
            )

        log_step_size = state.learned[GROUP]
        value, (slopes, of_step_size) = jax.value_and_grad(objective, (0, 1))(
            pairs, log_step_size
        )
        (gradients,) = pull_back(slopes)
        metrics = {
            "loss": value,
            "step_size": jnp.exp(log_step_size),
            "start_epoch": (starts.first + epoch).astype(value.dtype),
        }
        gradients = {**gradients, GROUP: of_step_size}
        return parts.update(state, gradients, progress), metrics

    def inner(state: DescentState) -> dict[str, Any]:
        learned_rate = float(np.exp(np.asarray(state.learned[GROUP], np.float64)))
        return {"optimizer": "sgd", "learning_rate": learned_rate}

    return learned_set.gradient_method(
        name,
        given,
        parts,
        prepare=prepare,
        init=init(parts, extra),
        step=step,
        distilled=class_samples.distilled_samples(parts, augment, inner=inner),
        follows_length=starts.last > starts.last_at_start,
        experts=training,
    )


def normalized_distance(
    student: Float[Array, " p"],
    start: Float[Array, " p"],
    target: Float[Array, " p"],
) -> Float[Array, ""]:
    """L of the module.

    Args:
      student: where the student ended.
      start: where it and the expert started.
      target: where the expert ended.
    """
    moved = jnp.sum(jnp.square(start - target))
    # An expert that stood still is no reason for a NaN.
    least = jnp.asarray(jnp.finfo(moved.dtype).tiny, moved.dtype)
    return jnp.sum(jnp.square(student - target)) / jnp.maximum(moved, least)


def _student(
    key: PRNGKeyArray,
    network: nn.Module,
    params: Any,
    pairs: Samples,
    step_sizes: Float[Array, " n"],
    transform: Augment,
    batch_size: int | None,
) -> Any:
    """Parameters after the student's steps on the set."""
    count, steps = pairs.inputs.shape[0], step_sizes.shape[0]
    rows_key, key = jax.random.split(key)
    rows = None
    if batch_size is not None and batch_size < count:
        rows = rows_of_steps(rows_key, count=count, batch_size=batch_size, steps=steps)

    def inner(params: Any, statistics: dict[str, Any], given: tuple[Array, Any]):
        key, places = given
        inputs, targets = pairs if places is None else (x[places] for x in pairs)
        return class_samples.trained_on(
            network, params, statistics, transform(key, inputs), targets
        )

    each = jax.random.split(key, steps), rows
    return class_samples.after_steps(inner, params, {}, step_sizes, each)[0]


def _check_starts(starts: Starts, training: ExpertTraining, expert_epochs: int) -> None:
    if not 0 <= starts.first <= starts.last_at_start <= starts.last:
        raise ValueError(
            "students start from epochs between 0 <= min_start <= first_max_start <= "
            f"max_start, got {starts.first}, {starts.last_at_start} and {starts.last}"
        )
    checks.check_share_of_run(growth=starts.growth)
    if starts.last + expert_epochs > training.epochs:
        raise ValueError(
            f"max_start={starts.last} and expert_epochs={expert_epochs} need experts "
            f"of {starts.last + expert_epochs} epochs; experts.epochs is "
            f"{training.epochs}"
        )
