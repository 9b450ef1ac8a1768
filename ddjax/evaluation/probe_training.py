"""A linear probe trained by gradient: Adam, minibatches, augmented images."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ddjax.kernels import losses

__all__ = ["Probe", "Training", "train_probe"]

_HEAD_STD = 0.01


class Training(NamedTuple):
    """The protocol of one training.

    Attributes:
      epochs: passes over the samples, >= 1.
      batch_size: samples a step; all of them where there are fewer.
      learning_rate: of Adam for a batch of 256; it is multiplied by the batch's size
        over 256 and falls to zero along a cosine.
    """

    epochs: int = 1000
    batch_size: int = 100
    learning_rate: float = 1e-3


class Probe(NamedTuple):
    """A linear classifier.

    Attributes:
      weights: `(p, c)`.
      bias: `(c,)`.
    """

    weights: Float[Array, "p c"]
    bias: Float[Array, " c"]


def train_probe(
    keys: Key[Array, " s"],
    look: Callable[[Any, PRNGKeyArray, Array], Array],
    seen: Any,
    targets: Float[Array, "n c"],
    *,
    width: int,
    training: Training,
) -> Probe:
    r"""Minimises softmax cross-entropy from several starts, without weight decay.

    Starts at :math:`W \sim N(0, 0.01^2)`, b = 0. Every epoch goes through all samples
    in a new order; the last batch may be smaller, and is averaged over what it has.

    Source: the protocol of Cazenavette, Torralba and Sitzmann (NeurIPS 2025, arXiv
    2511.16674).

    Args:
      keys: `(s,)`, one for each start.
      look: `(seen, key, indices (b,)) -> (b, p)`: features of samples, or of what an
        augmentation makes of them with this key.
      seen: what it looks at, a pytree of arrays.
      targets: class probabilities.
      width: number p of features.
      training: the protocol.

    Returns:
      The probes, with a leading axis `s`.
    """
    return _train_probes(keys, seen, targets, look=look, width=width, training=training)


@functools.partial(jax.jit, static_argnames=("look", "width", "training"))
def _train_probes(keys, seen, targets, *, look, width, training) -> Probe:
    count, classes = targets.shape
    batch = min(training.batch_size, count)
    steps = -(-count // batch)
    rate = training.learning_rate * batch / 256
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, training.epochs * steps))
    cross_entropy = losses.softmax()

    def loss(probe: Probe, features, wanted, mass):
        scores = features @ probe.weights + probe.bias[None, :]
        return jnp.sum(cross_entropy.value(wanted, scores) * mass) / jnp.sum(mass)

    def one_step(carry, inputs):
        probe, moments = carry
        indices, mass, key = inputs
        features = look(seen, key, indices)
        gradient = jax.grad(loss)(probe, features, targets[indices], mass)
        # optax raises floats to the power of its integer step count.
        with jax.numpy_dtype_promotion("standard"):
            changes, moments = optimizer.update(gradient, moments)
        probe: Any = optax.apply_updates(probe, changes)
        return (probe, moments), None

    def one_epoch(carry, key):
        order_key, look_key = jax.random.split(key)
        order = jax.random.permutation(order_key, count)
        # What fills the last batch up counts for nothing.
        padded = jnp.pad(order, (0, steps * batch - count)).reshape(steps, batch)
        mass = (jnp.arange(steps * batch) < count).astype(jnp.float32)
        inputs = padded, mass.reshape(steps, batch), jax.random.split(look_key, steps)
        return jax.lax.scan(one_step, carry, inputs)

    def one_probe(key) -> Probe:
        start_key, epochs_key = jax.random.split(key)
        weights = _HEAD_STD * jax.random.normal(start_key, (width, classes))
        probe = Probe(weights, jnp.zeros(classes))
        carry = probe, optimizer.init(probe)
        epochs = jax.random.split(epochs_key, training.epochs)
        (trained, _), _ = jax.lax.scan(one_epoch, carry, epochs)
        return trained

    return jax.lax.map(one_probe, keys)
