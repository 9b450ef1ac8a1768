r"""Where a distilled set starts: real samples, k-means, coresets, or noise.

Coresets are chosen one after the other from samples x with mean :math:`\mu`:

- `herding` (Welling, ICML 2009; of labelled samples Rebuffi et al., CVPR 2017): the
  mean of the chosen ones follows the mean,
  :math:`x_k = \arg\min_x \lVert \mu - \tfrac1k (x + \sum_{i<k} x_i) \rVert`;
- `k_center` (Sener and Savarese, ICLR 2018, greedily): first the sample nearest to the
  mean, then the one whose nearest chosen sample is farthest away.

Neither draws anything: all keys give the same samples.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts, check_names
from ddjax.data.problem import Problem

__all__ = [
    "INITIALIZATIONS",
    "ROW_INITIALIZATIONS",
    "balanced_labels",
    "chosen_by_class",
    "chosen_rows",
    "select",
    "select_rows",
]

_BY_INPUTS = ("kmeans_nearest", "herding", "k_center")
ROW_INITIALIZATIONS = ("uniform", "kmeans_centres", *_BY_INPUTS, "noise")
INITIALIZATIONS = ("balanced", *ROW_INITIALIZATIONS)
_OF_REAL_SAMPLES = ("balanced", "uniform", *_BY_INPUTS)


def select(
    key: PRNGKeyArray, problem: Problem, *, per_class: int, how: str
) -> tuple[Float[Array, "m *shape"], Int[Array, " m"]]:
    """Chooses `m = per_class * classes` starting samples, ordered by class.

    The same key gives the same samples bit by bit, on any number of cores.

    Args:
      key: the only source of randomness.
      problem: a classification problem (`select_rows` is for others); only
        `problem.train` is looked at.
      per_class: samples a class, >= 1.
      how: one of
        `balanced`: random real samples, the same number from each class;
        `uniform`: random real samples regardless of class (so that a class may be
        absent);
        `kmeans_centres`: the centres of k-means within each class;
        `kmeans_nearest`: the real samples nearest to those centres, each used once;
        `herding`, `k_center`: coresets of each class, see the module;
        `noise`: N(0, 1) in preprocessed space, the same number for each class.

    Returns:
      Preprocessed inputs `(m, *shape)` in the dtype of the problem's, and labels `(m,)`
      int32.

    Raises:
      ValueError: an unknown `how`, `per_class` < 1, a problem without class labels, or
        a class with fewer than `per_class` samples.
    """
    check_names(initialization=(how, INITIALIZATIONS))
    balanced = balanced_labels(problem, per_class=per_class)
    rng, dtype = _generator(key), _dtype(problem)
    if how == "noise":
        shape = (len(balanced), *problem.train.inputs.shape[1:])
        return _noise(rng, shape, dtype), balanced
    if how == "kmeans_centres":
        blocks = [
            _kmeans(rng, _take(problem, rows), per_class)[0]
            for rows in _members(problem, per_class)
        ]
        return jnp.asarray(np.concatenate(blocks)), balanced
    rows = _rows_by_class(rng, problem, per_class=per_class, how=how)
    return jnp.asarray(_take(problem, rows)), jnp.asarray(_labels(problem)[rows])


def select_rows(
    key: PRNGKeyArray, problem: Problem, *, count: int, how: str
) -> tuple[Float[Array, "m *shape"], Float[Array, "m c"] | None]:
    """Chooses `count` starting samples, regardless of classes, and their targets.

    The same key gives the same samples bit by bit, on any number of cores.

    Args:
      key: the only source of randomness.
      problem: any problem, with targets (regression values, a teacher's
        representations) or without; only `problem.train` is looked at.
      count: how many samples m, >= 1.
      how: one of `ROW_INITIALIZATIONS`, as in `select` over all rows: real samples,
        each used once, with their own targets; `kmeans_centres`, each with the mean
        target of its cluster; `noise`, inputs and targets.

    Returns:
      Preprocessed inputs `(m, *shape)` and targets `(m, c)`, or None where the problem
      has none, in the dtype of the problem's inputs.

    Raises:
      ValueError: an unknown `how`, `count` < 1, or fewer than `count` real samples.
    """
    check_names(initialization=(how, ROW_INITIALIZATIONS))
    check_counts(required=True, count=count)
    rng, dtype = _generator(key), _dtype(problem)
    targets = problem.train.targets
    values = None if targets is None else np.asarray(targets, dtype)
    if how == "noise":
        inputs = _noise(rng, (count, *problem.train.inputs.shape[1:]), dtype)
        if values is None:
            return inputs, None
        return inputs, _noise(rng, (count, values.shape[1]), dtype)
    if how == "kmeans_centres":
        _check_enough(problem, count)
        inputs = _take(problem, np.arange(len(problem.train.inputs)))
        centres, cluster = _kmeans(rng, inputs, count)
        if values is None:
            return jnp.asarray(centres), None
        return jnp.asarray(centres), jnp.asarray(_cluster_means(values, cluster, count))
    rows = _rows_of_all(rng, problem, count=count, how=how)
    inputs = jnp.asarray(_take(problem, rows))
    return inputs, None if values is None else jnp.asarray(values[rows])


def chosen_by_class(
    key: PRNGKeyArray, problem: Problem, *, per_class: int, how: str
) -> Int[ndarray, " m"]:
    """Positions in `problem.train` of the real samples that `select` takes.

    Where samples are to be chosen in another space than their own (by features, say),
    the problem is one of features, and what is chosen are positions. Arguments and
    errors are those of `select`; `how` must be one that takes real samples.

    Returns:
      `per_class * classes` different positions, ordered by class.
    """
    check_names(initialization=(how, _OF_REAL_SAMPLES))
    balanced_labels(problem, per_class=per_class)
    return _rows_by_class(_generator(key), problem, per_class=per_class, how=how)


def chosen_rows(
    key: PRNGKeyArray, problem: Problem, *, count: int, how: str
) -> Int[ndarray, " m"]:
    """Positions in `problem.train` of the real samples that `select_rows` takes.

    See `chosen_by_class` for what it serves. Arguments and errors are those of
    `select_rows`; `how` must be one that takes real samples.

    Returns:
      `count` different positions.
    """
    check_names(initialization=(how, _OF_REAL_SAMPLES[1:]))
    check_counts(required=True, count=count)
    return _rows_of_all(_generator(key), problem, count=count, how=how)


def balanced_labels(problem: Problem, *, per_class: int) -> Int[Array, " m"]:
    """The same number of labels for each class, ordered by class.

    Args:
      problem: a classification problem.
      per_class: samples a class, >= 1.

    Raises:
      ValueError: `per_class` < 1, or a problem without class labels.
    """
    check_counts(required=True, per_class=per_class)
    _labels(problem)
    return jnp.repeat(jnp.arange(problem.classes, dtype=jnp.int32), per_class)


def _check_enough(problem: Problem, count: int) -> None:
    found = len(problem.train.inputs)
    if found < count:
        raise ValueError(
            f"{count} samples were asked for, but problem {problem.name!r} has "
            f"{found} to choose from"
        )


def _rows_by_class(
    rng: np.random.Generator, problem: Problem, *, per_class: int, how: str
) -> ndarray:
    if how == "uniform":
        count = per_class * problem.classes
        _check_enough(problem, count)
        labels = _labels(problem)
        chosen = rng.choice(len(labels), count, replace=False)
        return chosen[np.argsort(labels[chosen], kind="stable")]
    members = _members(problem, per_class)
    return np.concatenate(
        [_chosen(rng, problem, rows, per_class, how) for rows in members]
    )


def _rows_of_all(
    rng: np.random.Generator, problem: Problem, *, count: int, how: str
) -> ndarray:
    _check_enough(problem, count)
    rows = np.arange(len(problem.train.inputs))
    return _chosen(rng, problem, rows, count, how)


def _chosen(
    rng: np.random.Generator, problem: Problem, rows: ndarray, count: int, how: str
) -> ndarray:
    """`count` of the rows, without repetition, chosen as `how` says."""
    if how not in _BY_INPUTS:
        return rng.choice(rows, count, replace=False)
    inputs = _take(problem, rows)
    flat = inputs.reshape(len(inputs), -1)
    if how == "kmeans_nearest":
        centres = _kmeans(rng, inputs, count)[0].reshape(count, -1)
        return rows[_nearest_to_centres(flat, centres)]
    return rows[_herded(flat, count) if how == "herding" else _k_centers(flat, count)]


def _generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy draws, because the data may be a memory map that never sees a device."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def _dtype(problem: Problem) -> Any:
    return jax.dtypes.canonicalize_dtype(problem.train.inputs.dtype)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    # Drawn in float32 whatever the dtype: float64 then starts from the same numbers.
    return jnp.asarray(rng.standard_normal(shape, dtype=np.float32).astype(dtype))


def _labels(problem: Problem) -> ndarray:
    if problem.classes == 0 or problem.train.labels is None:
        raise ValueError(
            f"problem {problem.name!r} has no class labels to select samples by"
        )
    return np.asarray(problem.train.labels, np.int32)


def _members(problem: Problem, per_class: int) -> list[ndarray]:
    labels = _labels(problem)
    members = [np.flatnonzero(labels == c) for c in range(problem.classes)]
    for label, rows in enumerate(members):
        if len(rows) < per_class:
            name = (problem.class_names or ())[label]
            raise ValueError(
                f"class {label} ({name}) of problem {problem.name!r} has {len(rows)} "
                f"training samples, fewer than per_class={per_class}"
            )
    return members


def _take(problem: Problem, rows: ndarray) -> ndarray:
    return np.asarray(problem.train.inputs[rows], dtype=_dtype(problem))


def _kmeans(
    rng: np.random.Generator, inputs: ndarray, k: int
) -> tuple[ndarray, ndarray]:
    """Centres, and the cluster of each input."""
    if k == 1:
        centre = inputs.mean(axis=0, keepdims=True, dtype=np.float64)
        return centre.astype(inputs.dtype), np.zeros(len(inputs), np.int64)
    import threadpoolctl
    from sklearn.cluster import KMeans

    flat = inputs.reshape(len(inputs), -1)
    seed = int(rng.integers(2**32))
    # One thread: scikit-learn adds partial sums in the order in which threads finish.
    with threadpoolctl.threadpool_limits(limits=1):
        found = KMeans(k, random_state=seed).fit(flat)
    centres = found.cluster_centers_.astype(inputs.dtype)
    return centres.reshape(k, *inputs.shape[1:]), np.asarray(found.labels_)


def _cluster_means(values: ndarray, cluster: ndarray, k: int) -> ndarray:
    """The mean of the values of each cluster, in their dtype."""
    sizes = np.bincount(cluster, minlength=k)
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, cluster, values)
    # Fewer different samples than clusters leave some of them empty.
    means = sums / np.maximum(sizes, 1)[:, None]
    means[sizes == 0] = values.mean(axis=0)
    return means.astype(values.dtype)


def _distances(flat: ndarray, point: ndarray) -> ndarray:
    """Squared; summed by NumPy, whose result does not depend on the number of cores."""
    return np.square(flat - point).sum(axis=1)


def _take_nearest(flat: ndarray, point: ndarray, free: ndarray) -> int:
    """The free sample nearest to a point, which is free no longer."""
    found = int(np.argmin(np.where(free, _distances(flat, point), np.inf)))
    free[found] = False
    return found


def _nearest_to_centres(flat: ndarray, centres: ndarray) -> ndarray:
    free = np.ones(len(flat), dtype=bool)
    chosen = [_take_nearest(flat, centre, free) for centre in centres]
    return np.asarray(chosen, np.int64)


def _herded(flat: ndarray, count: int) -> ndarray:
    mean = flat.mean(axis=0, dtype=np.float64)
    total, free = np.zeros_like(mean), np.ones(len(flat), dtype=bool)
    chosen = np.empty(count, dtype=np.int64)
    for i in range(count):
        wanted = ((i + 1) * mean - total).astype(flat.dtype)
        chosen[i] = _take_nearest(flat, wanted, free)
        total += flat[chosen[i]]
    return chosen


def _k_centers(flat: ndarray, count: int) -> ndarray:
    mean = flat.mean(axis=0, dtype=np.float64).astype(flat.dtype)
    chosen = [int(np.argmin(_distances(flat, mean)))]
    nearest = _distances(flat, flat[chosen[0]])
    for _ in range(1, count):
        # A chosen sample is not taken again, however many equal ones there are.
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(flat, flat[chosen[-1]]))
    return np.asarray(chosen, np.int64)
