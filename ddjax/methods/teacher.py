"""Real targets that are a teacher's representations."""

import hashlib
import json
import tempfile
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ddjax.data.pixels import pixel_blocks, to_pixels
from ddjax.data.problem import Problem, identity
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.cache import cached_features
from ddjax.models.encoders.resized import resized
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.storage.cache import Arrays, Cache

__all__ = ["as_teacher", "representations", "represented"]


def as_teacher(teacher: EncoderSetting | None, size: int | None) -> Encoder | None:
    """The encoder that a setting names, images being brought to `size` first.

    Args:
      teacher: see `ddjax.models.encoders.settings.as_encoder`; None for none.
      size: see `ddjax.models.encoders.resized.resized`.

    Raises:
      EncoderError: one that cannot be made.
      ValueError: a size below 1.
    """
    return None if teacher is None else resized(as_encoder(teacher), size)


def represented(
    problem: Problem,
    teacher: Encoder | None,
    *,
    cache: Cache,
    directory: str | None = None,
    block: int = 64,
) -> Problem:
    r"""The problem with a teacher's representations as targets of its training data.

    .. math:: y_i = g_\phi(x_i)

    Args:
      problem: images; labels are not looked at.
      teacher: g; None where the problem has targets of its own.
      cache: keeps the representations, if they are not too large for it.
      directory: of a cache on disk that runs share; see
        `ddjax.models.encoders.cache.cached_features`.
      block: images through the teacher at once.

    Returns:
      A problem whose identity is that of the data and the teacher.

    Raises:
      ValueError: no images; neither a teacher nor targets.
    """
    if teacher is None:
        if problem.train.targets is None:
            raise ValueError(
                f"problem {problem.name!r} has no targets; name a teacher, whose "
                "representations are to be fitted"
            )
        return problem
    of_problem = identity(problem)
    about = {"teacher": teacher.setting, "problem": of_problem}

    def compute(folder: str, verbose: bool) -> np.ndarray:
        return cached_features(
            teacher,
            pixel_blocks(problem.preprocessing, problem.train.inputs),
            directory=folder,
            fingerprint=f"{of_problem}/train",
            count=len(problem.train.inputs),
            block=block,
            verbose=verbose,
        )

    def for_this_run() -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            return {"targets": np.array(compute(folder, False))}

    if directory is not None:
        found = compute(directory, True)
    else:
        found = cache("representations", about, for_this_run)["targets"]
    mark = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    targets = jnp.asarray(np.asarray(found), jnp.result_type(float))
    return problem._replace(
        train=problem.train._replace(targets=targets), fingerprint=mark
    )


def representations(
    problem: Problem, teacher: Encoder, images: Any, *, block: int = 64
) -> Float[np.ndarray, "n p"]:
    """A teacher's representations of other images behind a problem's preprocessing.

    Args:
      problem: whose preprocessing the images lie behind.
      teacher: the encoder.
      images: `(n, h, w, c)`, preprocessed.
      block: images through the teacher at once.
    """
    pixels = to_pixels(problem.preprocessing, images)
    return map_in_blocks(
        teacher.apply, pixels, block=block, arguments=(teacher.params,)
    )
