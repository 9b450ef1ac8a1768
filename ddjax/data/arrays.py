"""Data that the user has in memory (or memory-mapped) already."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddjax.data.columns import Columns, check_columns
from ddjax.data.errors import DataError
from ddjax.data.source import Rows, Source, rows_of_array

__all__ = ["read"]

_UNITS = {"uint8": 255.0, "uint16": 65535.0}


def read(
    train: Sequence[Any],
    test: Sequence[Any] | None = None,
    validation: Sequence[Any] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    where: str = "arrays",
) -> Source:
    """Makes a source of pairs of inputs and targets.

    Images are `(n, h, w, c)` or `(n, h, w)`; features are `(n, d)`. `uint8` and
    `uint16` images become pixels in [0, 1]; floats are taken as they are, and so are
    features of any number type. Integer, boolean or string targets `(n,)` are classes,
    float targets `(n,)` or `(n, c)` are regression targets, None is no targets.
    Without `class_names`, the classes are the sorted distinct labels of `train`.

    Args:
      train: inputs and targets.
      test: the same for the test data, or None.
      validation: the same for the validation data, or None.
      class_names: one name per integer label, or the strings that the labels are.
      columns: names and units, for features with regression targets.
      where: what the arrays came from, for messages.

    Returns:
      The source; its arrays are not copied.

    Raises:
      DataError: shapes, dtypes, lengths or labels that do not fit together.
    """
    pairs = {"train": train, "validation": validation, "test": test}
    pairs = {part: pair for part, pair in pairs.items() if pair is not None}
    inputs, targets = {}, {}
    for part, pair in pairs.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(f"{where}: {part} must be a pair (inputs, targets)")
        inputs[part] = _inputs(pair[0], f"{where}: {part} inputs")
        targets[part] = _targets(pair[1], inputs[part], f"{where}: {part} targets")
    for part in pairs:
        _check_alike(inputs["train"], inputs[part], f"{where}: {part} inputs")
    names = _encode_classes(targets, class_names, where)
    if columns is not None:
        _check_names(columns, inputs["train"], targets["train"], where)
    rows: dict[str, Rows] = {
        part: rows_of_array(inputs[part], targets[part], f"{where}: {part}")
        for part in pairs
    }
    unit = _UNITS.get(inputs["train"].dtype.name, 1.0)
    return Source(
        train=rows["train"],
        validation=rows.get("validation"),
        test=rows.get("test"),
        class_names=names,
        unit=unit if inputs["train"].ndim == 4 else 1.0,
        origin={"reader": "arrays"},
        columns=columns,
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


def _targets(value: Any, inputs: np.ndarray, where: str) -> np.ndarray | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "buifUS":
        raise DataError(
            f"{where}: dtype {array.dtype}; expected integers, booleans or strings "
            "(classes) or floats (regression)"
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    expected = (1, 2) if array.dtype.kind == "f" else (1,)
    if array.ndim not in expected or len(array) != len(inputs):
        raise DataError(
            f"{where}: shape {array.shape} for {len(inputs)} inputs; expected "
            f"({len(inputs)},) labels, or floats ({len(inputs)}, c) for regression"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise DataError(f"{where}: sample {row} has a NaN or infinite target")
        return array.reshape(len(array), -1).astype(np.float64)
    return array


def _check_names(
    columns: Columns, inputs: np.ndarray, targets: np.ndarray | None, where: str
) -> None:
    if targets is None or targets.ndim != 2:
        raise DataError(f"{where}: columns given, but there are no regression targets")
    try:
        check_columns(columns, input_shape=inputs.shape[1:], targets=targets.shape[1])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _check_alike(train: np.ndarray, other: np.ndarray, where: str) -> None:
    alike = train.shape[1:] == other.shape[1:] and train.dtype == other.dtype
    if not alike:
        raise DataError(
            f"{where}: {other.dtype} of shape {other.shape[1:]} a sample; the training "
            f"inputs are {train.dtype} of shape {train.shape[1:]}"
        )


def _encode_classes(
    targets: dict[str, Any], class_names: Sequence[str] | None, where: str
) -> tuple[str, ...] | None:
    """Replaces labels by integers from 0 in place; returns the names of the classes."""
    train = targets["train"]
    kinds = {None if t is None else t.dtype.kind == "f" for t in targets.values()}
    if len(kinds) > 1:
        raise DataError(f"{where}: the parts differ in what kind of targets they have")
    if train is None or train.dtype.kind == "f":
        if class_names is not None:
            raise DataError(
                f"{where}: class_names given, but the targets are "
                f"{'missing' if train is None else 'floats (regression)'}"
            )
        widths = {None if t is None else t.shape[1] for t in targets.values()}
        if len(widths) > 1:
            raise DataError(f"{where}: the parts differ in the number of targets")
        return None
    text = train.dtype.kind in "US"
    if class_names is None:
        values = np.unique(train)
        names = tuple(str(value) for value in values.tolist())
    else:
        names = tuple(str(name) for name in class_names)
        values = np.array(names) if text else np.arange(len(names))
    if len(set(names)) != len(names):
        raise DataError(f"{where}: class_names has duplicates: {names}")
    for part, labels in targets.items():
        targets[part] = _positions(values, labels, f"{where}: {part} targets")
    return names


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
