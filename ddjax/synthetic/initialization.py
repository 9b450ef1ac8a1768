"""Where a distilled set starts: real samples, k-means, or noise."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ddjax.data.problem import Problem

__all__ = [
    "INITIALIZATIONS",
    "ROW_INITIALIZATIONS",
    "balanced_labels",
    "select",
    "select_rows",
]

INITIALIZATIONS = ("real", "random", "kmeans_centres", "kmeans", "noise")
ROW_INITIALIZATIONS = ("real", "kmeans_centres", "kmeans", "noise")


def select(
    key: PRNGKeyArray, problem: Problem, *, per_class: int, how: str
) -> tuple[Float[Array, "m *shape"], Int[Array, " m"]]:
    """Chooses `m = per_class * classes` starting samples, ordered by class.

    The same key gives the same samples bit by bit, on any number of cores.

    Args:
      key: the only source of randomness.
      problem: a classification problem (`select_rows` is for regression); only
        `problem.train` is looked at.
      per_class: samples a class, >= 1.
      how: one of
        `real`: random real samples, the same number from each class;
        `random`: random real samples regardless of class (so that a class may be
        absent);
        `kmeans_centres`: the centres of k-means within each class;
        `kmeans`: the real samples nearest to those centres, each used once;
        `noise`: N(0, 1) in preprocessed space, the same number for each class.

    Returns:
      Preprocessed inputs `(m, *shape)` float32 and labels `(m,)` int32.

    Raises:
      ValueError: an unknown `how`, `per_class` < 1, a problem without class labels, or
        a class with fewer than `per_class` samples.
    """
    if how not in INITIALIZATIONS:
        raise ValueError(
            f"unknown initialization {how!r}; known: {', '.join(INITIALIZATIONS)}"
        )
    balanced = balanced_labels(problem, per_class=per_class)
    labels = _labels(problem)
    rng = _generator(key)
    if how == "noise":
        shape = (len(balanced), *problem.train.inputs.shape[1:])
        inputs = rng.standard_normal(shape, dtype=np.float32)
        return jnp.asarray(inputs), balanced
    if how == "random":
        chosen = _any_class(rng, labels, len(balanced))
        return jnp.asarray(_take(problem, chosen)), jnp.asarray(labels[chosen])
    members = _members(labels, problem, per_class)
    if how == "kmeans_centres":
        blocks = [_kmeans(rng, _take(problem, rows), per_class)[0] for rows in members]
        return jnp.asarray(np.concatenate(blocks)), balanced
    if how == "kmeans":
        chosen = [_nearest_to_centres(rng, problem, r, per_class) for r in members]
    else:
        chosen = [rng.choice(rows, per_class, replace=False) for rows in members]
    return jnp.asarray(_take(problem, np.concatenate(chosen))), balanced


def balanced_labels(problem: Problem, *, per_class: int) -> Int[Array, " m"]:
    """The same number of labels for each class, ordered by class.

    Args:
      problem: a classification problem.
      per_class: samples a class, >= 1.

    Raises:
      ValueError: `per_class` < 1, or a problem without class labels.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    _labels(problem)
    return jnp.repeat(jnp.arange(problem.classes, dtype=jnp.int32), per_class)


