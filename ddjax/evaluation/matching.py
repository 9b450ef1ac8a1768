"""Real data behind the preprocessing that a distilled set lives behind."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.checks import check_fit, check_resizable
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet, decoded, decoded_shapes

__all__ = [
    "learning_pairs",
    "matched_blocks",
    "matched_problem",
    "same_preprocessing",
]

_TOLERANCE = 1e-6


def matched_problem(distilled: DistilledSet, problem: Problem, *splits: str) -> Problem:
    r"""The problem as the set's learners have to see it.

    Where the problem was preprocessed in another way than the set (another kind, or the
    same kind fitted to other data), its inputs are brought back to natural units and
    through the set's preprocessing,

    .. math:: x' = P_{set}(P_{problem}^{-1}(x)),

    in float64 and in blocks; regression targets, for a set of regression, through those
    of the targets. So a set is measured on other data of the same shape.

    Args:
      distilled: the set.
      problem: what it is judged on.
      *splits: which splits are needed. Where inputs have to be mapped, the others come
        back empty, so that none is looked at behind the wrong preprocessing.

    Returns:
      The problem itself where nothing has to be mapped, else a mapped one with the
      set's preprocessing; what lies on the device comes back on the host.

    Raises:
      ValueError: shapes or numbers of classes that do not fit
        (`ddjax.evaluation.checks.check_fit`), or inputs that stay in their files and
        would have to be mapped.
    """
    check_fit(distilled, problem)
    inputs = not same_preprocessing(distilled.preprocessing, problem.preprocessing)
    of_set = distilled.targets_preprocessing or preprocess.identity()
    of_problem = problem.targets_preprocessing or preprocess.identity()
    targets = distilled.targets_kind == "regression" and not same_preprocessing(
        of_set, of_problem
    )
    if not (inputs or targets):
        return problem

    def one(name: str) -> Split:
        split: Split = getattr(problem, name)
        if name not in splits:
            rest = (None if each is None else each[:0] for each in split[1:])
            return Split(split.inputs[:0], *rest)
        if inputs:
            _refuse_files(distilled, problem, split.inputs)
            values = _mapped(
                split.inputs, problem.preprocessing, distilled.preprocessing
            )
            split = split._replace(inputs=values)
        if targets and split.targets is not None:
            split = split._replace(targets=_mapped(split.targets, of_problem, of_set))
        return split

    mapped = problem._replace(
        **{name: one(name) for name in ("train", "validation", "test")}
    )
    if inputs:
        mapped = mapped._replace(preprocessing=distilled.preprocessing)
    if targets:
        mapped = mapped._replace(targets_preprocessing=distilled.targets_preprocessing)
    return mapped


def matched_blocks(
    distilled: DistilledSet,
    problem: Problem,
    split: str,
    *,
    rows: Int[ndarray, " k"] | None = None,
    block: int,
) -> Iterator[Float[ndarray, "b *shape"]]:
    r"""Inputs of a split as the set's learners have to see them, block by block.

    As in `matched_problem`, and images of another height or width are resized in
    natural units on the way,

    .. math:: x' = P_{set}(R(P_{problem}^{-1}(x))),

    R bilinear, pixel centres at half-integers, with antialiasing where images shrink.
    Inputs may stay in their files: no more than a block is held.

    Args:
      distilled: the set.
      problem: what it is judged on; its classes need not be those of the set.
      split: which split.
      rows: which of its rows, in this order; None for all.
      block: rows at a time.

    Yields:
      Blocks on the host, in the dtype of the problem's inputs.

    Raises:
      ValueError: inputs that cannot be resized to the set's
        (`ddjax.evaluation.checks.check_resizable`).
    """
    check_resizable(distilled, problem)
    inputs = getattr(problem, split).inputs
    shape = tuple(decoded_shapes(distilled).inputs.shape[1:])
    size = None if shape == tuple(inputs.shape[1:]) else (shape[0], shape[1])
    source, target = problem.preprocessing, distilled.preprocessing
    as_it_is = size is None and same_preprocessing(source, target)
    for start in range(0, len(inputs) if rows is None else len(rows), block):
        places = slice(start, start + block)
        part = np.asarray(inputs[places if rows is None else rows[places]])
        if not as_it_is:
            part = _matched(part, source, target, size)
        yield part


def learning_pairs(distilled: DistilledSet, problem: Problem) -> Pairs:
    """What a learner is trained on, in the floating type of the real inputs."""
    pairs = decoded(distilled)
    dtype = jax.dtypes.canonicalize_dtype(np.dtype(problem.train.inputs.dtype))
    return Pairs(*(jnp.asarray(each).astype(dtype) for each in pairs))


def same_preprocessing(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether two preprocessings are one up to rounding, that of float32 included."""
    if one is other:
        return True
    if one.kind != other.kind:
        return False
    if one.kind == "none":
        return True
    scale = np.abs(np.asarray(one.std, np.float64))
    # Each column of a table has its own units; of a matrix only the largest entries
    # are known to float32. Of a mean far from zero float64 knows what float32 does not.
    rounding = max(np.finfo(np.asarray(each.mean).dtype).eps for each in (one, other))
    offset = 4 * rounding / _TOLERANCE * np.abs(np.asarray(one.mean, np.float64))
    return (
        _close(one.mean, other.mean, scale + offset)
        and _close(one.std, other.std, scale)
        and _close(one.whiten, other.whiten)
        and _close(one.unwhiten, other.unwhiten)
    )


def _close(one: Any, other: Any, scale: Any = None) -> bool:
    if one is None or other is None:
        return one is other
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        return False
    allowed = _TOLERANCE * (np.abs(left).max() if scale is None else scale)
    return bool(np.all(np.abs(left - right) <= allowed))


def _refuse_files(distilled: DistilledSet, problem: Problem, inputs: Any) -> None:
    if not isinstance(inputs, ndarray | jax.Array):
        kinds = distilled.preprocessing.kind, problem.preprocessing.kind
        raise ValueError(
            f"the set lives behind {kinds[0]!r} preprocessing, problem "
            f"{problem.name!r} behind {kinds[1]!r}, and its inputs stay in their "
            "files, where they cannot be mapped: load them into memory "
            "(on_device=False)"
        )


def _mapped(
    values: Float[Array | ndarray, "n *shape"],
    source: Preprocessing,
    target: Preprocessing,
) -> Float[ndarray, "n *shape"]:
    """From behind one preprocessing to behind another, in the dtype of the values."""
    out = np.empty(values.shape, values.dtype)
    start = 0
    for block in preprocess.blocks(values):
        part = _matched(np.asarray(block), source, target)
        out[start : start + len(block)] = part
        start += len(block)
    return out


def _matched(
    values: Float[ndarray, "n *shape"],
    source: Preprocessing,
    target: Preprocessing,
    size: tuple[int, int] | None = None,
) -> Float[ndarray, "n *shape2"]:
    """One block, through natural units, in float64 but for the resizing of images."""
    natural = preprocess.invert(source, values.astype(np.float64))
    if size is not None:
        pixels = jnp.asarray(natural.astype(values.dtype))
        natural = np.asarray(_resized(pixels, size=size), np.float64)
    return np.asarray(preprocess.apply(target, natural)).astype(values.dtype)


@functools.partial(jax.jit, static_argnames="size")
def _resized(
    images: Float[Array, "n h w c"], *, size: tuple[int, int]
) -> Float[Array, "n h2 w2 c"]:
    shape = (images.shape[0], *size, images.shape[-1])
    return jax.image.resize(images, shape, "linear")
