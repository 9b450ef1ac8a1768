"""KRR-ST: pairs of images and representations for pretraining, without labels.

Distilled images and representations, stored as they are, that make ridge regression on
the features of students of all ages predict a teacher's representations of real images;
the outer problem is in `ddjax.methods.representation_regression`.

Source: Lee et al., "Self-Supervised Dataset Distillation for Transfer Learning" (ICLR
2024). Settings there, and defaults here: 10 students of up to 1000 steps, 128-256-512
channels with batch normalisation, lambda 1e-6 tr(K), batches of 1024, AdamW. Images are
distilled behind the preprocessing of the problem, and the set says which.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.methods import learned_set, representation_regression
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.representation_regression import DESCENT, POOL
from ddjax.methods.student_pool import StudentTraining
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored
from ddjax.synthetic.initialization import ROW_INITIALIZATIONS, select_rows

__all__ = ["krr_st"]


def krr_st(
    *,
    count: int = 100,
    teacher: EncoderSetting | None = None,
    teacher_size: int | None = None,
    representations_directory: str | None = None,
    pool: Mapping[str, Any] | StudentTraining = POOL,
    ridge: float = 1e-6,
    batch_size: int = 1024,
    learn_targets: bool = True,
    initialization: str = "uniform",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds KRR-ST as a `Method`.

    Args:
      count: pairs m >= 1.
      teacher: the encoder whose representations are fitted, see
        `ddjax.models.encoders.settings.as_encoder`; None where the problem has targets.
      teacher_size: height and width that images are brought to for the teacher; None
        for their own.
      representations_directory: of a cache on disk that runs share; None keeps them in
        the run's own, if they are not too large for it.
      pool: fields of `ddjax.methods.student_pool.StudentTraining` over its defaults.
      ridge: lambda over the trace of the Gram, >= 0.
      batch_size: real images a step; all of them where there are fewer.
      learn_targets: learn the representations too.
      initialization: see `ddjax.synthetic.initialization.select_rows`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from
        `representation_regression.DESCENT`; its group is `targets`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without images, or with neither a teacher nor targets.
      EncoderError: a teacher that cannot be made.
    """
    given = dict(locals())
    checks.check_counts(count=count)
    parts = learned_set.of_keywords(
        given, DESCENT, known=ROW_INITIALIZATIONS, by_class=False
    )

    def start(
        key: PRNGKeyArray, problem: Problem, teacher: Encoder | None, fitted: Fitted
    ) -> Stored:
        del teacher
        made = parts.decoder
        if initialization == learned_set.DECODER_NOISE and made.noise is not None:
            inputs, targets = select_rows(key, problem, count=count, how="uniform")
            return made.noise(key, inputs.shape, jnp.asarray(targets), fitted)
        inputs, targets = select_rows(key, problem, count=count, how=initialization)
        return made.init(Pairs(inputs, jnp.asarray(targets)), fitted)

    return representation_regression.build(
        "krr_st",
        given,
        parts,
        start=start,
        finished=lambda key, decoder, stored: (decoder, stored),
    )
