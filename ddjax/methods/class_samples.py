"""What methods share that train networks on samples with classes.

Such a method distils images (or rows) of given classes by looking at how networks see
them and real samples of the same classes: their features (`dm`, `idm`), gradients
(`dc`, `dsa`) or what they become when they are trained on the set (`dd`, `mtt`, `datm`,
`frepo`). Targets start as one-hot rows, and the set says that they are probabilities.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax.data import augment as augmentations
from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split
from ddjax.methods import learned_set
from ddjax.methods.base import DistilledFn, InitFn, PrepareFn
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState, LearnedSet
from ddjax.models import networks
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Fitted
from ddjax.synthetic.initialization import INITIALIZATIONS
from ddjax.synthetic.targets import one_hot

__all__ = [
    "Augment",
    "BALANCED",
    "ClassData",
    "after_steps",
    "augmenter",
    "balanced_set",
    "by_class",
    "check_network",
    "check_problem",
    "class_data",
    "distilled_samples",
    "drawn",
    "each_class",
    "prepare_classes",
    "trained_on",
]

BALANCED = tuple(how for how in INITIALIZATIONS if how != "uniform")
"""Starts with as many samples of each class, see
`ddjax.synthetic.initialization.select`."""

Augment = Callable[[PRNGKeyArray, Array], Array]
"""`(key, images) -> images`."""


class ClassData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real samples with labels, rows to draw from: ordered by class, as many of
        each, where the method compares class with class.
      fitted: what the decoder took from the real data.
    """

    real: Split | Batches
    fitted: Fitted


def class_data(
    problem: Problem,
    fitted: Fitted,
    *,
    per_class: int | None = None,
    batch_size: int | None = None,
) -> ClassData:
    """The training split to draw from, class by class or regardless of classes.

    Args:
      problem: the real data.
      fitted: what the decoder took from it.
      per_class: real samples of each class a step; as many as the smallest class has,
        where that is fewer. None for draws regardless of classes.
      batch_size: of these, real samples a step.

    Raises:
      ValueError: a split without class labels, or fewer than two classes.
    """
    check_problem(problem)
    if per_class is None:
        return ClassData(batches(problem.train, batch_size), fitted)
    labels = np.asarray(learned_set.class_labels(problem.train))
    smallest = int(np.bincount(labels, minlength=problem.classes).min())
    size = min(per_class, smallest) * problem.classes
    return ClassData(batches(problem.train, size, balanced=True), fitted)


