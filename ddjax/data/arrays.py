"""Data that the user has in memory (or memory-mapped) already."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.columns import Columns, check_columns
from ddjax.data.errors import DataError
from ddjax.data.source import Source, rows_of_array

__all__ = ["read"]

_UNITS = {"uint8": 255.0, "uint16": 65535.0}


class _Arrays(NamedTuple):
    """One part: inputs, and labels or targets or both."""

    inputs: np.ndarray
    labels: np.ndarray | None
    targets: np.ndarray | None


def read(
    train: Sequence[Any],
    test: Sequence[Any] | None = None,
    validation: Sequence[Any] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    where: str = "arrays",
) -> Source:
    """Makes a source of inputs with labels, with targets, with both, or with neither.

    A part is a pair or a triple. The second of a pair is labels where it holds
    integers, booleans or strings, targets where it holds floats, and None where nothing
    is known. A triple, such as a `Split` of natural inputs, is (inputs, labels or None,
    targets or None).

    Images are `(n, h, w, c)` or `(n, h, w)`; features are `(n, d)`. `uint8` and
    `uint16` images become pixels in [0, 1]; floats are taken as they are, and so are
    features of any number type. Labels are `(n,)`, targets `(n,)` or `(n, c)`.
    Without `class_names`, the classes are the sorted distinct labels of `train`.

    Args:
      train: the training data.
      test: the same for the test data, or None.
      validation: the same for the validation data, or None.
      class_names: one name per integer label, or the strings that the labels are.
      columns: names and units, for features with targets.
      where: what the arrays came from, for messages.

    Returns:
      The source; its arrays are not copied.

    Raises:
      DataError: shapes, dtypes, lengths or labels that do not fit together.
    """
    given = {"train": train, "validation": validation, "test": test}
    parts = {
        part: _arrays(value, f"{where}: {part}")
        for part, value in given.items()
        if part == "train" or value is not None
    }
    inputs, _, targets = parts["train"]
    for part, arrays in parts.items():
        _check_alike(parts["train"], arrays, f"{where}: {part}")
    parts, names = _with_encoded_labels(parts, class_names, where)
    if columns is not None:
        _check_names(columns, inputs, targets, where)
    rows = {
        part: rows_of_array(
            arrays.inputs,
            labels=arrays.labels,
            targets=arrays.targets,
            where=f"{where}: {part}",
        )
        for part, arrays in parts.items()
    }
    unit = _UNITS.get(inputs.dtype.name, 1.0)
    return Source(
        train=rows["train"],
        validation=rows.get("validation"),
        test=rows.get("test"),
        class_names=names,
        unit=unit if inputs.ndim == 4 else 1.0,
        origin={"reader": "arrays"},
        columns=columns,
    )


def _arrays(value: Any, where: str) -> _Arrays:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise DataError(
            f"{where} must be a pair (inputs, labels), (inputs, targets) or (inputs, "
            "None), or a triple (inputs, labels, targets)"
        )
    inputs = _inputs(value[0], f"{where} inputs")
    known = [None if each is None else np.asarray(each) for each in value[1:]]
    if len(known) == 1:
        is_float = known[0] is not None and known[0].dtype.kind == "f"
        known = [None, known[0]] if is_float else [known[0], None]
    labels, targets = known
    return _Arrays(
        inputs,
        None if labels is None else _labels(labels, len(inputs), f"{where} labels"),
        None if targets is None else _targets(targets, len(inputs), f"{where} targets"),
    )


def _inputs(value: Any, where: str) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: dtype {array.dtype}; expected real numbers")
    if array.ndim not in (2, 3, 4):
        raise DataError(
            f"{where}: shape {array.shape}; expected images (n, h, w, c) or (n, h, w), "
            "or features (n, d)"
        )
    if 0 in array.shape:
        raise DataError(f"{where}: empty, shape {array.shape}")
    if array.ndim == 2:
        return array
    if array.dtype.kind in "iu" and array.dtype.name not in _UNITS:
        raise DataError(
            f"{where}: images of dtype {array.dtype}; expected uint8 or uint16 (scaled "
            "to [0, 1]) or floats (taken as they are)"
        )
    array = array[..., None] if array.ndim == 3 else array
    if array.shape[1] in (1, 3) and array.shape[3] not in (1, 2, 3, 4):
        raise DataError(
            f"{where}: shape {array.shape} has channels first; channels go last: "
            "numpy.moveaxis(images, 1, -1)"
        )
    return array


def _labels(array: np.ndarray, count: int, where: str) -> np.ndarray:
    if array.dtype.kind not in "buiUS":
        raise DataError(
            f"{where}: dtype {array.dtype}; expected integers, booleans or strings "
            "(classes), or floats as targets"
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(
            f"{where}: shape {array.shape} for {count} inputs; expected ({count},) "
            f"labels, or floats ({count}, c) as targets"
        )
    return array


def _targets(array: np.ndarray, count: int, where: str) -> np.ndarray:
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: dtype {array.dtype}; expected real numbers")
    if array.ndim not in (1, 2) or len(array) != count:
        raise DataError(
            f"{where}: shape {array.shape} for {count} inputs; expected ({count},) or "
            f"({count}, c)"
        )
    array = array.reshape(count, -1).astype(np.float64)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"{where}: sample {row} has a NaN or infinite target")
    return array


def _check_names(
    columns: Columns, inputs: np.ndarray, targets: np.ndarray | None, where: str
) -> None:
    if targets is None:
        raise DataError(f"{where}: columns given, but there are no regression targets")
    try:
        check_columns(columns, input_shape=inputs.shape[1:], targets=targets.shape[1])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _check_alike(train: _Arrays, other: _Arrays, where: str) -> None:
    """Raises unless a part holds what the training data hold."""
    one, two = train.inputs, other.inputs
    if one.shape[1:] != two.shape[1:] or one.dtype != two.dtype:
        raise DataError(
            f"{where} inputs: {two.dtype} of shape {two.shape[1:]} a sample; the "
            f"training inputs are {one.dtype} of shape {one.shape[1:]}"
        )
    kinds = [[each is None for each in arrays[1:]] for arrays in (train, other)]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"{where}: the parts differ in what kind of targets they have: labels and "
            "targets are given for all parts, or for none"
        )
    if train.targets is not None and other.targets is not None:
        widths = train.targets.shape[1], other.targets.shape[1]
        if widths[0] != widths[1]:
            raise DataError(
                f"{where}: the parts differ in the number of targets: {widths[1]} "
                f"here, {widths[0]} in the training data"
            )


def _with_encoded_labels(
    parts: dict[str, _Arrays], class_names: Sequence[str] | None, where: str
) -> tuple[dict[str, _Arrays], tuple[str, ...] | None]:
    """The parts with labels from 0, and the names of the classes."""
    train, targets = parts["train"].labels, parts["train"].targets
    if train is None:
        if class_names is not None:
            found = "missing" if targets is None else "floats (regression)"
            raise DataError(
                f"{where}: class_names given, but the targets are {found}; there are "
                "no labels"
            )
        return parts, None
    text = train.dtype.kind in "US"
    if class_names is None:
        values = np.unique(train)
        names = tuple(str(value) for value in values.tolist())
    else:
        names = tuple(str(name) for name in class_names)
        values = np.array(names) if text else np.arange(len(names))
    if len(set(names)) != len(names):
        raise DataError(f"{where}: class_names has duplicates: {names}")
    encoded = {}
    for part, arrays in parts.items():
        assert arrays.labels is not None  # all parts have labels, or none
        labels = _positions(values, arrays.labels, f"{where}: {part} labels")
        encoded[part] = arrays._replace(labels=labels)
    return encoded, names


def _positions(values: np.ndarray, labels: np.ndarray, where: str) -> np.ndarray:
    if labels.dtype.kind in "US":
        labels = labels.astype(str)
        values = values.astype(str)
    order = np.argsort(values, kind="stable")
    found = np.searchsorted(values, labels, sorter=order)
    positions = order[np.minimum(found, len(values) - 1)]
    wrong = values[positions] != labels
    if wrong.any():
        row = int(np.argmax(wrong))
        allowed = ", ".join(str(value) for value in values[:20].tolist())
        raise DataError(
            f"{where}: label {labels[row]} of sample {row} is out of range; allowed: "
            f"{allowed}{', ...' if len(values) > 20 else ''}"
        )
    return positions.astype(np.int64)
