r"""A pool of student networks of staggered age, as one stacked pytree on the device.

Every step of a distillation takes one student at random, looks at the set through its
features, and then trains it one step on pairs (the set, full batch, or real ones); a
student that has had Z steps is drawn anew. Sampling, training and drawing anew are part
of the compiled step.

Training is on the mean squared error of a linear head, or on the cross-entropy, with
weight decay of every parameter (as PyTorch has it),

.. math::
    g = \nabla_\theta \tfrac{1}{m c} \lVert h_W(f_\omega(X_s)) - Y_s \rVert_F^2
        + \gamma \theta,

by SGD with momentum, :math:`v \leftarrow \mu v + g, \theta \leftarrow \theta -
\eta v`, or by Adam with :math:`\beta_1 = \mu`.

Source: Lee et al., "Self-Supervised Dataset Distillation for Transfer Learning" (ICLR
2024), Algorithm 1; the pool is FRePo's (Zhou, Nezhadarya and Ba, NeurIPS 2022). The
papers write the squared error summed over the c outputs, which with their learning rate
of 0.1 is the mean at a rate of 0.1 c: with hundreds of outputs that trains networks to
less than they were worth untrained.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax import checks
from ddjax.methods.learned_set import DescentState
from ddjax.models import networks
from ddjax.models.parts import a_few_at_a_time
from ddjax.storage.cache import Cache, cached_tree, no_cache
from ddjax.storage.checksum import checksum
from ddjax.synthetic.decoders.base import Pairs

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "Pool",
    "PoolState",
    "StudentTraining",
    "after_step",
    "features",
    "features_of_real",
    "outputs",
    "student_training",
    "started",
    "student",
]


OPTIMIZERS = ("sgd", "adam")
"""What students may be trained by."""

LOSSES = ("mean_squared", "cross_entropy")
"""What they may be trained on; the second is of targets that are probabilities."""


class StudentTraining(NamedTuple):
    """How students are made and trained.

    Attributes:
      network: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own, e.g. `{"widths": (128, 256, 512), "norm": "batch"}`.
      students: L >= 1, in the pool.
      steps: Z >= 1, after which a student is drawn anew.
      loss: one of `LOSSES`.
      optimizer: one of `OPTIMIZERS`.
      learning_rate: eta > 0.
      momentum: mu in [0, 1).
      weight_decay: gamma >= 0.
      compute_dtype: what the networks compute in, of
        `ddjax.models.networks.COMPUTE_DTYPES`; None takes the dtype of the set. Their
        parameters, statistics and velocities have that of the set in any case, as have
        the features that they give and the ridge regression on these.
    """

    network: str = "convnet"
    settings: Mapping[str, Any] = {}
    students: int = 10
    steps: int = 1000
    loss: str = "mean_squared"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    compute_dtype: str | None = None


class Pool(NamedTuple):
    """The students, every leaf of the first three with a leading axis L.

    Attributes:
      params: of the networks, the head included.
      statistics: running statistics of batches, by flax collection.
      moments: of the optimiser.
      ages: how many steps each has had, `(L,)`.
    """

    params: Any
    statistics: Any
    moments: Any
    ages: Int[Array, " l"]


class PoolState(NamedTuple):
    """What a step changes of a method that learns from students.

    Attributes:
      descent: the samples.
      pool: the students.
    """

    descent: DescentState
    pool: Pool


def student_training(
    given: Mapping[str, Any] | StudentTraining,
    default: StudentTraining = StudentTraining(),  # noqa: B008
) -> StudentTraining:
    """A description from a configuration's values over the defaults.

    Args:
      given: fields that differ from the defaults, or a whole description.
      default: the method's own.

    Raises:
      ValueError: an unknown field or network, or a number out of range.
    """
    training = default._replace(**checks.fields_of("pool", StudentTraining, given))
    networks.check_name(training.network)
    networks.check_compute_dtype(training.compute_dtype)
    checks.check_names(
        **{"pool.loss": (training.loss, LOSSES)},
        **{"pool.optimizer": (training.optimizer, OPTIMIZERS)},
    )
    checks.check_counts("pool.", students=training.students, steps=training.steps)
    checks.check_positive("pool.", learning_rate=training.learning_rate)
    checks.check_momentum("pool.", training.momentum)
    checks.check_not_negative("pool.", weight_decay=training.weight_decay)
    _network(training, 1)
    return training


def started(
    key: PRNGKeyArray,
    training: StudentTraining,
    pairs: Pairs,
    cache: Cache = no_cache,
) -> Pool:
    """Students of ages drawn from {1, ..., Z}, trained so many steps on given pairs.

    Compiled once; the students follow one another. Costs some L Z / 2 steps.

    Args:
      key: of the ages and the networks.
      training: how they are trained.
      pairs: the set that a run starts from, say.
      cache: keeps them, for a run that is resumed.
    """
    depends_on = {
        "training": training._asdict(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "pairs": checksum(pairs._asdict()),
    }
    return cached_tree(
        cache,
        "student_pool",
        depends_on,
        lambda: _started(key, training, pairs),
        like=jax.eval_shape(lambda: _started(key, training, pairs, untrained=True)),
    )


def _started(
    key: PRNGKeyArray,
    training: StudentTraining,
    pairs: Pairs,
    *,
    untrained: bool = False,
) -> Pool:
    ages_key, key = jax.random.split(key)
    ages = jax.random.randint(
        ages_key, (training.students,), 1, training.steps + 1, jnp.int32
    )

    @jax.jit
    def one(key: PRNGKeyArray, age: Array, pairs: Pairs) -> Any:
        fresh = _fresh(key, training, pairs)
        if untrained:
            return fresh
        return jax.lax.fori_loop(
            0, age, lambda _, each: _trained(training, each, pairs), fresh
        )

    keys = jax.random.split(key, training.students)
    if untrained:
        students = [one(own, age, pairs) for own, age in zip(keys, ages, strict=True)]
    else:
        students = _one_by_one(one, keys, ages, pairs)
    params, statistics, moments = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *students
    )
    return Pool(params, statistics, moments, ages)


def _one_by_one(
    train: Callable[..., Any], keys: Array, ages: Array, pairs: Pairs
) -> list[Any]:
    """Trains every student; a bar on stderr says how far it is, if it takes long."""
    from tqdm import tqdm

    students, steps = [], [int(age) for age in ages]
    settings: dict[str, Any] = {"unit": " steps", "delay": 5.0, "mininterval": 5.0}
    with tqdm(desc="students of the pool", total=sum(steps), **settings) as bar:
        for key, age, count in zip(keys, ages, steps, strict=True):
            students.append(jax.block_until_ready(train(key, age, pairs)))
            bar.update(count)
    return students


def student(pool: Pool, which: Int[Array, ""]) -> tuple[Any, Any]:
    """Parameters and statistics of one of them."""
    params, statistics, _ = _taken(pool, which)
    return params, statistics


def features(
    training: StudentTraining,
    student: tuple[Any, Any],
    inputs: Float[Array, "n *shape"],
) -> Float[Array, "n _"]:
    r"""What the outer problem sees inputs through: :math:`(f_\omega(x), 1)`.

    In evaluation mode: normalised by the running statistics.
    """
    found = outputs(training, student, inputs, None).reshape(inputs.shape[0], -1)
    return jnp.concatenate([found, jnp.ones_like(found[:, :1])], axis=1)


def features_of_real(
    training: StudentTraining,
    student: tuple[Any, Any],
    inputs: Float[Array, "n *shape"],
) -> Float[Array, "n _"]:
    """`features` of many inputs, which are seen a few at a time on CPU."""
    return a_few_at_a_time(lambda few: features(training, student, few), inputs)


def outputs(
    training: StudentTraining,
    student: tuple[Any, Any],
    inputs: Float[Array, "n *shape"],
    number: int | None,
) -> Float[Array, "n ..."]:
    """What a student answers, in evaluation mode.

    Args:
      training: what its network is.
      student: its parameters and statistics.
      inputs: to be answered.
      number: of outputs; None for the network without its head.
    """
    params, statistics = student
    network = _network(training, number)
    params, images = _computing(training, (params, inputs))
    found = network.apply({"params": params, **statistics}, images)
    return jnp.asarray(found, inputs.dtype)


def after_step(
    key: PRNGKeyArray,
    training: StudentTraining,
    pool: Pool,
    which: Int[Array, ""],
    pairs: Pairs,
) -> Pool:
    """The pool after one student has been trained one step, or drawn anew at age Z.

    Args:
      key: of the new student, if there is one.
      training: how students are trained.
      pool: before.
      which: the student that was used.
      pairs: what it is trained on.
    """
    before = _taken(pool, which)
    age = pool.ages[which]
    done = age >= training.steps
    after = jax.lax.cond(
        done,
        lambda: _fresh(key, training, pairs),
        lambda: _trained(training, before, pairs),
    )
    held = (pool.params, pool.statistics, pool.moments)
    params, statistics, moments = jax.tree.map(
        lambda everyone, one: everyone.at[which].set(one), held, after
    )
    ages = pool.ages.at[which].set(jnp.where(done, jnp.zeros_like(age), age + 1))
    return Pool(params, statistics, moments, ages)


def _network(training: StudentTraining, outputs: int | None) -> nn.Module:
    return networks.make(training.network, outputs=outputs, **training.settings)


def _computing(training: StudentTraining, values: Any) -> Any:
    """Arrays in the dtype that networks compute in."""
    if training.compute_dtype is None:
        return values
    return jax.tree.map(lambda each: each.astype(training.compute_dtype), values)


def _optimizer(training: StudentTraining) -> optax.GradientTransformation:
    rate, momentum = training.learning_rate, training.momentum
    named = {"sgd": optax.sgd(rate, momentum), "adam": optax.adam(rate, b1=momentum)}
    decay = optax.add_decayed_weights(training.weight_decay)
    return optax.chain(decay, named[training.optimizer])


def _fresh(key: PRNGKeyArray, training: StudentTraining, pairs: Pairs) -> Any:
    network = _network(training, pairs.targets.shape[1])
    params, statistics = networks.started(key, network, pairs.inputs)
    return params, statistics, _optimizer(training).init(params)


def _trained(training: StudentTraining, student: Any, pairs: Pairs) -> Any:
    params, statistics, moments = student
    network = _network(training, pairs.targets.shape[1])

    def error(params: Any) -> tuple[Array, Any]:
        weights, images = _computing(training, (params, pairs.inputs))
        outputs, changed = networks.outputs_in_training(
            network, weights, statistics, images
        )
        outputs, targets = outputs.astype(pairs.targets.dtype), pairs.targets
        if training.loss == "cross_entropy":
            return jnp.mean(optax.softmax_cross_entropy(outputs, targets)), changed
        return jnp.mean(jnp.square(outputs - targets)), changed

    gradients, statistics = jax.grad(error, has_aux=True)(params)
    # Optax raises floats to the power of its integer step count.
    with jax.numpy_dtype_promotion("standard"):
        changes, moments = _optimizer(training).update(gradients, moments, params)
    return optax.apply_updates(params, changes), statistics, moments


def _taken(pool: Pool, which: Array) -> Any:
    held = (pool.params, pool.statistics, pool.moments)
    return jax.tree.map(lambda leaf: leaf[which], held)
