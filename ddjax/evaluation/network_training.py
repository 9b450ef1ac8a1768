"""Training finite networks on a small set: protocols, and one compiled program.

All networks of an evaluation are trained inside a single jitted call; only their random
keys differ.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from numpy import ndarray

from ddjax.models.networks import outputs_in_training, started

__all__ = [
    "INNER",
    "LOSSES",
    "PROTOCOLS",
    "Protocol",
    "Student",
    "predictor",
    "train",
    "untrained",
]


class Student(NamedTuple):
    """A network's variables, by what happens to them.

    Attributes:
      params: what gradients and weight decay act on.
      statistics: every other collection of the network by its name: running statistics
        of batches. They are updated by training batches, and are what the network
        normalises with when it predicts.
    """

    params: Any
    statistics: dict[str, Any]


class Protocol(NamedTuple):
    """How a network is trained: SGD with one drop of the learning rate, or Adam.

    A step of SGD is `g = gradient + weight_decay p; v = momentum v + g; p = p - rate
    v`, with every parameter decayed; Adam is given the same g. An epoch visits the set
    once in random order.

    Attributes:
      epochs: passes over the distilled set; 0 leaves the networks as they start.
      batch: samples a step; the last batch of an epoch holds the rest.
      optimizer: `sgd` or `adam`.
      learning_rate: until the drop.
      schedule: `drop`, or `cosine` from the first step to 0 at the end.
      drop_after: fraction of the epochs after which the rate drops.
      drop_factor: what the rate is multiplied with then; 1 for no drop.
      momentum: of SGD; the first moment's decay of Adam.
      weight_decay: coefficient of the squared norm's gradient.
      networks: how many independent networks are trained.
      gray_padding: zero padding of a ConvNet's first convolution for one-channel
        images (28 x 28 -> 32 x 32 with 3; 1 keeps the size).
      steps: in place of `epochs`, whatever the size of the set; the last epoch may then
        be cut off.
    """

    epochs: int = 300
    batch: int = 256
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    schedule: str = "drop"
    drop_after: float = 0.5
    drop_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    networks: int = 20
    gray_padding: int = 3
    steps: int | None = None


PROTOCOLS = {
    "dc": Protocol(),
    "dc_long": Protocol(epochs=1000),
    "frepo": Protocol(
        epochs=1000,
        batch=500,
        optimizer="adam",
        learning_rate=3e-4,
        schedule="cosine",
        weight_decay=0.0,
        networks=5,
    ),
}
"""Named conventions.