def balanced_set(
    given: Mapping[str, Any],
    *,
    default: Descent,
    extra: Callable[[], dict[str, Any]] = dict,
    groups: Collection[str] = (),
    project_targets: Callable[[Array], Array] | None = None,
) -> tuple[LearnedSet, InitFn]:
    """A set whose samples start as many in each class, one-hot, and its slot `init`.

    Args:
      given: the keywords of the method's factory; `per_class`, `initialization` (one of
        `BALANCED`, or `decoder_noise`), `decoder`, `descent` and, where the method has
        it, `learn_targets` are read here.
      default: see `ddjax.methods.learned_set.learned_set`, as the last two.
      extra: see `ddjax.methods.learned_set.class_init`.
      groups: the method's own groups.
      project_targets: applied to the targets after each update.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    parts = learned_set.of_keywords(
        given, default, known=BALANCED, groups=groups, project_targets=project_targets
    )
    init = learned_set.class_init(
        parts,
        one_hot,
        per_class=given["per_class"],
        initialization=given["initialization"],
        extra=extra,
    )
    return parts, init


def prepare_classes(
    parts: LearnedSet, *, per_class: int | None = None, batch_size: int | None = None
) -> PrepareFn:
    """The slot `prepare` of a method that looks at `ClassData`, see `class_data`."""

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> ClassData:
        del key
        fitted = parts.fit(problem, cache)
        return class_data(problem, fitted, per_class=per_class, batch_size=batch_size)

    return prepare


def drawn(real: Split | Batches) -> tuple[Float[Array, "b *shape"], Int[Array, " b"]]:
    """The real samples that a step sees, and their labels."""
    assert isinstance(real, Split)  # the loop has drawn the rows of `Batches`
    return jnp.asarray(real.inputs), learned_set.class_labels(real)


def check_problem(problem: Problem) -> None:
    """Refuses a problem without classes.

    Raises:
      ValueError: a training split without class labels, or fewer than two classes.
    """
    learned_set.class_labels(problem.train)
    if problem.classes < 2:
        raise ValueError(
            f"problem {problem.name!r} has {problem.classes} classes; at least 2 are "
            "needed"
        )


def by_class(values: Float[Array | np.ndarray, "n *shape"], classes: int) -> Array:
    """Rows ordered by class, as many of each: `(classes, n / classes, *shape)`."""
    return jnp.asarray(values).reshape(classes, -1, *values.shape[1:])


def each_class(function: Callable[..., Any], *values: Any) -> Any:
    """`function` of the leading entries of all values, one class after the other.

    In sequence, because what a network makes of hundreds of real images of a class
    fills caches already.
    """
    return jax.lax.map(lambda each: function(*each), values)


def check_network(architecture: str, settings: Mapping[str, Any] | None) -> None:
    """Refuses an unknown network, or settings that it does not take.

    Raises:
      ValueError: with what is allowed.
    """
    networks.make(architecture, outputs=2, **dict(settings or {}))


def augmenter(setting: augmentations.PlainSetting | None, *, shared: bool) -> Augment:
    """An augmentation as one function, see `ddjax.data.augment.augmenter`.

    Args:
      setting: None for images as they are.
      shared: one draw for all images of a call, so that two batches that are given the
        same key are transformed alike ("siamese"); or one for each.
    """
    if setting is None:
        return lambda key, images: images
    return augmentations.augmenter(setting, shared=shared)


def trained_on(
    network: nn.Module,
    params: Any,
    statistics: dict[str, Any],
    inputs: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
) -> tuple[Float[Array, ""], dict[str, Any]]:
    """Cross-entropy of a batch in training, and the statistics that it leaves.

    Args:
      network: with an output for each class.
      params: its parameters.
      statistics: its running statistics.
      inputs: the batch.
      targets: probabilities.
    """
    outputs, after = networks.outputs_in_training(network, params, statistics, inputs)
    outputs = outputs.astype(targets.dtype)
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets)), after


def after_steps(
    loss: Callable[[Any, dict[str, Any], Any], tuple[Array, dict[str, Any]]],
    params: Any,
    statistics: dict[str, Any],
    step_sizes: Float[Array, " t"],
    each: Any,
) -> tuple[Any, dict[str, Any]]:
    r"""A network after T steps of plain SGD, differentiable by all that they look at.

    .. math::
        \theta_{t+1} = \theta_t - \eta_t \nabla_\theta \ell_t(\theta_t),
        \qquad t = 0, \dots, T - 1.

    On the way back each step is done once more: memory holds the parameters before
    every step, and the activations of one.

    Args:
      loss: `(params, statistics, one) -> (l, statistics)`.
      params: where the steps start.
      statistics: running statistics there.
      step_sizes: eta, one for each step.
      each: what else the loss of each step is given, a pytree of leaves `(T, ...)`.

    Returns:
      Parameters and statistics after the last step.
    """

    # Inside a loop nothing can be merged with what is computed again.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(held: tuple[Any, Any], given: tuple[Array, Any]) -> Any:
        params, statistics = held
        step_size, one = given
        slopes, statistics = jax.grad(loss, has_aux=True)(params, statistics, one)
        params = jax.tree.map(
            lambda p, g: p - step_size.astype(p.dtype) * g, params, slopes
        )
        return (params, statistics), None

    return jax.lax.scan(step, (params, statistics), (step_sizes, each))[0]


def distilled_samples(
    parts: LearnedSet,
    augment: augmentations.PlainSetting | None = None,
    *,
    inner: Callable[[DescentState], dict[str, Any]] | None = None,
) -> DistilledFn:
    """The slot `distilled` of a method whose targets are probabilities.

    Args:
      parts: the shared part.
      augment: what the set was made with, which its recipe names; None for none.
      inner: what the recipe says of the training that the set was made for.
    """

    def recipe(key: PRNGKeyArray, state: Any, problem: Problem) -> dict[str, Any]:
        del key, problem
        said: dict[str, Any] = {"targets_kind": "probabilities"}
        if augment is not None:
            transform = augmentations.make(augment)
            said["augmentation"] = {"name": transform.name, **transform.settings}
        if inner is not None:
            said["inner"] = inner(state)
        return said

    return learned_set.distilled_from(parts, recipe)
