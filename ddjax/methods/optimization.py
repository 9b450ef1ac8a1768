"""What gradient-based distillation methods share: samples, targets and their optimiser.

A method learns a dictionary of groups (`stored` numbers of the samples, their
`targets`, and whatever it needs besides), each with a learning rate of its own.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ddjax.data.problem import Problem, Split
from ddjax.kernels.losses import Loss
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import INITIALIZATIONS, balanced_labels, select
from ddjax.synthetic.parameterization import Parameterization, make

__all__ = [
    "OPTIMIZERS",
    "OWN",
    "Learner",
    "State",
    "class_labels",
    "class_targets_for",
    "decoder_for",
    "distilled_set",
    "gradient_learner",
    "learner",
    "targets_kind_for",
]

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adabelief": lambda rate: optax.adabelief(rate, eps=1e-16),
    "adam": optax.adam,
    "gradient_descent": optax.sgd,
    "lamb": optax.lamb,
    "sgd": lambda rate: optax.sgd(rate, momentum=0.5),
}
"""Optimisers by name, each from a learning rate or schedule."""


OWN = "own"
"""The initialisation that is left to the parameterisation."""

# A name that no group of a method has.
_CONSTANT = "constant numbers of the parameterisation"


class State(NamedTuple):
    """What one step changes.

    Attributes:
      learned: group name -> arrays; `stored` and `targets` are always there.
      optimizer: the optimiser's state.
      labels: class of each sample, `(m,)` int32, or None without classes; constant.
      step: how many updates have been made.
    """

    learned: dict[str, Any]
    optimizer: Any
    labels: Int[Array, " m"] | None
    step: Int[Array, ""]


class Learner(NamedTuple):
    """The part of a method that turns gradients into a distilled set.

    Attributes:
      parameterization: how stored numbers become inputs.
      start: the first state. From `learner`, `(key, problem, targets, extra) -> State`
        where `targets` maps labels to the targets to start from and `extra` holds
        further learned groups; from `gradient_learner`,
        `(inputs, targets, labels, extra) -> State`, the inputs being samples or, in a
        dictionary, stored numbers.
      inputs: `learned -> (m, *shape)`, the decoded samples.
      update: `(state, gradients) -> State`.
    """

    parameterization: Parameterization
    start: Callable[..., State]
    inputs: Callable[[dict[str, Any]], Array]
    update: Callable[[State, dict[str, Any]], State]


def learner(*, per_class: int, initialization: str, **settings: Any) -> Learner:
    """The shared part of a method on classes; `start` chooses the first samples.

    Args:
      per_class: samples a class (IPC), >= 1.
      initialization: see `ddjax.synthetic.initialization.select`; or `own`: the
        parameterisation's own random start, the same number for each class.
      **settings: see `gradient_learner`.

    Raises:
      ValueError: as there; `own` with a parameterisation that has none.
    """
    parts = gradient_learner(**settings)
    decoder = parts.parameterization
    if initialization == OWN and decoder.start is None:
        raise ValueError(
            f"parameterization {decoder.name!r} has no random start of its own; "
            f"initialization may be one of {', '.join(INITIALIZATIONS)}"
        )

    def start(key, problem: Problem, targets, extra=None) -> State:
        real = problem.train.inputs
        if initialization == OWN and decoder.start is not None:
            labels = balanced_labels(problem, per_class=per_class)
            stored = decoder.start(key, (len(labels), *real.shape[1:]), real)
        else:
            inputs, labels = select(
                key, problem, per_class=per_class, how=initialization
            )
            stored = decoder.init(inputs, real)
        return parts.start(stored, targets(labels), labels, extra)

    return parts._replace(start=start)


def gradient_learner(
    *,
    parameterization: str | Mapping[str, Any],
    optimizer: str,
    learning_rate: float,
    learn_targets: bool,
    targets_learning_rate: float | None = None,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
    extra_learning_rates: Mapping[str, float] | None = None,
    frozen: Collection[str] = (),
    project_targets: Callable[[Array], Array] | None = None,
) -> Learner:
    """Builds the shared part of a gradient-based method.

    Args:
      parameterization: a registered name, or a mapping with `name` and its settings.
      optimizer: one of `OPTIMIZERS`.
      learning_rate: of the stored numbers, > 0.
      learn_targets: whether the targets are learned as well.
      targets_learning_rate: theirs; None takes `learning_rate`.
      decay_steps: steps over which every rate falls to zero along a cosine; None keeps
        the rates constant.
      warmup_steps: steps over which every rate rises linearly from zero; they are part
        of `decay_steps`.
      extra_learning_rates: of further groups.
      frozen: further groups that are not learned.
      project_targets: applied to the targets after each update (e.g. on the simplex).

    Raises:
      ValueError: unknown optimiser or parameterisation, or a number out of range.
    """
    if optimizer not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise ValueError(f"unknown optimizer {optimizer!r}; known: {known}")
    if decay_steps is not None and decay_steps < 1:
        raise ValueError(f"decay_steps must be at least 1 or None, got {decay_steps}")
    if not 0 <= warmup_steps < (decay_steps or math.inf):
        raise ValueError(
            f"warmup_steps must be at least 0 and less than decay_steps {decay_steps}, "
            f"got {warmup_steps}"
        )
    decoder = decoder_for(parameterization)
    rates = {
        "stored": learning_rate,
        "targets": targets_learning_rate or learning_rate,
        **(extra_learning_rates or {}),
    }
    for group, rate in rates.items():
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"learning rate of {group} must be > 0, got {rate}")
    by_group: dict[Any, Any] = {
        group: OPTIMIZERS[optimizer](_schedule(rate, decay_steps, warmup_steps))
        for group, rate in rates.items()
    }
    for group in {*frozen, *(() if learn_targets else ("targets",))}:
        by_group[group] = optax.set_to_zero()
    if decoder.constants:
        by_group[_CONSTANT] = optax.set_to_zero()
    transform = optax.partition(
        by_group, functools.partial(_group_labels, constants=decoder.constants)
    )

    def start(inputs, targets, labels=None, extra=None) -> State:
        stored = inputs if isinstance(inputs, dict) else decoder.init(inputs)
        learned = {"stored": stored, "targets": targets, **(extra or {})}
        return State(learned, transform.init(learned), labels, jnp.zeros((), jnp.int32))

    def update(state: State, gradients) -> State:
        # optax raises floats to the power of its integer step count.
        with jax.numpy_dtype_promotion("standard"):
            changes, moments = transform.update(
                gradients, state.optimizer, state.learned
            )
        learned: Any = optax.apply_updates(state.learned, changes)
        if learn_targets and project_targets is not None:
            learned = {**learned, "targets": project_targets(learned["targets"])}
        step = state.step + 1
        if decoder.advance is not None:
            stored, restarted = decoder.advance(learned["stored"], step)
            learned = {**learned, "stored": stored}
            moments = _restart_where(restarted, transform.init(learned), moments)
        return State(learned, moments, state.labels, step)

    return Learner(
        decoder, start, lambda learned: decoder.decode(learned["stored"]), update
    )


def decoder_for(parameterization: str | Mapping[str, Any]) -> Parameterization:
    """A parameterisation from its name, or from a mapping with `name` and settings.

    Raises:
      ValueError: unknown name, or a mapping without one.
    """
    if isinstance(parameterization, str):
        return make(parameterization)
    if "name" not in parameterization:
        raise ValueError(f"parameterization {dict(parameterization)} has no 'name'")
    return make(**parameterization)


def _schedule(rate: float, decay_steps: int | None, warmup_steps: int) -> Any:
    if decay_steps is None:
        return optax.linear_schedule(0.0, rate, warmup_steps) if warmup_steps else rate
    if not warmup_steps:
        return optax.cosine_decay_schedule(rate, decay_steps)
    return optax.warmup_cosine_decay_schedule(0.0, rate, warmup_steps, decay_steps)


def _group_labels(
    learned: dict[str, Any], *, constants: Collection[str] = ()
) -> dict[str, Any]:
    labels = {
        group: jax.tree.map(lambda _, name=group: name, values)
        for group, values in learned.items()
    }
    labels["stored"] |= dict.fromkeys(constants, _CONSTANT)
    return labels


def _restart_where(restarted: Array, fresh: Any, moments: Any) -> Any:
    """The optimiser of the stored numbers anew, its schedule going on."""

    def chosen(new: Any, old: Any) -> Any:
        if isinstance(old, optax.ScaleByScheduleState):
            return old
        return jnp.where(restarted, new, old)

    groups = {
        **moments.inner_states,
        "stored": jax.tree.map(
            chosen,
            fresh.inner_states["stored"],
            moments.inner_states["stored"],
            is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
        ),
    }
    return moments._replace(inner_states=groups)


def class_labels(split: Split) -> Array:
    """Integer labels of a split; refuses one without.

    Raises:
      ValueError: the split holds no class labels.
    """
    if split.targets is None or np.ndim(split.targets) != 1:
        raise ValueError("the training split has no class labels to distil from")
    return jnp.asarray(split.targets)


def class_targets_for(
    loss: Loss, classes: int
) -> Callable[[Int[Array, " m"]], Float[Array, "m *c"]]:
    """Labels -> what a convex loss wants to fit.

    Margin losses: -1 and +1 for two classes, one column a class (one-vs-rest) for more.
    Multiclass losses: one-hot rows. Regression losses: -1 and +1 for two classes,
    one-hot - 1/c for more.

    Raises:
      ValueError: fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"needs a problem with at least 2 classes, got {classes}")
    if loss.kind == "multiclass":
        return lambda labels: class_targets.one_hot(labels, classes)
    if classes == 2:
        return class_targets.signs
    if loss.kind == "margin":
        return lambda labels: class_targets.one_vs_rest(labels, classes)
    return lambda labels: class_targets.centred_one_hot(labels, classes)


def targets_kind_for(loss: Loss, classes: int) -> str:
    """The `DistilledSet.targets_kind` that goes with `class_targets_for`."""
    if loss.kind == "multiclass":
        return "probabilities"
    return "margin" if classes == 2 else "scores"


def distilled_set(
    state: State,
    problem: Problem,
    parts: Learner,
    *,
    targets_kind: str,
    provenance: dict[str, Any],
    certificate: dict[str, Any] | None = None,
) -> DistilledSet:
    """Collects what was learned; the caller completes the provenance."""
    return DistilledSet(
        stored=dict(state.learned["stored"]),
        parameterization=parts.parameterization,
        targets=jnp.asarray(state.learned["targets"]),
        targets_kind=targets_kind,
        labels=state.labels,
        preprocessing=problem.preprocessing,
        class_names=problem.class_names,
        provenance=provenance,
        certificate=certificate,
        targets_preprocessing=problem.targets_preprocessing,
        columns=problem.columns,
    )