`dc`: Zhao et al. (ICLR 2021). 20 networks a distilled set (they average over 5 sets,
which is the caller's loop over seeds). `dc_long`: 1000 epochs, which the same line of
work uses whenever the training is augmented (DSA, DM; for DC its MNIST runs, under
random crops, scales and rotations). Their rate drops one epoch after half time, and
their momentum restarts there; here it drops at half time and the momentum goes on.
`frepo`: Zhou, Nezhadarya and Ba (NeurIPS 2022): Adam with a cosine schedule, on learned
targets; without their warm-up.
"""

INNER = Protocol(
    epochs=1, batch=sys.maxsize, drop_factor=1.0, momentum=0.0, weight_decay=0.0
)
"""Plain SGD on the whole set in every step: the training that a set was made for, where
its recipe gives the size of every step (`ddjax.methods.dd`). As long as those are."""


def _cross_entropy(targets: Array, outputs: Array) -> Array:
    return optax.softmax_cross_entropy(outputs, targets)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "cross_entropy": _cross_entropy,
    "soft_cross_entropy": _cross_entropy,
    "squared": lambda y, f: 0.5 * jnp.sum(jnp.square(f - y), axis=1),
    "mean_squared": lambda y, f: jnp.mean(jnp.square(f - y), axis=1),
}
"""`(targets (n, k), outputs (n, k)) -> (n,)` by name.

`cross_entropy` is given the stored targets' hard labels, `soft_cross_entropy` their
probabilities, `squared` (half the squared distance) and `mean_squared` (the mean over
the entries of a sample) the targets as stored.
"""


def _length(protocol: Protocol, steps_per_epoch: int) -> tuple[int, int, int]:
    """Whole epochs, steps of one more, and the step at which the rate drops."""
    if protocol.steps is None:
        drop = round(protocol.drop_after * protocol.epochs) * steps_per_epoch
        return protocol.epochs, 0, drop
    whole, more = divmod(protocol.steps, steps_per_epoch)
    return whole, more, round(protocol.drop_after * protocol.steps)


def _optimizer(
    protocol: Protocol, steps_per_epoch: int, learning_rates: Array | None
) -> Any:
    whole, more, first = _length(protocol, steps_per_epoch)
    steps = whole * steps_per_epoch + more
    full = protocol.learning_rate if learning_rates is None else learning_rates

    def rate(count: Any) -> Any:
        if jnp.ndim(full) == 1:
            return jnp.asarray(full)[count]
        if protocol.schedule == "cosine":
            return full * 0.5 * (1.0 + jnp.cos(math.pi * count / steps))
        return jnp.where(count < first, full, full * protocol.drop_factor)

    if protocol.optimizer == "adam":
        chosen = optax.adam(rate, b1=protocol.momentum)
    else:
        chosen = optax.sgd(rate, momentum=protocol.momentum)
    return optax.chain(optax.add_decayed_weights(protocol.weight_decay), chosen)


def _epoch_rows(
    key: PRNGKeyArray, samples: int, batch: int
) -> tuple[Int[Array, "steps batch"], Int[Array, " rest"]]:
    """Rows of an epoch's whole batches, and what is left for the last one."""
    rows = jax.random.permutation(key, samples)
    whole = samples // batch * batch
    return rows[:whole].reshape(-1, batch), rows[whole:]


@functools.partial(
    jax.jit, static_argnames=("network", "protocol", "loss", "augment", "at_once")
)
def train(
    keys: Key[Array, " networks"],
    inputs: Float[Array, "m *shape"],
    targets: Float[Array, "m k"],
    *,
    network: nn.Module,
    protocol: Protocol,
    loss: str,
    augment: Callable[[PRNGKeyArray, Array], Array] | None = None,
    at_once: int = 1,
    learning_rates: Float[Array, "*steps"] | None = None,
) -> Student:
    """Trains one network a key, from its own initialisation.

    A network with running statistics of batches (flax's `batch_stats`) is called with
    `train=True` while it is trained: it normalises with the batch's own statistics and
    updates the running ones, which have neither gradient nor decay.

    Args:
      keys: `(networks,)` typed keys.
      inputs: the distilled samples, preprocessed.
      targets: in the units of the loss.
      network: a flax linen module with k outputs.
      protocol: epochs, batch and optimiser.
      loss: a name in `LOSSES`.
      augment: `(key, inputs) -> inputs`, applied to each batch; None for none.
      at_once: networks trained side by side; the groups follow one another. Does not
        change the result beyond rounding; more is faster on accelerators.
      learning_rates: in place of the protocol's, one number, or one for each step, `()`
        or `(steps,)`; the latter do not drop. An argument of the compiled program.

    Returns:
      The students, every leaf with a leading axis `(networks,)`.
    """
    samples = inputs.shape[0]
    batch = min(protocol.batch, samples)
    steps = math.ceil(samples / batch)
    optimizer = _optimizer(protocol, steps, learning_rates)

    def batch_loss(params, statistics, key, rows):
        chosen = inputs[rows]
        if augment is not None:
            chosen = augment(key, chosen)
        outputs, statistics = outputs_in_training(network, params, statistics, chosen)
        return jnp.mean(LOSSES[loss](targets[rows], outputs)), statistics

    def step(carry, batch_of):
        (params, statistics), moments = carry
        gradient = jax.grad(batch_loss, has_aux=True)
        gradients, statistics = gradient(params, statistics, *batch_of)
        changes, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, changes)
        return (Student(params, statistics), moments), None

    def epoch(carry, key):
        order_key, augment_key = jax.random.split(key)
        whole, rest = _epoch_rows(order_key, samples, batch)
        keys_of_steps = jax.random.split(augment_key, steps)
        carry, _ = jax.lax.scan(step, carry, (keys_of_steps[: len(whole)], whole))
        if rest.size:
            # Not filled up: what pads a batch would enter its statistics.
            carry, _ = step(carry, (keys_of_steps[-1], rest))
        return carry, None

    epochs, more, _ = _length(protocol, steps)

    def train_one(key):
        init_key, epochs_key = jax.random.split(key)
        student = untrained(init_key, network, inputs)
        keys_of_epochs = jax.random.split(epochs_key, epochs + bool(more))
        carry = student, optimizer.init(student.params)
        carry, _ = jax.lax.scan(epoch, carry, keys_of_epochs[:epochs])
        if more:
            order_key, augment_key = jax.random.split(keys_of_epochs[epochs])
            whole, _ = _epoch_rows(order_key, samples, batch)
            keys_of_steps = jax.random.split(augment_key, steps)
            carry, _ = jax.lax.scan(step, carry, (keys_of_steps[:more], whole[:more]))
        return carry[0]

    return jax.lax.map(train_one, keys, batch_size=at_once if at_once > 1 else None)


def untrained(
    key: PRNGKeyArray, network: nn.Module, inputs: Float[Array | ndarray, "m *shape"]
) -> Student:
    """A student as it starts, the key drawing weights for inputs of this shape."""
    return Student(*started(key, network, inputs))


@functools.lru_cache(maxsize=32)
def predictor(network: nn.Module) -> Callable[[Student, Array], Array]:
    """The compiled `(students, inputs) -> (n, networks, k)` of trained networks."""

    def predict(students: Student, inputs: Float[Array, "n *shape"]) -> Array:
        def one(student: Student) -> Array:
            variables = {"params": student.params, **student.statistics}
            return jnp.asarray(network.apply(variables, inputs))

        return jnp.swapaxes(jax.lax.map(one, students), 0, 1)

    return jax.jit(predict)
