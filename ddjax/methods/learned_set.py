"""What gradient-based distillation methods share: the stored numbers and their descent.

A method learns a dictionary of groups: `stored`, the decoder's numbers, and whatever it
needs besides. The decoder says which of the stored numbers make targets, and which stay
as they are.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax.checks import check_names
from ddjax.data.problem import Problem, Split, identity
from ddjax.kernels.losses import Loss
from ddjax.methods import descent as descents
from ddjax.methods.base import (
    DistilledFn,
    InitFn,
    Method,
    PrepareFn,
    Progress,
    SampleFn,
    StepFn,
    whole_data,
)
from ddjax.methods.descent import Descent
from ddjax.storage.cache import Cache
from ddjax.synthetic import decoders
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.initialization import INITIALIZATIONS, balanced_labels, select
from ddjax.synthetic.json_text import plain

__all__ = [
    "DECODER_NOISE",
    "DescentState",
    "LearnedSet",
    "Samples",
    "class_init",
    "class_labels",
    "class_start",
    "class_targets_for",
    "check_initialization",
    "distilled_from",
    "fit_decoder",
    "gradient_method",
    "learned_set",
    "of_keywords",
    "onto_simplex",
    "regression_targets",
    "targets_kind_for",
]

DECODER_NOISE = "decoder_noise"
"""The initialisation that is left to the decoder."""

_INPUTS, _TARGETS, _CONSTANTS = "inputs", "targets", "constants"


class DescentState(NamedTuple):
    """What one step changes.

    Attributes:
      learned: group name -> arrays; `stored`, the decoder's numbers, is always there.
      moments: group name -> the optimiser's state, the stored numbers being the two
        groups `inputs` and `targets`.
      labels: class of each sample, `(m,)` int32, or None without classes; constant.
    """

    learned: dict[str, Any]
    moments: dict[str, Any]
    labels: Int[Array, " m"] | None


class Samples(NamedTuple):
    """Decoded pairs on the device.

    Attributes:
      inputs: `(m, *shape)`, in preprocessed space.
      targets: `(m, c)` or `(m,)` floats.
    """

    inputs: Float[Array, "m *shape"]
    targets: Float[Array, "m *c"]


class LearnedSet(NamedTuple):
    """The part of a method that turns gradients into a distilled set.

    Attributes:
      decoder: how stored numbers become pairs.
      descent: how they descend.
      fit: `(problem, cache) -> fitted`, what the decoder takes from the real data, once
        a run.
      start: `(stored, labels, extra) -> state`, the first state; `extra` holds the
        method's own groups.
      pairs: `learned -> Samples`, the decoded pairs.
      update: `(state, gradients, progress) -> state`.
      follows_length: whether updates depend on the run's length.
    """

    decoder: Decoder
    descent: Descent
    fit: Callable[[Problem, Cache], Fitted]
    start: Callable[..., DescentState]
    pairs: Callable[[dict[str, Any]], Samples]
    update: Callable[[DescentState, dict[str, Any], Progress], DescentState]
    follows_length: bool


def learned_set(
    *,
    decoder: str | Mapping[str, Any] | Decoder,
    descent: Mapping[str, Any] | Descent | None,
    default: Descent,
    learn_targets: bool,
    initialization: str | None = None,
    known: Collection[str] = INITIALIZATIONS,
    groups: Collection[str] = (),
    frozen: Collection[str] = (),
    with_views: bool = False,
    by_class: bool = True,
    project_targets: Callable[[Array], Array] | None = None,
) -> LearnedSet:
    """Builds the shared part of a gradient-based method.

    Args:
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: what the user says about it, see `ddjax.methods.descent.describe`.
      default: the method's own.
      learn_targets: whether the targets are learned as well.
      initialization: one of `known`, or `decoder_noise`, the decoder's own random
        start; None where it is checked elsewhere.
      known: the initialisations that the method has.
      groups: the method's own groups, which may have a rate of their own.
      frozen: those of them that are not learned.
      with_views: whether the method knows what the targets of views are, so that a
        sample may make several pairs.
      by_class: whether samples start as `class_start` has it, so that one of them may
        hold several pairs of a class side by side.
      project_targets: applied to the targets after each update (on the simplex, say);
        for decoders that store targets as they are.

    Raises:
      ValueError: an unknown name or a number out of range; a decoder whose targets
        cannot be projected, that makes views, or that has no random start.
    """
    made = decoders.from_setting(decoder)
    if initialization is not None:
        check_initialization(made, initialization, known)
    if made.pairs_per_sample > 1 and not with_views:
        raise ValueError(
            f"decoder {made.name!r} makes {made.pairs_per_sample} pairs of each "
            "sample, whose targets this method does not know; give it views='none'"
        )
    if made.parts > 1 and not by_class:
        raise ValueError(
            f"decoder {made.name!r} stores {made.parts} pairs of one class side by "
            "side, and this method has no classes; use 'pixels'"
        )
    described = descents.describe(descent, default, groups=(_TARGETS, *groups))
    if project_targets is not None and learn_targets and made.targets != ("targets",):
        raise ValueError(
            f"decoder {made.name!r} makes its targets of {', '.join(made.targets)}, "
            "which cannot be kept on the simplex; use a decoder that stores targets as "
            "they are, or learn_targets=False"
        )
    not_learned = {_CONSTANTS, *frozen, *(() if learn_targets else (_TARGETS,))}

    def start(stored, labels=None, extra=None) -> DescentState:
        learned = {"stored": stored, **(extra or {})}
        grouped = _grouped(learned, made)
        return DescentState(
            learned,
            {
                name: descents.first_moments(described, name, values)
                for name, values in grouped.items()
                if name not in not_learned
            },
            labels,
        )

    def update(
        state: DescentState, gradients: dict[str, Any], progress: Progress
    ) -> DescentState:
        values, slopes = _grouped(state.learned, made), _grouped(gradients, made)
        moments = dict(state.moments)
        for name in moments:
            values[name], moments[name] = descents.descend(
                described, name, values[name], slopes[name], moments[name], progress
            )
        learned = _ungrouped(values)
        stored = learned["stored"]
        if learn_targets and project_targets is not None:
            stored = {**stored, "targets": project_targets(stored["targets"])}
        if made.advance is not None:
            done = progress.step + 1
            stored, restarted = made.advance(stored, done, progress.steps)
            inputs = _grouped({"stored": stored}, made)[_INPUTS]
            moments[_INPUTS] = jax.tree.map(
                lambda new, old: jnp.where(restarted, new, old),
                descents.first_moments(described, _INPUTS, inputs),
                moments[_INPUTS],
            )
        return DescentState({**learned, "stored": stored}, moments, state.labels)

    return LearnedSet(
        decoder=made,
        descent=described,
        fit=lambda problem, cache: fit_decoder(made, problem, cache),
        start=start,
        pairs=lambda learned: Samples(
            *map(jnp.asarray, made.decode(learned["stored"]))
        ),
        update=update,
        follows_length=descents.decays(described) or made.advance is not None,
    )


def of_keywords(
    given: Mapping[str, Any], default: Descent, **settings: Any
) -> LearnedSet:
    """`learned_set` from a factory's keywords: `decoder`, `descent`, `initialization`.

    And `learn_targets`, which is False where the method does not have it.
    """
    names = ("decoder", "descent", "initialization")
    taken = {name: given[name] for name in names}
    learn_targets = given.get("learn_targets", False)
    return learned_set(
        **taken, default=default, learn_targets=learn_targets, **settings
    )


def fit_decoder(decoder: Decoder, problem: Problem, cache: Cache) -> Fitted:
    """What a decoder takes from the real training data, kept by the cache.

    Raises:
      ValueError: data that the decoder does not go with.
    """
    depends_on = {
        "decoder": decoder.name,
        "settings": decoder.settings,
        "problem": identity(problem),
    }
    found = cache("decoder", depends_on, lambda: {**decoder.fit(problem.train)})
    return {name: jnp.asarray(array) for name, array in found.items()}


def class_start(
    learned: LearnedSet,
    key: PRNGKeyArray,
    problem: Problem,
    fitted: Fitted,
    targets: Callable[[Int[Array, " m"]], Float[Array, "m *c"]],
    *,
    per_class: int,
    initialization: str,
) -> tuple[dict[str, Any], Int[Array, " m"]]:
    """Stored numbers to start from on a problem with classes, and their labels.

    Args:
      learned: the shared part.
      key: of the draw.
      problem: the real data.
      fitted: what `LearnedSet.fit` gave.
      targets: labels -> the targets to start from.
      per_class: stored samples a class (IPC), >= 1.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`,
        the decoder's own random start, the same number for each class.

    Returns:
      The stored numbers, and the class of each pair that they make.
    """
    decoder = learned.decoder
    per_class = per_class * decoder.parts
    if initialization == DECODER_NOISE and decoder.noise is not None:
        labels = balanced_labels(problem, per_class=per_class)
        shape = (len(labels), *problem.train.inputs.shape[1:])
        return decoder.noise(key, shape, targets(labels), fitted), labels
    inputs, labels = select(key, problem, per_class=per_class, how=initialization)
    return decoder.init(Pairs(inputs, targets(labels)), fitted), labels


def class_init(
    learned: LearnedSet,
    targets: Callable[[Int[Array, " m"], int], Float[Array, "m *c"]],
    *,
    per_class: int,
    initialization: str,
    extra: Callable[[], dict[str, Any]] = dict,
) -> InitFn:
    """The slot `init` of a method that starts as `class_start` says.

    Args:
      learned: the shared part.
      targets: `(labels, classes) -> targets` to start from.
      per_class: samples a class (IPC), >= 1.
      initialization: see `class_start`.
      extra: makes the first values of the method's own groups.

    Returns:
      `(key, problem, data) -> DescentState`, data having the field `fitted`.
    """

    def init(key: PRNGKeyArray, problem: Problem, data: Any) -> DescentState:
        stored, labels = class_start(
            learned,
            key,
            problem,
            data.fitted,
            lambda labels: targets(labels, problem.classes),
            per_class=per_class,
            initialization=initialization,
        )
        return learned.start(stored, labels, extra())

    return init


def distilled_from(
    learned: LearnedSet, recipe: Callable[[PRNGKeyArray, Any, Problem], dict[str, Any]]
) -> DistilledFn:
    """The slot `distilled` of a method whose samples are all that it leaves.

    Args:
      learned: the shared part.
      recipe: `(key, state, problem) -> recipe`, see
        `ddjax.synthetic.distilled.DistilledSet`; the key is that of `prepare`.

    Returns:
      Takes a `DescentState`, or a state whose `descent` is one.
    """

    def distilled(
        key: PRNGKeyArray, state: Any, problem: Problem, data: Any
    ) -> DistilledSet:
        del data
        descent = getattr(state, "descent", state)
        return distilled_set(
            descent.learned["stored"],
            learned.decoder,
            problem,
            recipe={**recipe(key, state, problem)},
            labels=descent.labels,
        )

    return distilled


def gradient_method(
    name: str,
    given: Mapping[str, Any],
    learned: LearnedSet,
    *,
    prepare: PrepareFn,
    init: InitFn,
    step: StepFn,
    distilled: DistilledFn,
    sample: SampleFn = whole_data,
    follows_length: bool = False,
    **resolved: Any,
) -> Method:
    """A method from its slots; its settings are the keywords it was given, resolved.

    Args:
      name: the registered name.
      given: the keywords of its factory.
      learned: the shared part, which resolved `decoder` and `descent`.
      prepare: slot, like the next four.
      init: slot.
      step: slot.
      distilled: slot.
      sample: slot.
      follows_length: whether steps depend on the run's length in another way than by
        the descent or the decoder.
      **resolved: other keywords in full.
    """
    settings = {**given, "descent": learned.descent}
    if "decoder" in given:
        settings["decoder"] = learned.decoder
    return Method(
        name,
        plain({**settings, **resolved}, "settings"),
        prepare,
        init,
        sample,
        step,
        distilled,
        follows_length=learned.follows_length or follows_length,
    )


def check_initialization(
    decoder: Decoder, initialization: str, known: Collection[str] = INITIALIZATIONS
) -> None:
    """Refuses an unknown initialisation, or the noise of a decoder that has none.

    Raises:
      ValueError: with what is allowed.
    """
    if initialization == DECODER_NOISE and decoder.noise is None:
        raise ValueError(
            f"decoder {decoder.name!r} has no random start of its own; initialization "
            f"may be one of {', '.join(known)}"
        )
    check_names(initialization=(initialization, (*known, DECODER_NOISE)))


def _grouped(learned: Mapping[str, Any], decoder: Decoder) -> dict[str, Any]:
    """The groups that descend, each with moments of its own."""
    groups: dict[str, Any] = {_INPUTS: {}, _TARGETS: {}, _CONSTANTS: {}}
    for name, values in learned["stored"].items():
        if name in decoder.constants:
            groups[_CONSTANTS][name] = values
        else:
            groups[_TARGETS if name in decoder.targets else _INPUTS][name] = values
    return groups | {name: v for name, v in learned.items() if name != "stored"}


def _ungrouped(groups: dict[str, Any]) -> dict[str, Any]:
    parts = (_INPUTS, _TARGETS, _CONSTANTS)
    stored = {name: v for part in parts for name, v in groups[part].items()}
    return {"stored": stored} | {n: v for n, v in groups.items() if n not in parts}


def class_labels(split: Split) -> Int[Array, " n"]:
    """Integer labels of a split; refuses one without.

    Raises:
      ValueError: the split holds no class labels.
    """
    if split.labels is None:
        raise ValueError("the training split has no class labels to distil from")
    return jnp.asarray(split.labels)


def regression_targets(split: Split) -> Float[Array, "n c"]:
    """The targets of a split; refuses one without.

    Raises:
      ValueError: the split holds no targets.
    """
    if split.targets is None:
        raise ValueError("the training split has no regression targets to distil from")
    return jnp.asarray(split.targets)


def onto_simplex(targets: Float[Array, "m c"]) -> Float[Array, "m c"]:
    """The nearest probabilities: each row's Euclidean projection onto the simplex."""
    # optax divides floats by integer ranks.
    with jax.numpy_dtype_promotion("standard"):
        return jax.vmap(optax.projections.projection_simplex)(targets)


def class_targets_for(
    loss: Loss, classes: int
) -> Callable[[Int[Array, " m"]], Float[Array, "m *c"]]:
    """Labels -> what a convex loss fits, see `ddjax.synthetic.targets.hard_targets`.

    Raises:
      ValueError: fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"needs a problem with at least 2 classes, got {classes}")
    return lambda labels: class_targets.hard_targets(labels, loss, classes)


def targets_kind_for(loss: Loss, classes: int) -> str:
    """The recipe's `targets_kind` that goes with `class_targets_for`."""
    if loss.kind == "multiclass":
        return "probabilities"
    return "margin" if classes == 2 else "scores"
