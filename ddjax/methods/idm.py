r"""IDM: distribution matching on partly trained networks, with a term for the classes.

As `ddjax.methods.dm`, but the features are those of a network of a pool
(`ddjax.methods.student_pool`) that trains on real samples while the set is distilled,
the network has to recognise the samples, and each stored image holds several smaller
ones side by side (`ddjax.synthetic.decoders.partition`):

.. math::
    L = \sum_c \Big\lVert \tfrac{1}{|B_c|} \sum_{x \in B_c} \psi(\omega_c(x))
        - \tfrac{1}{|S_c|} \sum_{s \in S_c} \psi(\omega_c(s)) \Big\rVert^2
        + \alpha \, \tfrac{1}{m} \sum_{(s, y)} \mathrm{CE}(y, h(\psi(\omega(s)))) .

Source: Zhao, Li, Qin and Yu, "Improved Distribution Matching for Dataset Condensation"
(CVPR 2023): partitioning, a queue of models of different ages, and class-regularised
matching. Here a network of the pool is taken at random, trained one step of SGD on the
real samples of the step, and drawn anew at a given age; networks normalise by their
running statistics when they are looked through. The defaults for the pool and the
weight of the class term are our own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data import augment as augmentations
from ddjax.data.feed import Batches, gather, rows_of_step
from ddjax.data.problem import Problem, Split
from ddjax.methods import class_samples, learned_set, student_pool
from ddjax.methods.base import Method, Progress
from ddjax.methods.class_samples import ClassData
from ddjax.methods.descent import Descent
from ddjax.methods.dm import mean_feature_distance
from ddjax.methods.student_pool import Pool, PoolState, StudentTraining
from ddjax.models.parts import mean_over
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Pairs
from ddjax.synthetic.targets import one_hot

__all__ = ["DESCENT", "POOL", "idm"]

DESCENT = Descent("sgd", 0.2, settings={"momentum": 0.5})
"""The momentum is DM's."""

POOL = StudentTraining(
    students=20,
    steps=100,
    loss="cross_entropy",
    learning_rate=0.01,
    weight_decay=5e-4,
)
"""Networks of up to 100 steps on real samples."""


class MatchingData(NamedTuple):
    """What steps look at: real samples of each class, and the first networks."""

    samples: ClassData
    pool: Pool


def idm(
    *,
    per_class: int = 1,
    pool: Mapping[str, Any] | StudentTraining = POOL,
    class_weight: float = 0.5,
    real_per_class: int = 256,
    augment: augmentations.PlainSetting | None = "dsa",
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "partition",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds IDM as a `Method`.

    Args:
      per_class: stored samples a class (IPC).
      pool: fields of `ddjax.methods.student_pool.StudentTraining` that differ from
        `POOL`.
      class_weight: alpha >= 0.
      real_per_class: real samples of each class a step; as many as the smallest class
        has, where that is fewer.
      augment: of real samples and distilled ones alike, drawn once for each class, see
        `ddjax.data.augment.make`; None for none.
      initialization: one of `ddjax.methods.class_samples.BALANCED`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes.
    """
    given = dict(locals())
    checks.check_counts(real_per_class=real_per_class)
    checks.check_not_negative(class_weight=class_weight)
    training = student_pool.student_training(pool, POOL)
    transform = class_samples.augmenter(augment, shared=True)
    parts, start = class_samples.balanced_set(given, default=DESCENT)

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> MatchingData:
        fitted = parts.fit(problem, cache)
        samples = class_samples.class_data(problem, fitted, per_class=real_per_class)
        first = _real_pairs(samples.real, problem.classes)
        return MatchingData(samples, student_pool.started(key, training, first, cache))

    def init(key: PRNGKeyArray, problem: Problem, data: MatchingData) -> PoolState:
        return PoolState(start(key, problem, data.samples), data.pool)

    def sample(key: PRNGKeyArray, data: MatchingData) -> Split | Batches:
        del key
        return data.samples.real

    def step(state: PoolState, batch: Split, key: PRNGKeyArray, progress: Progress):
        which_key, fresh_key, key = jax.random.split(key, 3)
        which = jax.random.randint(which_key, (), 0, training.students)
        student = student_pool.student(state.pool, which)
        pairs, pull_back = jax.vjp(parts.pairs, state.descent.learned)
        classes = pairs.targets.shape[1]
        keys = jax.random.split(key, classes)

        def mean_feature(key: PRNGKeyArray, images: Array) -> Array:
            return mean_over(
                lambda part: student_pool.features(training, student, part).mean(0),
                transform(key, images),
            )

        real, labels = class_samples.drawn(batch)
        means = class_samples.each_class(
            mean_feature, keys, class_samples.by_class(real, classes)
        )

        def objective(inputs: Array) -> tuple[Array, Array]:
            each = class_samples.by_class(inputs, classes)
            shown = class_samples.each_class(transform, keys, each)
            shown = shown.reshape(inputs.shape)
            features = student_pool.features(training, student, shown)
            answers = student_pool.outputs(training, student, shown, classes)
            distance = mean_feature_distance(means, features)
            error = optax.softmax_cross_entropy(answers, pairs.targets).mean()
            return distance + class_weight * error, error

        (value, error), slopes = jax.value_and_grad(objective, has_aux=True)(
            pairs.inputs
        )
        (gradients,) = pull_back(
            pairs._replace(inputs=slopes, targets=jnp.zeros_like(pairs.targets))
        )
        descended = parts.update(state.descent, gradients, progress)
        targets = one_hot(labels, classes).astype(real.dtype)
        after = student_pool.after_step(
            fresh_key, training, state.pool, which, Pairs(real, targets)
        )
        age = state.pool.ages[which].astype(value.dtype)
        metrics = {"loss": value, "class_error": error, "age": age}
        return PoolState(descended, after), metrics

    return learned_set.gradient_method(
        "idm",
        given,
        parts,
        prepare=prepare,
        init=init,
        sample=sample,
        step=step,
        distilled=class_samples.distilled_samples(parts, augment),
        pool=dict(training._asdict()),
    )


def _real_pairs(real: Split | Batches, classes: int) -> Pairs:
    """A batch that the first networks train on."""
    if isinstance(real, Batches):
        real = gather(real.split, rows_of_step(real, seed=0, step=0))
    labels = jnp.asarray(real.labels)
    inputs = jnp.asarray(np.asarray(real.inputs))
    return Pairs(inputs, one_hot(labels, classes).astype(inputs.dtype))
