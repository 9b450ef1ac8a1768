r"""FRePo: neural feature regression on a pool of networks that train on the set.

A step takes a network of the pool (`ddjax.methods.student_pool`), sees the samples and
their mirror images through its features :math:`f = (f_\theta, 1)`, and asks how well
ridge regression on them predicts the labels of real images:

.. math::
    L = \tfrac{1}{2 n} \lVert Y_t - f(X_t) f(X_s)^\top (K + \lambda I)^{-1} Y_s
        \rVert_F^2 - \tfrac{1}{m} \sum_i \min\big(y_i^{(1)} - y_i^{(2)}, \tfrac{1}{C}
        \big), \quad \lambda = \rho \, \mathrm{tr}(K) / m,

:math:`y^{(1)} - y^{(2)}` being the gap between the largest and the second largest
target of a sample: the last term keeps learned targets apart. Then the network is
trained one step on the set, or drawn anew.

Source: Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression"
(NeurIPS 2022), equations 4 and 5 and Algorithm 1. Settings there, and defaults here: 10
networks of up to 100 steps of Adam with rate 3e-4, 128-256-512 channels, 1024 real
images a step, LAMB with rate 3e-4, cosine schedule to a tenth, targets that start as
:math:`(\text{one-hot} - 1/C) / \sqrt{C / 10}`. Their networks normalise before they
convolve, and their features have no constant beside them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax import checks
from ddjax.data.feed import Batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels import precision
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import class_samples, learned_set, student_pool
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState, Samples
from ddjax.methods.student_pool import Pool, PoolState, StudentTraining
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Pairs
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["DESCENT", "POOL", "frepo", "outer_loss", "separation"]

DESCENT = Descent("lamb", 3e-4, schedule="cosine", final=0.1)
"""What FRePo's authors descend with."""

POOL = StudentTraining(
    settings={"widths": (128, 256, 512), "norm": "batch"},
    steps=100,
    optimizer="adam",
    learning_rate=3e-4,
    weight_decay=0.0,
)
"""FRePo's pool for images of 32 x 32 pixels."""


class FeatureRegressionData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real images with labels, rows to draw from.
      first: the state that the run starts from.
      pool: the networks that it starts with.
    """

    real: Split | Batches
    first: DescentState
    pool: Pool


def separation(targets: Float[Array, "m c"]) -> Float[Array, ""]:
    """The mean gap of the two largest targets of a sample, at most 1 / C each."""
    largest, second = jax.lax.top_k(targets, 2)[0].T
    return jnp.mean(jnp.minimum(largest - second, 1.0 / targets.shape[1]))


def outer_loss(
    training: StudentTraining,
    student: tuple[Any, Any],
    pairs: Samples,
    real: Float[Array, "n h w c"],
    labels: Int[Array, " n"],
    *,
    strength: float,
    mirrored: bool,
) -> Float[Array, ""]:
    """L of the module, for one network.

    Args:
      training: what the network is.
      student: its parameters and statistics.
      pairs: the distilled pairs.
      real: real images.
      labels: their labels.
      strength: rho >= 0.
      mirrored: whether the samples' mirror images stand beside them.
    """
    classes, inputs, targets = pairs.targets.shape[1], pairs.inputs, pairs.targets
    if mirrored:
        inputs = jnp.concatenate([inputs, inputs[:, :, ::-1]])
        targets = jnp.concatenate([targets, targets])
    rows = student_pool.features(training, student, inputs)
    seen = student_pool.features_of_real(training, student, real)
    solution = ridge_regression.kernel_solve(
        precision.gram(rows), targets, ridge=strength, convention="relative"
    )
    found = ridge_regression.kernel_predict(precision.gram(seen, rows), solution)
    wanted = _scaled_one_hot(labels, classes)
    error = 0.5 * jnp.mean(jnp.sum(jnp.square(wanted - found), axis=1))
    return error - separation(pairs.targets)


def _scaled_one_hot(labels: Int[Array, " n"], classes: int) -> Float[Array, "n c"]:
    return centred_one_hot(labels, classes) / (classes / 10) ** 0.5


def frepo(
    *,
    per_class: int = 1,
    pool: Mapping[str, Any] | StudentTraining = POOL,
    ridge: float = 1e-6,
    batch_size: int = 1024,
    mirrored: bool = True,
    learn_targets: bool = True,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds FRePo as a `Method`.

    Args:
      per_class: samples a class (IPC).
      pool: fields of `ddjax.methods.student_pool.StudentTraining` that differ from
        `POOL`.
      ridge: lambda over the mean diagonal of the Gram (`relative` in
        `ddjax.kernels.ridge`), >= 0.
      batch_size: real images a step; all of them where there are fewer.
      mirrored: whether the samples' mirror images stand beside them in the regression;
        False for what has no mirror image (digits).
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        group is `targets`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes, or of other inputs than images where they are mirrored.
    """
    given = dict(locals())
    checks.check_not_negative(ridge=ridge)
    checks.check_counts(batch_size=batch_size)
    training = student_pool.student_training(pool, POOL)
    parts = learned_set.of_keywords(given, DESCENT)
    start = learned_set.class_init(
        parts, _scaled_one_hot, per_class=per_class, initialization=initialization
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> FeatureRegressionData:
        shape = problem.train.inputs.shape
        if mirrored and len(shape) != 4:
            raise ValueError(
                f"inputs of shape {shape[1:]} have no mirror image; give mirrored=False"
            )
        data = class_samples.class_data(
            problem, parts.fit(problem, cache), batch_size=batch_size
        )
        start_key, pool_key = jax.random.split(key)
        first = start(start_key, problem, data)
        pairs = Pairs(*parts.pairs(first.learned))
        students = student_pool.started(pool_key, training, pairs, cache)
        return FeatureRegressionData(data.real, first, students)

    def init(
        key: PRNGKeyArray, problem: Problem, data: FeatureRegressionData
    ) -> PoolState:
        del key, problem
        return PoolState(data.first, data.pool)

    def sample(key: PRNGKeyArray, data: FeatureRegressionData) -> Split | Batches:
        del key
        return data.real

    def step(state: PoolState, batch: Split, key: PRNGKeyArray, progress: Progress):
        which_key, fresh_key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, training.students)
        student = student_pool.student(state.pool, which)
        real, labels = class_samples.drawn(batch)

        def objective(learned: dict[str, Any]) -> tuple[Array, Samples]:
            pairs = parts.pairs(learned)
            value = outer_loss(
                *(training, student, pairs, real, labels),
                strength=ridge,
                mirrored=mirrored,
            )
            return value, pairs

        (value, pairs), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.descent.learned
        )
        descended = parts.update(state.descent, gradients, progress)
        after = student_pool.after_step(
            fresh_key, training, state.pool, which, Pairs(*pairs)
        )
        age = state.pool.ages[which].astype(value.dtype)
        return PoolState(descended, after), {"loss": value, "age": age}

    recipe = {
        "targets_kind": "scores",
        "loss": {"name": "squared"},
        "ridge": {"strength": ridge, "convention": "relative"},
    }
    return learned_set.gradient_method(
        "frepo",
        given,
        parts,
        prepare=prepare,
        init=init,
        sample=sample,
        step=step,
        distilled=learned_set.distilled_from(parts, lambda *_: recipe),
        pool=dict(training._asdict()),
    )