def select_rows(
    key: PRNGKeyArray, problem: Problem, *, count: int, how: str
) -> tuple[Float[Array, "m *shape"], Float[Array, "m c"]]:
    """Chooses `count` starting samples and their targets for regression.

    The same key gives the same samples bit by bit, on any number of cores.

    Args:
      key: the only source of randomness.
      problem: a regression problem; only `problem.train` is looked at.
      count: how many samples m, >= 1.
      how: one of
        `real`: random real samples, each used once, with their targets;
        `kmeans_centres`: the centres of k-means over the inputs, each with the mean
        target of its cluster;
        `kmeans`: the real samples nearest to those centres, each used once, with
        their own targets;
        `noise`: inputs and targets N(0, 1), in preprocessed space.

    Returns:
      Preprocessed inputs `(m, *shape)` and targets `(m, c)`, float32.

    Raises:
      ValueError: an unknown `how`, `count` < 1, a problem without regression targets,
        or fewer than `count` real samples.
    """
    if how not in ROW_INITIALIZATIONS:
        raise ValueError(
            f"unknown initialization {how!r} for regression; known: "
            f"{', '.join(ROW_INITIALIZATIONS)}"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    targets = problem.train.targets
    if targets is None or np.ndim(targets) != 2:
        raise ValueError(
            f"problem {problem.name!r} has no regression targets to select with"
        )
    values, rng = np.asarray(targets, np.float32), _generator(key)
    if how == "noise":
        shape = (count, *problem.train.inputs.shape[1:])
        noise = rng.standard_normal(shape, dtype=np.float32)
        heights = rng.standard_normal((count, values.shape[1]), dtype=np.float32)
        return jnp.asarray(noise), jnp.asarray(heights)
    if len(values) < count:
        raise ValueError(
            f"{count} samples were asked for, but problem {problem.name!r} has "
            f"{len(values)} to choose from"
        )
    rows = np.arange(len(values))
    if how == "kmeans_centres":
        centres, cluster = _kmeans(rng, _take(problem, rows), count)
        sizes = np.bincount(cluster, minlength=count)
        sums = np.zeros((count, values.shape[1]))
        np.add.at(sums, cluster, values)
        # Fewer different samples than clusters leave some of them empty.
        means = sums / np.maximum(sizes, 1)[:, None]
        means[sizes == 0] = values.mean(axis=0)
        return jnp.asarray(centres), jnp.asarray(means.astype(np.float32))
    if how == "kmeans":
        chosen = _nearest_to_centres(rng, problem, rows, count)
    else:
        chosen = rng.choice(rows, count, replace=False)
    return jnp.asarray(_take(problem, chosen)), jnp.asarray(values[chosen])


def _generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy draws, because the data may be a memory map that never sees a device."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def _labels(problem: Problem) -> np.ndarray:
    targets = problem.train.targets
    if problem.classes == 0 or targets is None or np.ndim(targets) != 1:
        raise ValueError(
            f"problem {problem.name!r} has no class labels to select samples by"
        )
    return np.asarray(targets).astype(np.int32)


def _members(labels: np.ndarray, problem: Problem, per_class: int) -> list[np.ndarray]:
    members = [np.flatnonzero(labels == c) for c in range(problem.classes)]
    for label, rows in enumerate(members):
        if len(rows) < per_class:
            name = (problem.class_names or ())[label]
            raise ValueError(
                f"class {label} ({name}) of problem {problem.name!r} has {len(rows)} "
                f"training samples, fewer than per_class={per_class}"
            )
    return members


def _any_class(rng: np.random.Generator, labels: np.ndarray, m: int) -> np.ndarray:
    if len(labels) < m:
        raise ValueError(
            f"{m} samples were asked for, but there are {len(labels)} to choose from"
        )
    chosen = rng.choice(len(labels), m, replace=False)
    return chosen[np.argsort(labels[chosen], kind="stable")]


def _take(problem: Problem, rows: np.ndarray) -> np.ndarray:
    return np.asarray(problem.train.inputs[rows], dtype=np.float32)


def _kmeans(
    rng: np.random.Generator, inputs: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres, and the cluster of each input."""
    if k == 1:
        centre = inputs.mean(axis=0, keepdims=True, dtype=np.float64)
        return centre.astype(np.float32), np.zeros(len(inputs), np.int64)
    import threadpoolctl
    from sklearn.cluster import KMeans

    flat = inputs.reshape(len(inputs), -1)
    seed = int(rng.integers(2**32))
    # One thread: scikit-learn adds partial sums in the order in which threads finish.
    with threadpoolctl.threadpool_limits(limits=1):
        found = KMeans(k, random_state=seed).fit(flat)
    centres = found.cluster_centers_.astype(np.float32)
    return centres.reshape(k, *inputs.shape[1:]), np.asarray(found.labels_)


def _nearest_to_centres(
    rng: np.random.Generator, problem: Problem, rows: np.ndarray, k: int
) -> np.ndarray:
    inputs = _take(problem, rows)
    flat = inputs.reshape(len(inputs), -1)
    centres = _kmeans(rng, inputs, k)[0].reshape(k, -1)
    free = np.ones(len(rows), dtype=bool)
    chosen = np.empty(k, dtype=np.int64)
    for i, centre in enumerate(centres):
        distances = np.square(flat - centre).sum(axis=1)
        chosen[i] = np.argmin(np.where(free, distances, np.inf))
        free[chosen[i]] = False
    return rows[chosen]
