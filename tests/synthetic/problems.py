"""Small problems and distilled sets that the tests of `ddjax.synthetic` share."""

import jax.numpy as jnp
import numpy as np

from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split


def identity(shape: tuple[int, ...]) -> Preprocessing:
    """Preprocessing that changes nothing."""
    del shape
    return Preprocessing("none", np.zeros((), np.float32), np.ones((), np.float32))


def blobs(
    *, classes: int = 3, each: int = 20, shape: tuple[int, ...] = (4,), device=True
) -> Problem:
    """Gaussian clusters, one a class, in shuffled order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(classes, dtype=np.int32), each))
    inputs = rng.normal(size=(len(labels), *shape)).astype(np.float32)
    inputs += 10.0 * labels.reshape(-1, *(1,) * len(shape)).astype(np.float32)
    if device:
        split = Split(jnp.asarray(inputs), jnp.asarray(labels))
    else:
        split = Split(inputs, labels)
    names = tuple(f"class {i}" for i in range(classes))
    return Problem(
        "blobs", split, split, split, identity(shape), names, "0" * 64, {"kind": "test"}
    )
