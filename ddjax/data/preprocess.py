"""Invertible preprocessing: natural units to what learners see, and back."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real
from numpy import ndarray

from ddjax.data.errors import DataError
from ddjax.data.resolution import coarse_columns, default_float
from ddjax.kernels import precision

__all__ = [
    "KINDS",
    "WHITENING_KINDS",
    "ZCA_LARGEST_INPUT",
    "Moments",
    "Preprocessing",
    "apply",
    "blocks",
    "fit",
    "fit_and_report",
    "identity",
    "invert",
    "merge_moments",
    "rows_per_block",
]

KINDS = ("none", "standardize", "zca", "zca_uncentred")
"""What may be done to inputs; `fit` says what each is."""

WHITENING_KINDS = ("zca", "zca_uncentred")
"""The kinds that have a whitening matrix and its inverse."""

# Beyond this many coordinates the covariance alone takes over 1.2 GB and its
# eigendecomposition hours; whiten smaller images instead.
ZCA_LARGEST_INPUT = 64 * 64 * 3

# Streaming works on blocks of about this size in float64, whatever the data's size.
_BLOCK_BYTES = 32 * 2**20


class Preprocessing(NamedTuple):
    """`apply(x) = ((x - mean) / std) @ whiten` over flattened inputs, per the kind.

    Attributes:
      kind: one of `KINDS`.
      mean: broadcastable to one input; zero for `none` and `zca_uncentred`.
      std: broadcastable to one input, > 0; one for `none` and `zca_uncentred`.
      whiten: `(d, d)` symmetric matrix of the `WHITENING_KINDS`, else None.
      unwhiten: its inverse, or None.
    """

    kind: str
    mean: Float[Array | ndarray, "..."]
    std: Float[Array | ndarray, "..."]
    whiten: Float[Array | ndarray, "d d"] | None = None
    unwhiten: Float[Array | ndarray, "d d"] | None = None


class Moments(NamedTuple):
    """Of inputs of `shape`: mean `(d,)` and scatter about it, `(d,)` or `(d, d)`.

    `dtype` is the floating type that the inputs came in.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    count: int
    mean: ndarray
    scatter: ndarray


