"""What makes a distilled set valid; asked before it is written and after it is read."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.columns import check_columns
from ddjax.data.preprocess import Preprocessing
from ddjax.kernels.ridge import CONVENTIONS
from ddjax.synthetic.decoders import DECODERS
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import TARGETS_KINDS

__all__ = ["FLOATS", "RECIPE", "check", "check_path", "check_recipe", "named"]

FLOATS = ("float16", "float32", "float64")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_DEEPEST = 8
_FORMS_OF_RECIPE = {
    "targets_kind": (str, "a name"),
    "features": (Mapping, "a mapping"),
    "loss": (Mapping, "a mapping"),
    "ridge": (Mapping, "a mapping"),
    "real_ridge": ((int, float, np.number), "a number"),
    "inner": (Mapping, "a mapping"),
    "encoders": ((list, tuple), "a list"),
    "probe": (Mapping, "a mapping"),
    "augmentation": (Mapping, "a mapping"),
    "architecture": (Mapping, "a mapping"),
    "teacher": (Mapping, "a mapping"),
}

RECIPE = tuple(_FORMS_OF_RECIPE)
"""What a recipe may say; `targets_kind` always."""


def check(distilled: DistilledSet) -> None:
    """Raises unless the parts of a set fit each other and every number is finite.

    Raises:
      ValueError: what is wrong, with the offending value and what is allowed.
    """
    check_recipe(distilled.recipe)
    shape, targets = _decoded_shapes(distilled)
    m = shape[0]
    if m == 0:
        raise ValueError("the set holds no samples")
    names = distilled.class_names
    if names is not None and not (
        isinstance(names, tuple) and names and all(type(n) is str for n in names)
    ):
        raise ValueError(f"class_names is {names!r}, not a tuple of strings or None")
    _check_targets(distilled.targets_kind, targets, m, names)
    _check_labels(distilled.labels, m, names)
    _check_preprocessing("preprocessing", distilled.preprocessing, shape[1:])
    _check_table(distilled, shape[1:], targets)


def check_recipe(recipe: Any) -> None:
    """Raises unless a recipe says what learners know how to read.

    Raises:
      ValueError: an unknown key or kind of targets, no kind of targets, or a value of
        another form; with what is allowed.
    """
    if not isinstance(recipe, Mapping) or "targets_kind" not in recipe:
        raise ValueError(f"recipe is {recipe!r}; expected a mapping with targets_kind")
    for key, value in recipe.items():
        if key not in RECIPE:
            raise ValueError(
                f"recipe has the unknown key {key!r}; known: {', '.join(RECIPE)}"
            )
        allowed, what = _FORMS_OF_RECIPE[key]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise ValueError(f"recipe.{key} is {value!r}; expected {what}")
    if recipe["targets_kind"] not in TARGETS_KINDS:
        known = ", ".join(TARGETS_KINDS)
        raise ValueError(
            f"unknown targets_kind {recipe['targets_kind']!r}; known: {known}"
        )
    ridge = recipe.get("ridge")
    if ridge is not None:
        if set(ridge) != {"strength", "convention"}:
            raise ValueError(
                f"recipe.ridge has the keys {sorted(ridge)}; expected strength and "
                "convention"
            )
        if ridge["convention"] not in CONVENTIONS:
            raise ValueError(
                f"recipe.ridge has the convention {ridge['convention']!r}; known: "
                f"{', '.join(CONVENTIONS)}"
            )


def named(stored: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a nested dictionary, each with its path: names joined by dots.

    Args:
      stored: name -> array, or again such a dictionary.
      prefix: what the paths begin with.

    Raises:
      ValueError: a name that is not allowed, an empty dictionary, or too deep a
        nesting.
    """
    if not (isinstance(stored, dict) and stored):
        raise ValueError(f"{prefix} holds no arrays")
    for name, value in stored.items():
        check_path(name)
        if prefix.count(".") >= _DEEPEST:
            raise ValueError(f"{prefix} is nested deeper than {_DEEPEST} levels")
        if isinstance(value, dict):
            yield from named(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", value


def check_path(*names: Any) -> None:
    """Raises unless the names on the way to a stored array are plain identifiers.

    They become archive members and safetensors keys, so that nothing in them may look
    like a path of the file system.

    Raises:
      ValueError: one is not, or there are too many.
    """
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            path = ".".join(map(str, names))
            raise ValueError(
                f"stored array has the name {path!r}; allowed are letters, digits and "
                "underscores, a letter first, at most 64"
            )
    if len(names) > _DEEPEST:
        raise ValueError(
            f"stored array {'.'.join(names)} is nested deeper than {_DEEPEST} levels"
        )


def _decoded_shapes(
    distilled: DistilledSet,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of inputs and targets; nothing is computed."""
    for name, array in named(distilled.stored, "stored"):
        _check_floats(name, array)
    decoder = distilled.decoder
    if decoder.name not in DECODERS:
        known = ", ".join(sorted(DECODERS))
        raise ValueError(f"unknown decoder {decoder.name!r}; known: {known}")
    shapes = jax.tree.map(_shape_on_device, distilled.stored)
    try:
        inputs, targets = (
            tuple(s.shape) for s in jax.eval_shape(decoder.decode, shapes)
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # Jax explains itself over several lines, of which the first says what is wrong.
        why = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"decoder {decoder.name!r} cannot decode the stored arrays "
            f"{sorted(distilled.stored)}: {type(error).__name__}: {why}"
        ) from error
    if len(inputs) < 2:
        raise ValueError(f"inputs have shape {inputs}; expected (m, *shape)")
    return inputs, targets


def _shape_on_device(array: Any) -> jax.ShapeDtypeStruct:
    """Native byte order, and no float64 unless it is enabled."""
    dtype = np.asarray(array).dtype.newbyteorder("=")
    return jax.ShapeDtypeStruct(np.shape(array), jax.dtypes.canonicalize_dtype(dtype))


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


def _check_targets(
    kind: str, shape: tuple[int, ...], m: int, names: tuple[str, ...] | None
) -> None:
    if len(shape) not in (1, 2) or shape[0] != m or 0 in shape:
        raise ValueError(f"targets have shape {shape}; there are {m} inputs")
    columns = None if len(shape) == 1 else shape[1]
    if kind == "margin" and columns not in (None, 1):
        raise ValueError(f"margin targets have {columns} columns; expected one or none")
    if kind in ("scores", "probabilities"):
        if columns is None or columns < 2 or columns != len(names or range(columns)):
            raise ValueError(
                f"{kind} have shape {shape}; expected one column for each of "
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


def _check_table(
    distilled: DistilledSet, shape: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    """What only a regression set has."""
    of_targets, columns = distilled.targets_preprocessing, distilled.columns
    if of_targets is None and columns is None:
        return
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"targets of kind {distilled.targets_kind!r} have no targets_preprocessing "
            "and no columns; only those of kind 'regression' have"
        )
    count = int(np.prod(targets[1:], dtype=int))
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
        if (matrix is not None) != (kind in preprocess.WHITENING_KINDS):
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
