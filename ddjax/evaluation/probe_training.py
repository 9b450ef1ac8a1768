"""A linear probe trained by gradient: minibatches, a cosine, augmented images."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts, check_names, check_positive
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.encoded_images import encoded
from ddjax.kernels import losses
from ddjax.models.encoders.base import Encoder

__all__ = [
    "FeaturesFn",
    "Probe",
    "Training",
    "accuracies",
    "augmented_features",
    "check_training",
    "given_features",
    "train_probe",
]

FeaturesFn = Callable[[Any, PRNGKeyArray, Int[Array, " b"]], Float[Array, "b p"]]
"""`(samples, key, indices) -> features` of the samples at these positions."""

_HEAD_STD = 0.01
_OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adam": optax.adam,
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
}


class Training(NamedTuple):
    """The protocol of one training.

    Attributes:
      epochs: passes over the samples, >= 1.
      batch_size: samples a step; all of them where there are fewer.
      learning_rate: for a batch of 256; it is multiplied by the batch's size over 256
        and falls to zero along a cosine.
      optimizer: `adam`, or `sgd` with momentum 0.9.
    """

    epochs: int = 1000
    batch_size: int = 100
    learning_rate: float = 1e-3
    optimizer: str = "adam"


class Probe(NamedTuple):
    """A linear classifier.

    Attributes:
      weights: `(p, c)`.
      bias: `(c,)`.
    """

    weights: Float[Array, "p c"]
    bias: Float[Array, " c"]


def check_training(training: Training, seeds: int) -> None:
    """Refuses numbers out of range.

    Raises:
      ValueError: one of them, by its name.
    """
    check_counts(epochs=training.epochs, batch_size=training.batch_size, seeds=seeds)
    check_positive(required=True, learning_rate=training.learning_rate)
    check_names(optimizer=(training.optimizer, _OPTIMIZERS))


@functools.partial(jax.jit, static_argnames=("features_fn", "width", "training"))
def train_probe(
    keys: Key[Array, " s"],
    features_fn: FeaturesFn,
    samples: Any,
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
      features_fn: see `FeaturesFn`: features of samples, or of what an augmentation
        makes of them with this key.
      samples: what it takes them from, a pytree of arrays.
      targets: class probabilities.
      width: number p of features.
      training: the protocol.

    Returns:
      The probes, with a leading axis `s`.
    """
    count, classes = targets.shape
    batch = min(training.batch_size, count)
    steps = -(-count // batch)
    rate = training.learning_rate * batch / 256
    schedule = optax.cosine_decay_schedule(rate, training.epochs * steps)
    optimizer = _OPTIMIZERS[training.optimizer](schedule)
    cross_entropy = losses.softmax()

    def loss(probe: Probe, features, wanted, mass):
        scores = features @ probe.weights + probe.bias[None, :]
        return jnp.sum(cross_entropy.value(wanted, scores) * mass) / jnp.sum(mass)

    def one_step(carry, inputs):
        probe, moments = carry
        indices, mass, key = inputs
        features = features_fn(samples, key, indices)
        gradient = jax.grad(loss)(probe, features, targets[indices], mass)
        # optax raises floats to the power of its integer step count.
        with jax.numpy_dtype_promotion("standard"):
            changes, moments = optimizer.update(gradient, moments)
        probe: Any = optax.apply_updates(probe, changes)
        return (probe, moments), None

    def one_epoch(carry, key):
        order_key, features_key = jax.random.split(key)
        order = jax.random.permutation(order_key, count)
        # What fills the last batch up counts for nothing.
        padded = jnp.pad(order, (0, steps * batch - count)).reshape(steps, batch)
        mass = (jnp.arange(steps * batch) < count).astype(targets.dtype)
        keys_of_steps = jax.random.split(features_key, steps)
        inputs = padded, mass.reshape(steps, batch), keys_of_steps
        return jax.lax.scan(one_step, carry, inputs)

    def one_probe(key) -> Probe:
        start_key, epochs_key = jax.random.split(key)
        start = jax.random.normal(start_key, (width, classes), targets.dtype)
        probe = Probe(_HEAD_STD * start, jnp.zeros(classes, targets.dtype))
        carry = probe, optimizer.init(probe)
        epochs = jax.random.split(epochs_key, training.epochs)
        (trained, _), _ = jax.lax.scan(one_epoch, carry, epochs)
        return trained

    return jax.lax.map(one_probe, keys)


def accuracies(
    probes: Probe,
    features: Float[Array | ndarray, "n p"],
    labels: Int[ndarray, " n"],
) -> list[float]:
    """Accuracy of each of several probes."""
    rows = np.asarray(features)
    return [
        accuracy(rows @ np.asarray(weights) + np.asarray(bias), labels)
        for weights, bias in zip(probes.weights, probes.bias, strict=True)
    ]


def given_features(features: Array, key: PRNGKeyArray, indices: Array) -> Array:
    """A `FeaturesFn` of features that were computed beforehand."""
    del key
    return features[indices]


def augmented_features(
    key: PRNGKeyArray,
    encoder: Encoder,
    images: Float[Array, "m h w 3"],
    augment: Callable[[PRNGKeyArray, Array], Array],
    *,
    views: int | None,
    block: int,
) -> tuple[FeaturesFn, Any]:
    """A `FeaturesFn` of augmented images, and what it takes samples from.

    Args:
      key: of the views that are drawn beforehand.
      encoder: the frozen encoder.
      images: in [0, 1].
      augment: `(key, images) -> images`.
      views: of each image, encoded here, among which the training draws; None augments
        and encodes anew in every step; 0 takes the images as they are.
      block: images through the encoder at once.
    """
    if views == 0:
        return given_features, jnp.asarray(encoded(encoder, images, block=block))
    if views is None:
        return _fresh_views(encoder.apply, augment), (encoder.params, images)
    bank = [
        encoded(encoder, _augmented(each, images, augment), block=block)
        for each in jax.random.split(key, views)
    ]
    return _views_of_bank, jnp.stack(bank)


@functools.partial(jax.jit, static_argnames="augment")
def _augmented(key: PRNGKeyArray, images: Array, augment: Any) -> Array:
    return augment(key, images)


@functools.lru_cache(maxsize=8)
def _fresh_views(apply: Any, augment: Any) -> FeaturesFn:
    def features_fn(samples: Any, key: PRNGKeyArray, indices: Array) -> Array:
        params, images = samples
        return apply(params, augment(key, images[indices]))

    return features_fn


def _views_of_bank(bank: Array, key: PRNGKeyArray, indices: Array) -> Array:
    """Of `(views, m, p)`, for each sample one at random."""
    which = jax.random.randint(key, indices.shape, 0, bank.shape[0])
    return bank[which, indices]
