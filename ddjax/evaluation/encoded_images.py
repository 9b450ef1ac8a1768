"""Features of images under a frozen encoder, those of real splits from a cache."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ddjax.data.problem import Problem, identity
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.cache import cached_features
from ddjax.storage.cache import Cache
from ddjax.storage.checksum import checksum

__all__ = [
    "RealFeatures",
    "check_pixels",
    "encoded",
    "real_features",
    "weights_checksum",
]


class RealFeatures(NamedTuple):
    """Features of a problem's splits under one encoder.

    Attributes:
      of_split: name of a split -> features `(n, p)` on the host.
      mean: of the training features, `(p,)` float64.
      depends_on: what tells them from all others (JSON-able).
    """

    of_split: Callable[[str], Float[ndarray, "n p"]]
    mean: Callable[[], Float[ndarray, " p"]]
    depends_on: dict[str, Any]


def real_features(
    encoder: Encoder,
    weights: str,
    problem: Problem,
    *,
    directory: str | None,
    block: int,
    cache: Cache,
) -> RealFeatures:
    """The features of a problem's splits, each computed when it is asked for.

    Args:
      encoder: the frozen encoder.
      weights: checksum of its weights.
      problem: images in [0, 1].
      directory: of the encoders' own cache on disk; None keeps them in `cache`.
      block: images at once.
      cache: of what an evaluation computes.
    """
    source = {"name": encoder.name, "source": encoder.source, "weights": weights}
    about = {"encoder": source, "problem": identity(problem)}

    def of_split(split: str) -> ndarray:
        inputs = getattr(problem, split).inputs
        if directory is not None:
            return cached_features(
                encoder,
                inputs,
                directory=directory,
                fingerprint=f"{problem.fingerprint}/{split}",
                block=block,
            )
        found = cache(
            "encoded",
            {**about, "split": split},
            lambda: {"features": encoded(encoder, inputs, block=block)},
        )
        return np.asarray(found["features"])

    def mean() -> ndarray:
        found = cache(
            "encoded_mean",
            about,
            lambda: {"mean": of_split("train").mean(axis=0, dtype=np.float64)},
        )
        return np.asarray(found["mean"])

    return RealFeatures(of_split, mean, about)


def weights_checksum(encoder: Encoder) -> Callable[[], str]:
    """The checksum of an encoder's weights, computed when it is first asked for."""
    return functools.cache(lambda: checksum(encoder.params))


@functools.lru_cache(maxsize=8)
def _compiled(apply: Any) -> Any:
    return jax.jit(apply)


def encoded(encoder: Encoder, images: Any, *, block: int) -> Float[ndarray, "n p"]:
    """Features of images, in blocks."""
    apply = _compiled(encoder.apply)
    return map_in_blocks(apply, images, block=block, arguments=(encoder.params,))


def check_pixels(problem: Problem) -> None:
    """Refuses a problem that an encoder cannot take or a probe cannot classify.

    Raises:
      ValueError: preprocessed inputs, or fewer than two classes.
    """
    if problem.preprocessing.kind != "none":
        raise ValueError(
            f"encoders take pixels in [0, 1], but problem {problem.name!r} has "
            f"preprocessing {problem.preprocessing.kind!r}; load it with "
            "preprocessing='none'"
        )
    if problem.classes < 2:
        raise ValueError(
            f"a linear probe needs classes; problem {problem.name!r} has "
            f"{problem.classes}"
        )