def rows_per_block(shape: tuple[int, ...]) -> int:
    """How many inputs of `shape` make one streaming block (at least 1)."""
    return max(1, _BLOCK_BYTES // (8 * max(1, int(np.prod(shape)))))


def blocks(inputs: Float[Array | ndarray, "n *shape"]) -> Iterator[Any]:
    """Consecutive pieces of an array or memory map, each of bounded size."""
    rows = rows_per_block(inputs.shape[1:])
    for start in range(0, len(inputs), rows):
        yield inputs[start : start + rows]


def fit(
    inputs: Float[Array | ndarray, "n *shape"] | Iterable[Any],
    *,
    kind: str = "standardize",
    zca_ridge: float = 0.1,
) -> Preprocessing:
    r"""Fits a preprocessing to inputs in natural units, in one pass over blocks.

    `standardize` takes mean and (population) standard deviation over everything but
    the last axis: one pair a channel for images `(n, h, w, c)`, one a feature for
    `(n, d)`. A channel that does not vary (standard deviation below the resolution of
    the inputs' type at its mean) is centred and not scaled: its `std` is 1.

    The two others whiten the `d` coordinates with a regularised second moment
    :math:`C`,

    .. math:: W = (C + \rho\, \tfrac{\operatorname{tr} C}{d} I)^{-1/2},
        \qquad \rho = \texttt{zca\_ridge}.

    `zca` centres every coordinate (its own mean, not the channel's), divides by the
    channel's standard deviation, and :math:`C` is the covariance of the result.
    `zca_uncentred` neither centres nor scales: :math:`C = X^\top X / n` of the natural
    inputs, and the result is :math:`X W`. This is the matrix of the codes published for
    kernel inducing points (Nguyen, Chen and Lee, 2021; Nguyen, Novak, Xiao and Lee,
    2021), with :math:`\rho = 0.1`. Two things that they do beside it are not done here:
    they bring each image to mean 0 and norm 1 first, which cannot be undone, and with
    fewer inputs than coordinates they leave the directions beyond the `n`-th as they
    are.

    Moments are merged block by block in float64, about a first value (Chan, Golub and
    LeVeque, 1983), so memory depends on one input's size and not on their number, and
    a large offset costs no digits.

    Args:
      inputs: `(n, *shape)` natural inputs, array or memory map, or an iterable of such
        blocks, which is read once.
      kind: one of `KINDS`.
      zca_ridge: ridge of :math:`C`, relative to its mean eigenvalue, > 0.

    Returns:
      The preprocessing; its arrays are float64, on the host.

    Raises:
      DataError: unknown kind, ridge not positive, no inputs, inputs too large for ZCA,
        or values so large that their variance overflows.
    """
    return fit_and_report(inputs, kind=kind, zca_ridge=zca_ridge)[0]


def fit_and_report(
    inputs: Float[Array | ndarray, "n *shape"] | Iterable[Any],
    *,
    kind: str = "standardize",
    zca_ridge: float = 0.1,
) -> tuple[Preprocessing, dict[str, Any]]:
    """`fit`, and what it did as a JSON-able record.

    Returns:
      The preprocessing, and `kind`, `count` (inputs it was fitted to), and where they
      apply `zca_ridge`, `constant_channels` (those centred but not scaled) and
      `coarse_channels`: those that keep few digits of what varies, each with its
      `channel`, `mean`, `std` and the `dtype` that cannot hold them, which is that of
      the inputs for kinds that centre in it, else jax's default float.

    Raises:
      DataError: as in `fit`.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise DataError(f"unknown preprocessing {kind!r}; known: {known}")
    whitens = kind in WHITENING_KINDS
    if whitens and not (np.isfinite(zca_ridge) and zca_ridge > 0):
        raise DataError(f"zca_ridge is {zca_ridge!r}; it must be a positive number")
    if isinstance(inputs, (np.ndarray, jax.Array)):
        inputs = blocks(inputs)
    moments, count = None, 0
    for block in inputs:
        count += len(block)
        if whitens and np.prod(block.shape[1:]) > ZCA_LARGEST_INPUT:
            raise DataError(
                f"{kind} preprocessing of inputs of shape {block.shape[1:]}: it is "
                f"limited to {ZCA_LARGEST_INPUT} coordinates; resize the images or use "
                "'standardize'"
            )
        # Without preprocessing, only what is about to be rounded is looked at.
        if kind != "none" or moments is None or _is_rounded(moments.dtype):
            moments = merge_moments(moments, np.asarray(block), full=whitens)
    if moments is None:
        raise DataError("preprocessing cannot be fitted to no inputs")
    report: dict[str, Any] = {"kind": kind, "count": count}
    if whitens:
        report["zca_ridge"] = float(zca_ridge)
    if kind != "none" or _is_rounded(moments.dtype):
        coarse = _coarse_channels(moments, centred=kind in ("standardize", "zca"))
        report |= {"coarse_channels": coarse} if coarse else {}
    if kind == "none":
        return identity(), report
    if kind == "zca_uncentred":
        second = moments.scatter / moments.count + np.outer(moments.mean, moments.mean)
        return _whitening(identity()._replace(kind=kind), second, zca_ridge), report
    mean, std = _channel_statistics(moments)
    std, report["constant_channels"] = _scales(mean, std, moments.dtype)
    if kind == "standardize":
        return Preprocessing(kind, mean, std), report
    mean = moments.mean.reshape(moments.shape)
    scale = np.broadcast_to(std, moments.shape).reshape(-1)
    covariance = moments.scatter / moments.count / scale[:, None] / scale
    return _whitening(Preprocessing(kind, mean, std), covariance, zca_ridge), report


def identity() -> Preprocessing:
    """The preprocessing `none`."""
    return Preprocessing("none", np.zeros(1), np.ones(1))


def apply(
    preprocessing: Preprocessing, inputs: Real[Array | ndarray, "n *shape"]
) -> Float[Array | ndarray, "n *shape"]:
    """Natural units to preprocessed: `((x - mean) / std) @ whiten`.

    NumPy arrays are worked on with NumPy, on the host, centred and scaled in float64;
    JAX arrays with JAX, under `jit` and differentiably, in their own type. The result
    has the dtype of the inputs (of integers, float64 and jax's default float), so that
    values with a large offset have to come as NumPy's float64 or integers.

    Args:
      preprocessing: from `fit`.
      inputs: `(n, *shape)`, with the leading axis.
    """
    if preprocessing.kind == "none":
        return inputs
    if not isinstance(inputs, np.ndarray):
        inputs = _floats(inputs)
    mean, std = _statistics_like(preprocessing, inputs)
    # NumPy goes through float64 here, where the statistics are.
    scaled = (inputs - mean) / std
    dtype = inputs.dtype if inputs.dtype.kind == "f" else scaled.dtype
    return _rotate(scaled.astype(dtype), preprocessing.whiten)


def invert(
    preprocessing: Preprocessing, inputs: Float[Array | ndarray, "n *shape"]
) -> Float[Array | ndarray, "n *shape"]:
    """Preprocessed to natural units: `(x @ unwhiten) * std + mean`; undoes `apply`.

    NumPy arrays come back in float64, in which alone an offset such as that of time
    stamps leaves what varies its digits; JAX arrays in their own type, under `jit` and
    differentiably. The preprocessing `none` hands back what it gets.

    Args:
      preprocessing: from `fit`.
      inputs: preprocessed inputs `(n, *shape)`, with the leading axis.

    Returns:
      Inputs in natural units `(n, *shape)`; nothing is clipped.
    """
    if preprocessing.kind == "none":
        return inputs
    if isinstance(inputs, np.ndarray):
        inputs = inputs.astype(np.float64)
    mean, std = _statistics_like(preprocessing, inputs)
    return _rotate(inputs, preprocessing.unwhiten) * std + mean


def _is_rounded(dtype: np.dtype) -> bool:
    """Whether values of this type are wider than jax's default float."""
    return bool(np.finfo(dtype).eps < np.finfo(default_float()).eps)


def _coarse_channels(moments: Moments, *, centred: bool) -> list[dict[str, Any]]:
    """Which channels keep few digits of what varies, and in which type."""
    mean, std = _channel_statistics(moments)
    dtype = moments.dtype if centred else default_float()
    return [
        {
            "channel": int(channel),
            "mean": float(mean[channel]),
            "std": float(std[channel]),
            "dtype": dtype.name,
        }
        for channel in np.flatnonzero(coarse_columns(mean, std, dtype))
    ]


def merge_moments(moments: Moments | None, block: ndarray, *, full: bool) -> Moments:
    """Moments of what was seen so far and of one more block, in float64.

    Args:
      moments: of the blocks before, None for the first one.
      block: `(b, *shape)`, b >= 1.
      full: whether the scatter is a matrix, or its diagonal only.
    """
    rows = block.reshape(len(block), -1).astype(np.float64)
    # About the first row, or sums of values far from zero would lose the digits.
    first = rows[0].copy()
    rows -= first
    mean = rows.mean(axis=0)
    rows -= mean
    mean += first
    scatter = _scatter(rows) if full else np.einsum("nd,nd->d", rows, rows)
    if moments is None:
        dtype = _held_as(block.dtype)
        return Moments(block.shape[1:], dtype, len(rows), mean, scatter)
    count = moments.count + len(rows)
    shift = mean - moments.mean
    weight = moments.count * len(rows) / count
    scatter += weight * (np.outer(shift, shift) if full else shift**2)
    scatter += moments.scatter
    mean = moments.mean + shift * (len(rows) / count)
    return Moments(moments.shape, moments.dtype, count, mean, scatter)


def _held_as(dtype: np.dtype) -> np.dtype:
    """The floating type with the digits of these values: float64 unless shorter."""
    short = jnp.issubdtype(dtype, np.floating) and dtype.itemsize < 8
    return np.dtype(np.float32 if short else np.float64)


def _scatter(rows: ndarray) -> ndarray:
    """`rows.T @ rows` at half the cost: one triangle, mirrored."""
    from scipy.linalg import blas

    upper = blas.dsyrk(1.0, rows.T)  # type: ignore
    return np.triu(upper) + np.triu(upper, 1).T


def _channel_statistics(moments: Moments) -> tuple[ndarray, ndarray]:
    """Mean and standard deviation per channel."""
    channels = moments.shape[-1]
    scatter = moments.scatter
    scatter = np.diagonal(scatter) if scatter.ndim == 2 else scatter
    means = moments.mean.reshape(-1, channels)
    within = scatter.reshape(-1, channels).mean(axis=0) / moments.count
    first = means[0]
    between = means - first
    mean = first + between.mean(axis=0)
    return mean, np.sqrt(within + between.var(axis=0))


def _scales(mean: ndarray, std: ndarray, dtype: np.dtype) -> tuple[ndarray, list[int]]:
    """What channels are divided by, and the constant ones, which are not divided."""
    if not np.isfinite(std).all():
        raise DataError(
            f"channel {int(np.argmin(np.isfinite(std)))} holds values whose variance "
            "overflows; divide them by a constant"
        )
    resolution = np.finfo(dtype).eps * np.abs(mean)
    constant = std <= np.maximum(resolution, np.finfo(np.float32).tiny)
    return np.where(constant, 1.0, std), np.flatnonzero(constant).tolist()


def _whitening(
    unwhitened: Preprocessing, second: ndarray, zca_ridge: float
) -> Preprocessing:
    """Adds the matrices that whiten inputs of a second moment `(d, d)`, and undo it."""
    size = len(second)
    trace = np.trace(second)
    if not trace > 0:
        kind = unwhitened.kind
        wrong = "all are the same" if kind == "zca" else "all are zero"
        raise DataError(f"{kind} preprocessing needs inputs that vary; {wrong}")
    values, vectors = np.linalg.eigh(second)
    # Rounding can leave tiny negative eigenvalues; the true ones are >= 0.
    values = np.maximum(values, 0.0) + zca_ridge * trace / size
    return unwhitened._replace(
        whiten=_symmetric(vectors, values**-0.5),
        unwhiten=_symmetric(vectors, values**0.5),
    )


def _symmetric(vectors: ndarray, values: ndarray) -> ndarray:
    matrix = (vectors * values) @ vectors.T
    return (matrix + matrix.T) / 2


def _statistics_like(preprocessing: Preprocessing, inputs: Any) -> tuple[Any, Any]:
    """Mean and std with the rank and library of the inputs; of jax also their type."""
    on_host = isinstance(inputs, np.ndarray)

    def like(value):
        shape = (1,) * (inputs.ndim - np.ndim(value)) + np.shape(value)
        if on_host:
            return np.asarray(value, np.float64).reshape(shape)
        return jnp.asarray(value, inputs.dtype).reshape(shape)

    return like(preprocessing.mean), like(preprocessing.std)


def _floats(inputs: Any) -> Any:
    """A jax array in a floating type."""
    floating = jnp.issubdtype(inputs.dtype, np.floating)
    return inputs if floating else inputs.astype(default_float())


def _rotate(inputs: Any, matrix: Any) -> Any:
    if matrix is None:
        return inputs
    flat = inputs.reshape(inputs.shape[0], -1)
    if isinstance(inputs, np.ndarray):
        return (flat @ np.asarray(matrix, inputs.dtype)).reshape(inputs.shape)
    matrix = jnp.asarray(matrix, inputs.dtype)
    # The default precision of some accelerators would break the inverse.
    return precision.product(flat, matrix).reshape(inputs.shape)
