r"""What DC and DSA share: samples whose gradients are those of real samples.

In every class c, the gradient of the cross-entropy of a network by its parameters is
taken on a batch of real samples and on the distilled ones, behind the same random
transform where there is one. The samples descend on

.. math::
    L = \sum_c \sum_\ell \sum_i \Big(1 -
        \frac{\langle g^{\ell}_{i}(B_c), g^{\ell}_{i}(S_c) \rangle}
             {\lVert g^{\ell}_{i}(B_c) \rVert \, \lVert g^{\ell}_{i}(S_c) \rVert
              + \epsilon} \Big),

where i runs over the outputs of a layer (the rows of its kernel as a matrix), biases
and the scales and shifts of a normalisation being left out. Between two steps the
network is trained on the set for `network_steps` steps of SGD; after `outer_steps`
steps it is drawn anew.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching" (ICLR
2021), equations 9 and 10 and Algorithm 1.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ddjax import checks
from ddjax.data import augment as augmentations
from ddjax.data.problem import Problem
from ddjax.methods import class_samples, learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.class_samples import Augment, ClassData
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState, Samples
from ddjax.models import networks
from ddjax.models.parts import mean_over
from ddjax.synthetic.targets import one_hot

__all__ = ["DESCENT", "build", "gradient_distance", "loops", "matched"]

DESCENT = Descent("sgd", 0.1, settings={"momentum": 0.5})
"""What the authors of DC and DSA descend with."""

# Samples of a class -> outer steps, epochs of the network between two of them.
_LOOPS = {
    1: (1, 1),
    10: (10, 50),
    20: (20, 25),
    30: (30, 20),
    40: (40, 15),
    50: (50, 10),
}
_NETWORK_RATE = 0.01
_NETWORK_BATCH = 256
_EPSILON = 1e-6


def loops(per_class: int) -> tuple[int, int]:
    """The published `(outer_steps, epochs of the network between two of them)`.

    They are given for 1, 10, 20, 30, 40 and 50 samples a class; other numbers take
    those of the next smaller one.
    """
    return _LOOPS[max(known for known in _LOOPS if known <= per_class)]


def gradient_distance(real: Any, samples: Any) -> Float[Array, ""]:
    """L of the module for one class.

    Args:
      real: gradients by parameters of flax layers, whose kernels have their outputs in
        the last axis.
      samples: of the same structure.
    """

    def of_layer(one: Array, other: Array) -> Array:
        if one.ndim < 2:
            return jnp.zeros((), one.dtype)
        one, other = (each.reshape(-1, each.shape[-1]) for each in (one, other))
        lengths = _length(one) * _length(other)
        return jnp.sum(1.0 - jnp.sum(one * other, axis=0) / (lengths + _EPSILON))

    each = jax.tree.leaves(jax.tree.map(of_layer, real, samples))
    return jnp.sum(jnp.stack(each))


def _length(columns: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Euclidean, with derivative 0 where a column is 0 (a dead ReLU's)."""
    squared = jnp.sum(jnp.square(columns), axis=0)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


class State(NamedTuple):
    """What a step changes.

    Attributes:
      descent: the samples.
      params: of the network that is being trained on them.
      statistics: its running statistics.
    """

    descent: DescentState
    params: Any
    statistics: dict[str, Any]


