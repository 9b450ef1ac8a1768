r"""What KRR-ST and its boosted form share: the outer problem and the pool of students.

A step takes a student from the pool (`ddjax.methods.student_pool`) and asks how well
ridge regression on the set, through the student's features :math:`f = (f_\omega, 1)` in
evaluation mode, predicts the teacher's representations of a batch of real images:

.. math::
    L = \tfrac{1}{b c} \lVert Y_t - f(X_t) f(X_s)^\top (K + \lambda I_m)^{-1} Y_s
        \rVert_F^2, \qquad K = f(X_s) f(X_s)^\top, \quad
    \lambda = \rho \, \mathrm{tr}(K),

with no gradient through the trace. The stored numbers descend on L; then the student is
trained one step on the pairs that L was computed of, or drawn anew.

Source: Lee et al., "Self-Supervised Dataset Distillation for Transfer Learning" (ICLR
2024), equation 3 and Algorithm 1; the mean over entries stands for half the sum, which
for AdamW is the same direction.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels import precision, ridge
from ddjax.methods import learned_set, student_pool
from ddjax.methods import teacher as teachers
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import LearnedSet
from ddjax.methods.student_pool import Pool, PoolState, StudentTraining
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.settings import as_encoder
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet, distilled_set

__all__ = ["DESCENT", "POOL", "RepresentationData", "build", "outer_loss"]

DESCENT = Descent("adamw", 1e-3, schedule="linear")
"""The boosted form's; the weight decay is optax's default for AdamW."""

POOL = StudentTraining(settings={"widths": (128, 256, 512), "norm": "batch"})
"""The papers' pool for images of 32 x 32 pixels; four widths for 64 x 64."""


class RepresentationData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real images with the teacher's representations, rows to draw from.
      stored: the numbers that the run starts from.
      pool: the students that it starts with.
    """

    real: Split | Batches
    stored: Stored
    pool: Pool


def outer_loss(
    training: StudentTraining,
    student: tuple[Any, Any],
    pairs: Pairs,
    real: Split,
    strength: float,
) -> Array:
    """L of the module, for one student.

    Args:
      training: what the student's network is.
      student: its parameters and statistics.
      pairs: the distilled pairs.
      real: a batch of real images with their targets.
      strength: rho >= 0.
    """
    rows = student_pool.features(training, student, jnp.asarray(pairs.inputs))
    seen = student_pool.features_of_real(training, student, jnp.asarray(real.inputs))
    solution = ridge.kernel_solve(
        precision.gram(rows),
        pairs.targets,
        # Times the trace, not times its mean.
        ridge=strength * rows.shape[0],
        convention="relative",
        detach_trace=True,
    )
    found = ridge.kernel_predict(precision.gram(seen, rows), solution)
    return jnp.mean(jnp.square(found - jnp.asarray(real.targets)))


def build(
    name: str,
    given: Mapping[str, Any],
    parts: LearnedSet,
    *,
    start: Callable[[PRNGKeyArray, Problem, Encoder | None, Fitted], Stored],
    finished: Callable[[PRNGKeyArray, Decoder, Stored], tuple[Decoder, Stored]],
) -> Method:
    """A method from what tells the two apart.

    Args:
      name: the registered name.
      given: the keywords of its factory; those that both have are read here, see
        `ddjax.methods.krr_st.krr_st`.
      parts: the decoder and the descent.
      start: `(key, problem, teacher, fitted) -> stored`, the problem having the
        teacher's representations as targets.
      finished: `(key, decoder, stored) -> (decoder, stored)`: what is left of a state.

    Raises:
      ValueError: a number out of range, or an unknown name.
    """
    strength, batch_size = given["ridge"], given["batch_size"]
    teacher = given["teacher"]
    checks.check_not_negative(ridge=strength)
    checks.check_counts(batch_size=batch_size)
    training = student_pool.student_training(given["pool"])
    guide = teachers.as_teacher(teacher, given["teacher_size"])

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> RepresentationData:
        directory = given["representations_directory"]
        seen = teachers.represented(problem, guide, cache=cache, directory=directory)
        fitted = parts.fit(seen, cache)
        start_key, pool_key = jax.random.split(key)
        stored = start(start_key, seen, guide, fitted)
        pairs = parts.decoder.decode(stored)
        students = student_pool.started(pool_key, training, pairs, cache)
        real = Split(seen.train.inputs, targets=seen.train.targets)
        return RepresentationData(batches(real, batch_size), stored, students)

    def init(
        key: PRNGKeyArray, problem: Problem, data: RepresentationData
    ) -> PoolState:
        del key, problem
        return PoolState(parts.start(data.stored), data.pool)

    def sample(key: PRNGKeyArray, data: RepresentationData) -> Split:
        del key
        assert isinstance(data.real, Split)
        return data.real

    def step(state: PoolState, batch: Split, key: PRNGKeyArray, progress: Progress):
        which_key, fresh_key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, training.students)
        student = student_pool.student(state.pool, which)

        def objective(learned: dict[str, Any]) -> tuple[Array, Pairs]:
            pairs = Pairs(*parts.pairs(learned))
            return outer_loss(training, student, pairs, batch, strength), pairs

        (value, pairs), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.descent.learned
        )
        descent = parts.update(state.descent, gradients, progress)
        after = student_pool.after_step(fresh_key, training, state.pool, which, pairs)
        age = state.pool.ages[which].astype(value.dtype)
        return PoolState(descent, after), {"loss": value, "age": age}

    def distilled(
        key: PRNGKeyArray, state: PoolState, problem: Problem, data: RepresentationData
    ) -> DistilledSet:
        del data
        decoder, stored = finished(
            jax.random.fold_in(key, 1), parts.decoder, state.descent.learned["stored"]
        )
        recipe: dict[str, Any] = {"targets_kind": "representation"}
        if guide is not None:
            recipe["teacher"] = guide.setting
        return distilled_set(stored, decoder, problem, recipe=recipe)

    return learned_set.gradient_method(
        name,
        given,
        parts,
        prepare=prepare,
        init=init,
        sample=sample,
        step=step,
        distilled=distilled,
        pool=dict(training._asdict()),
        teacher=None if teacher is None else as_encoder(teacher).setting,
    )
