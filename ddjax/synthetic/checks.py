"""What makes a distilled set sound; asked before it is written and after it is read."""

import re
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.columns import check_columns
from ddjax.data.preprocess import Preprocessing
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.parameterization import PARAMETERIZATIONS
from ddjax.synthetic.targets import TARGETS_KINDS

__all__ = ["FLOATS", "check", "check_name"]

FLOATS = ("float16", "float32", "float64")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def check(distilled: DistilledSet) -> None:
    """Raises unless the parts of a set fit each other and every number is finite.

    Raises:
      ValueError: what is wrong, with the offending value and what is allowed.
    """
    shape = _decoded_shape(distilled)
    m = shape[0]
    if m == 0:
        raise ValueError("the set holds no samples")
    names = distilled.class_names
    if names is not None and not (
        isinstance(names, tuple) and names and all(type(n) is str for n in names)
    ):
        raise ValueError(f"class_names is {names!r}, not a tuple of strings or None")
    _check_targets(distilled, m)
    _check_labels(distilled.labels, m, names)
    _check_preprocessing("preprocessing", distilled.preprocessing, shape[1:])
    _check_table(distilled, shape[1:])


def check_name(name: Any) -> None:
    """Raises unless a stored array's name is a plain identifier.

    Names become archive members and safetensors keys, so that nothing in them may look
    like a path.

    Raises:
      ValueError: it is not.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(
            f"stored array has the name {name!r}; allowed are letters, digits and "
            "underscores, a letter first, at most 64"
        )


def _decoded_shape(distilled: DistilledSet) -> tuple[int, ...]:
    stored = distilled.stored
    if not (isinstance(stored, dict) and stored):
        raise ValueError("stored holds no arrays")
    shapes = {}
    for name, array in stored.items():
        check_name(name)
        array = _check_floats(f"stored.{name}", array)
        # As on the device: native byte order, and no float64 unless it is enabled.
        dtype = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
        shapes[name] = jax.ShapeDtypeStruct(array.shape, dtype)
    parameterization = distilled.parameterization
    if parameterization.name not in PARAMETERIZATIONS:
        known = ", ".join(sorted(PARAMETERIZATIONS))
        raise ValueError(
            f"unknown parameterization {parameterization.name!r}; known: {known}"
        )
    try:
        shape = tuple(jax.eval_shape(parameterization.decode, shapes).shape)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"parameterization {parameterization.name!r} cannot decode the stored "
            f"arrays {sorted(stored)}: {type(error).__name__}: {error}"
        ) from error
    if len(shape) < 2:
        raise ValueError(f"inputs have shape {shape}; expected (m, *shape)")
    return shape


def _check_floats(name: str, array: Any) -> ndarray:
    array = np.asarray(array)
    if array.dtype.name not in FLOATS:
        raise ValueError(
            f"{name} has dtype {array.dtype.name}; allowed: {', '.join(FLOATS)}"
        )
    finite = np.isfinite(array)
    if not finite.all():
        bad = array[~finite][0]
        raise ValueError(
            f"{name} is not finite: {array.size - np.count_nonzero(finite)} of "
            f"{array.size} numbers, the first of them {bad}"
        )
    return array


def _check_targets(distilled: DistilledSet, m: int) -> None:
    kind, targets = distilled.targets_kind, _check_floats("targets", distilled.targets)
    if kind not in TARGETS_KINDS:
        known = ", ".join(TARGETS_KINDS)
        raise ValueError(f"unknown targets_kind {kind!r}; known: {known}")
    if targets.ndim not in (1, 2) or len(targets) != m or targets.size == 0:
        raise ValueError(f"targets have shape {targets.shape}; there are {m} inputs")
    columns = None if targets.ndim == 1 else targets.shape[1]
    if kind == "margin" and columns not in (None, 1):
        raise ValueError(f"margin targets have {columns} columns; expected one or none")
    if kind in ("scores", "probabilities"):
        names = distilled.class_names
        if columns is None or columns < 2 or columns != len(names or range(columns)):
            raise ValueError(
                f"{kind} have shape {targets.shape}; expected one column for each of "
                f"{'at least two' if names is None else len(names)} classes"
            )


def _check_labels(labels: Any, m: int, names: tuple[str, ...] | None) -> None:
    if labels is None:
        return
    labels = np.asarray(labels)
    if labels.dtype.name != "int32" or labels.shape != (m,):
        raise ValueError(
            f"labels have dtype {labels.dtype.name} and shape {labels.shape}; expected "
            f"int32 and {(m,)}"
        )
    if names is None:
        raise ValueError("there are labels but no class_names")
    wrong = labels[(labels < 0) | (labels >= len(names))]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is outside [0, {len(names)})")


def _check_table(distilled: DistilledSet, shape: tuple[int, ...]) -> None:
    """What only a regression set has."""
    of_targets, columns = distilled.targets_preprocessing, distilled.columns
    if of_targets is None and columns is None:
        return
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"targets of kind {distilled.targets_kind!r} have no targets_preprocessing "
            "and no columns; only those of kind 'regression' have"
        )
    count = int(np.prod(np.shape(distilled.targets)[1:], dtype=int))
    if of_targets is not None:
        _check_preprocessing("targets_preprocessing", of_targets, (count,))
    if columns is not None:
        check_columns(columns, input_shape=shape, targets=count)


def _check_preprocessing(
    where: str, preprocessing: Preprocessing, shape: tuple[int, ...]
) -> None:
    kind = preprocessing.kind
    if kind not in preprocess.KINDS:
        known = ", ".join(preprocess.KINDS)
        raise ValueError(f"unknown {where} {kind!r}; known: {known}")
    for name in ("mean", "std"):
        array = _check_floats(f"{where}.{name}", getattr(preprocessing, name))
        if not _broadcasts(array.shape, shape):
            raise ValueError(
                f"{where}.{name} has shape {array.shape}, which does not "
                f"broadcast to shape {shape}"
            )
    if not (np.asarray(preprocessing.std) > 0).all():
        raise ValueError(f"{where}.std is not positive everywhere")
    size = int(np.prod(shape))
    for name in ("whiten", "unwhiten"):
        matrix = getattr(preprocessing, name)
        if (matrix is not None) != (kind == "zca"):
            found = "no" if matrix is None else "a"
            raise ValueError(f"{where} of kind {kind!r} has {found} {name} matrix")
        if matrix is not None:
            array = _check_floats(f"{where}.{name}", matrix)
            if array.shape != (size, size):
                raise ValueError(
                    f"{where}.{name} has shape {array.shape}; expected {(size, size)}"
                )


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
