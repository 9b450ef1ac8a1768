"""Small problems and distilled sets that the tests of `ddjax.synthetic` share."""

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import synthetic
from ddjax.data import Columns, preprocess
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
    place = jnp.asarray if device else np.asarray
    split = Split(place(inputs), place(labels))
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
    """A valid set of preprocessed random images, made without touching a device."""
    prep = preprocess.fit(natural_images(40, shape), kind=kind)
    natural = natural_images(classes * each, shape, seed)
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    result = synthetic.DistilledSet(
        stored={
            "inputs": np.asarray(preprocess.apply(prep, natural)),
            "targets": np.eye(classes, dtype=np.float32)[labels]
            - np.float32(1 / classes),
        },
        decoder=synthetic.pixels(),
        recipe={
            "targets_kind": "scores",
            "features": {"kind": "inputs"},
            "ridge": {"strength": 1e-6, "convention": "relative"},
        },
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
    return changed(result, **changes)


def changed(distilled: synthetic.DistilledSet, **changes) -> synthetic.DistilledSet:
    """Fields replaced; `inputs` and `targets` are of `stored`, and so on."""
    stored, recipe = dict(distilled.stored), dict(distilled.recipe)
    for name in ("inputs", "targets"):
        if name in changes:
            stored[name] = changes.pop(name)
    if "targets_kind" in changes:
        recipe["targets_kind"] = changes.pop("targets_kind")
    return distilled._replace(**{"stored": stored, "recipe": recipe, **changes})


def table(*, samples: int = 40, device=True) -> Problem:
    """A linear table of three columns in natural units far from standard ones."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(samples, 3)) * [2.0, 30.0, 0.1] + [5.0, -100.0, 1.0]
    targets = (
        1000.0 + inputs @ [[30.0], [-2.0], [500.0]] + rng.normal(size=(samples, 1))
    )
    maps = preprocess.fit(inputs), preprocess.fit(targets)
    place = jnp.asarray if device else np.asarray
    split = Split(
        inputs=place(np.asarray(preprocess.apply(maps[0], inputs), np.float32)),
        targets=place(np.asarray(preprocess.apply(maps[1], targets), np.float32)),
    )
    columns = Columns(("rooms", "area", "age"), ("price",), {"area": "m2"})
    return Problem(
        *("table", split, split, split, maps[0], None, "1" * 64, {"kind": "test"}),
        targets_preprocessing=maps[1],
        columns=columns,
    )


def table_set(*, kind: str = "standardize") -> synthetic.DistilledSet:
    """A valid regression set of five rows of `table`."""
    problem = table(device=False)
    if kind == "none":
        problem = problem._replace(targets_preprocessing=NONE)
    stored = {
        "inputs": np.asarray(problem.train.inputs[:5]),
        "targets": np.asarray(problem.train.targets[:5]),
    }
    recipe = {"targets_kind": "regression"}
    return synthetic.distilled_set(stored, synthetic.pixels(), problem, recipe=recipe)


def assert_same(a: synthetic.DistilledSet, b: synthetic.DistilledSet) -> None:
    """Equal to the last bit, dtypes included."""
    one, other = (
        (each.stored, each.labels, each.preprocessing, each.targets_preprocessing)
        for each in (a, b)
    )
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        left, right = np.asarray(left), np.asarray(right)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()
    assert a.decoder[:2] == b.decoder[:2]
    for field in ("recipe", "class_names", "provenance", "certificate", "columns"):
        assert getattr(a, field) == getattr(b, field)
    assert synthetic.digest(a) == synthetic.digest(b)
