"""Real data behind the preprocessing that a distilled set lives behind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.checks import check_fit
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet, decoded

__all__ = ["learning_pairs", "matched_problem", "same_preprocessing"]

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
        natural = preprocess.invert(source, np.asarray(block, np.float64))
        out[start : start + len(block)] = preprocess.apply(target, natural)
        start += len(block)
    return out