def build(
    name: str,
    given: Mapping[str, Any],
    augment: augmentations.PlainSetting | None,
) -> Method:
    """A method from what tells the two apart.

    Args:
      name: the registered name.
      given: the keywords of its factory, see `ddjax.methods.dsa.dsa`.
      augment: drawn once for each class; None for none.
    """
    architecture, settings = given["architecture"], given["settings"]
    per_class, real_per_class = given["per_class"], given["real_per_class"]
    outer_steps, network_steps = given["outer_steps"], given["network_steps"]
    checks.check_counts(real_per_class=real_per_class)
    class_samples.check_network(architecture, settings)
    transform = class_samples.augmenter(augment, shared=True)
    parts, start = class_samples.balanced_set(given, default=DESCENT)
    published_outer, epochs = loops(per_class)
    outer = published_outer if outer_steps is None else outer_steps
    checks.check_counts(outer_steps=outer)
    checks.check_counts(least=0, network_steps=network_steps)

    def network_for(pairs: Samples) -> nn.Module:
        return networks.make_for(
            architecture,
            settings,
            outputs=pairs.targets.shape[1],
            shape=pairs.inputs.shape[1:],
        )

    def init(key: PRNGKeyArray, problem: Problem, data: ClassData) -> State:
        first = start(key, problem, data)
        pairs = parts.pairs(first.learned)
        # Drawn anew before the first step looks at it.
        fresh = networks.started(key, network_for(pairs), pairs.inputs)
        return State(first, *fresh)

    def step(state: State, batch: ClassData, key: PRNGKeyArray, progress: Progress):
        pairs, pull_back = jax.vjp(parts.pairs, state.descent.learned)
        network, classes = network_for(pairs), pairs.targets.shape[1]
        fresh_key, key, training_key = jax.random.split(key, 3)
        place = progress.step % outer
        params, statistics = jax.lax.cond(
            place == 0,
            lambda: networks.started(fresh_key, network, pairs.inputs),
            lambda: (state.params, state.statistics),
        )
        value, slopes = matched(
            jax.random.split(key, classes),
            network,
            params,
            statistics,
            class_samples.by_class(class_samples.drawn(batch.real)[0], classes),
            pairs,
            transform,
        )
        (gradients,) = pull_back(
            pairs._replace(inputs=slopes, targets=jnp.zeros_like(pairs.targets))
        )
        after = parts.update(state.descent, gradients, progress)
        number = epochs * -(-pairs.inputs.shape[0] // _NETWORK_BATCH)
        number = number if network_steps is None else network_steps
        params, statistics = _trained(
            training_key,
            network,
            params,
            statistics,
            parts.pairs(after.learned),
            transform,
            # The next step draws another network.
            jnp.where(place == outer - 1, 0, number),
        )
        return State(after, params, statistics), {"loss": value}

    return learned_set.gradient_method(
        name,
        given,
        parts,
        prepare=class_samples.prepare_classes(parts, per_class=real_per_class),
        init=init,
        step=step,
        distilled=class_samples.distilled_samples(parts, augment),
    )


def matched(
    keys: Key[Array, " c"],
    network: nn.Module,
    params: Any,
    statistics: dict[str, Any],
    real: Float[Array, "c n *shape"],
    pairs: Samples,
    transform: Augment,
) -> tuple[Float[Array, ""], Float[Array, "m *shape"]]:
    """The loss, and its gradient by the samples, one class after the other.

    Args:
      keys: of the transforms.
      network: with an output for each class.
      params: its parameters.
      statistics: its running statistics.
      real: real samples of each class.
      pairs: the distilled samples, ordered by class.
      transform: of both, alike.
    """
    classes = real.shape[0]

    def gradients(images: Array, label: Array) -> Any:
        targets = jnp.broadcast_to(
            one_hot(label[None], classes), (images.shape[0], classes)
        )

        def loss(params: Any) -> Array:
            return class_samples.trained_on(
                network, params, statistics, images, targets.astype(images.dtype)
            )[0]

        return jax.grad(loss)(params)

    def one(
        key: Array, label: Array, real: Array, samples: Array
    ) -> tuple[Array, Array]:
        wanted = mean_over(
            lambda part: gradients(part, label),
            transform(key, real),
            whole=bool(statistics),
        )

        def distance(samples: Array) -> Array:
            found = gradients(transform(key, samples), label)
            return gradient_distance(wanted, found)

        return jax.value_and_grad(distance)(samples)

    labels = jnp.arange(classes, dtype=jnp.int32)
    each = class_samples.by_class(pairs.inputs, classes)
    values, slopes = class_samples.each_class(one, keys, labels, real, each)
    return jnp.sum(values), slopes.reshape(pairs.inputs.shape)


def _trained(
    key: PRNGKeyArray,
    network: nn.Module,
    params: Any,
    statistics: dict[str, Any],
    pairs: Samples,
    transform: Augment,
    steps: Array,
) -> tuple[Any, dict[str, Any]]:
    """The network after some steps of plain SGD on batches of the set."""
    count = pairs.inputs.shape[0]

    def one(index: Array, held: tuple[Any, Any]) -> tuple[Any, Any]:
        rows_key, key_of_step = jax.random.split(jax.random.fold_in(key, index))
        rows = jax.random.permutation(rows_key, count)[:_NETWORK_BATCH]
        images = transform(key_of_step, pairs.inputs[rows])

        def loss(params: Any) -> tuple[Array, dict[str, Any]]:
            return class_samples.trained_on(
                network, params, held[1], images, pairs.targets[rows]
            )

        gradients, after = jax.grad(loss, has_aux=True)(held[0])
        rate = _NETWORK_RATE
        return jax.tree.map(lambda p, g: p - rate * g, held[0], gradients), after

    return jax.lax.fori_loop(0, steps, one, (params, statistics))
