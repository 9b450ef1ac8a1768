r"""A pool of student networks of staggered age, as one stacked pytree on the device.

Every step of a distillation takes one student at random, looks at the set through its
features, and then trains it one step on the set, full batch; a student that has had Z
steps is drawn anew. Sampling, training and drawing anew are part of the compiled step.

Training is SGD with momentum and weight decay (of every parameter, as PyTorch has it)
on the mean squared error of a linear head,

.. math::
    g = \nabla_\theta \tfrac{1}{m c} \lVert h_W(f_\omega(X_s)) - Y_s \rVert_F^2
        + \gamma \theta, \quad v \leftarrow \mu v + g, \quad
    \theta \leftarrow \theta - \eta v .

Source: Lee et al., "Self-Supervised Dataset Distillation for Transfer Learning" (ICLR
2024), Algorithm 1; the pool is FRePo's (Zhou, Nezhadarya and Ba, NeurIPS 2022). The
papers write the squared error summed over the c outputs, which with their learning rate
of 0.1 is the mean at a rate of 0.1 c: with hundreds of outputs that trains networks to
less than they were worth untrained.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax.models import networks
from ddjax.storage.cache import Cache, cached_tree, no_cache
from ddjax.storage.checksum import checksum
from ddjax.synthetic.decoders.base import Pairs

__all__ = [
    "Pool",
    "StudentTraining",
    "after_step",
    "features",
    "student_training",
    "started",
    "student",
]


class StudentTraining(NamedTuple):
    """How students are made and trained.

    Attributes:
      network: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own, e.g. `{"widths": (128, 256, 512), "norm": "batch"}`.
      students: L >= 1, in the pool.
      steps: Z >= 1, after which a student is drawn anew.
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
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    compute_dtype: str | None = None


class Pool(NamedTuple):
    """The students, every leaf of the first three with a leading axis L.

    Attributes:
      params: of the networks, the head included.
      statistics: running statistics of batches, by flax collection.
      velocities: v, like `params`.
      ages: how many steps each has had, `(L,)`.
    """

    params: Any
    statistics: Any
    velocities: Any
    ages: Int[Array, " l"]


def student_training(given: Mapping[str, Any] | StudentTraining) -> StudentTraining:
    """A description from a configuration's values over the defaults.

    Raises:
      ValueError: an unknown field or network, or a number out of range.
    """
    fields = given._asdict() if isinstance(given, StudentTraining) else dict(given)
    for name in fields:
        if name not in StudentTraining._fields:
            raise ValueError(
                f"pool has no {name!r}; there are: {', '.join(StudentTraining._fields)}"
            )
    training = StudentTraining(**fields)
    networks.check_name(training.network)
    networks.check_compute_dtype(training.compute_dtype)
    for name, allowed, fits in (
        ("students", "at least 1", lambda x: x >= 1),
        ("steps", "at least 1", lambda x: x >= 1),
        ("learning_rate", "> 0", lambda x: x > 0),
        ("momentum", "in [0, 1)", lambda x: 0 <= x < 1),
        ("weight_decay", ">= 0", lambda x: x >= 0),
    ):
        value = getattr(training, name)
        if not (math.isfinite(value) and fits(value)):
            raise ValueError(f"pool.{name} must be {allowed}, got {value!r}")
    _network(training, 1)
    return training


def started(
    key: PRNGKeyArray,
    training: StudentTraining,
    pairs: Pairs,
    cache: Cache = no_cache,
) -> Pool:
    """Students of ages drawn from {1, ..., Z}, trained so many steps on the first set.

    Compiled once; the students follow one another. Costs some L Z / 2 steps.

    Args:
      key: of the ages and the networks.
      training: how they are trained.
      pairs: the set that a run starts from.
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
    students = [one(own, age, pairs) for own, age in zip(keys, ages, strict=True)]
    params, statistics, velocities = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *students
    )
    return Pool(params, statistics, velocities, ages)


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
    params, statistics = student
    network = _network(training, None)
    params, images = _computing(training, (params, inputs))
    found = network.apply({"params": params, **statistics}, images)
    found = jnp.asarray(found, inputs.dtype).reshape(inputs.shape[0], -1)
    return jnp.concatenate([found, jnp.ones_like(found[:, :1])], axis=1)


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
      pairs: the set that it is trained on.
    """
    before = _taken(pool, which)
    age = pool.ages[which]
    done = age >= training.steps
    after = jax.lax.cond(
        done,
        lambda: _fresh(key, training, pairs),
        lambda: _trained(training, before, pairs),
    )
    held = (pool.params, pool.statistics, pool.velocities)
    params, statistics, velocities = jax.tree.map(
        lambda everyone, one: everyone.at[which].set(one), held, after
    )
    ages = pool.ages.at[which].set(jnp.where(done, jnp.zeros_like(age), age + 1))
    return Pool(params, statistics, velocities, ages)


def _network(training: StudentTraining, outputs: int | None) -> nn.Module:
    return networks.make(training.network, outputs=outputs, **training.settings)


def _computing(training: StudentTraining, values: Any) -> Any:
    """Arrays in the dtype that networks compute in."""
    if training.compute_dtype is None:
        return values
    return jax.tree.map(lambda each: each.astype(training.compute_dtype), values)


def _fresh(key: PRNGKeyArray, training: StudentTraining, pairs: Pairs) -> Any:
    network = _network(training, pairs.targets.shape[1])
    variables = dict(network.init(key, pairs.inputs[:1]))
    params = variables.pop("params")
    return params, variables, jax.tree.map(jnp.zeros_like, params)


def _trained(training: StudentTraining, student: Any, pairs: Pairs) -> Any:
    params, statistics, velocities = student
    network = _network(training, pairs.targets.shape[1])

    def error(params: Any) -> tuple[Array, Any]:
        weights, images = _computing(training, (params, pairs.inputs))
        outputs, changed = networks.outputs_in_training(
            network, weights, statistics, images
        )
        gap = outputs.astype(pairs.targets.dtype) - pairs.targets
        return jnp.mean(jnp.square(gap)), changed

    gradients, statistics = jax.grad(error, has_aux=True)(params)
    velocities = jax.tree.map(
        lambda v, g, p: training.momentum * v + g + training.weight_decay * p,
        velocities,
        gradients,
        params,
    )
    params = jax.tree.map(
        lambda p, v: p - training.learning_rate * v, params, velocities
    )
    return params, statistics, velocities


def _taken(pool: Pool, which: Array) -> Any:
    held = (pool.params, pool.statistics, pool.velocities)
    return jax.tree.map(lambda leaf: leaf[which], held)
