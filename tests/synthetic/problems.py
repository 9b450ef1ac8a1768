"""Small problems and distilled sets that the tests of `ddjax.synthetic` share."""

import jax.numpy as jnp
import numpy as np

from ddjax import synthetic
from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split

NONE = Preprocessing("none", np.zeros(1), np.ones(1))


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
        "blobs", split, split, split, NONE, names, "0" * 64, {"kind": "test"}
    )


def natural_images(n: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Pixels in [0, 1]."""
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def distilled_set(
    *,
    classes: int = 3,
    each: int = 2,
    shape: tuple[int, ...] = (4, 4, 3),
    kind: str = "standardize",
    seed: int = 0,
    **changes,
) -> synthetic.DistilledSet:
    """A sound set of preprocessed random images, made without touching a device."""
    prep = preprocess.fit(natural_images(40, shape), kind=kind)
    natural = natural_images(classes * each, shape, seed)
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    result = synthetic.DistilledSet(
        stored={"inputs": np.asarray(preprocess.apply(prep, natural))},
        parameterization=synthetic.pixels(),
        targets=np.eye(classes, dtype=np.float32)[labels] - np.float32(1 / classes),
        targets_kind="scores",
        labels=labels,
        preprocessing=prep,
        class_names=tuple(f"class {i}" for i in range(classes)),
        provenance={
            "method": "kip",
            "config": {"steps": 10, "ridge": 1e-6, "loss": None},
            "seeds": {"run": seed},
        },
        certificate={"gap": 0.1 + 0.2, "radius": 1e-300},
    )
    return result._replace(**changes)


def assert_same(a: synthetic.DistilledSet, b: synthetic.DistilledSet) -> None:
    """Equal to the last bit, dtypes included."""
    assert sorted(a.stored) == sorted(b.stored)
    pairs = [(a.stored[name], b.stored[name]) for name in a.stored]
    pairs += [(a.targets, b.targets), (a.labels, b.labels)]
    pairs += list(zip(a.preprocessing[1:], b.preprocessing[1:], strict=True))
    for left, right in pairs:
        assert (left is None) == (right is None)
        if left is not None:
            left, right = np.asarray(left), np.asarray(right)
            assert (left.dtype, left.shape) == (right.dtype, right.shape)
            assert left.tobytes() == right.tobytes()
    assert a.parameterization[:2] == b.parameterization[:2]
    assert a.preprocessing.kind == b.preprocessing.kind
    assert a[3] == b[3] and a[6:] == b[6:]
    assert synthetic.digest(a) == synthetic.digest(b)
