"""Data that the user has in memory (or memory-mapped) already."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.columns import Columns, check_columns
from ddjax.data.errors import DataError, one_line
from ddjax.data.source import Source, rows_of_array

__all__ = ["TASKS", "read"]

TASKS = ("classification", "regression")
"""What may be learned of pairs of arrays."""

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
    class_names: Sequence[str | bytes] | None = None,
    columns: Columns | None = None,
    task: str | None = None,
    where: str = "arrays",
) -> Source:
    """Makes a source of inputs with labels, with targets, with both, or with neither.

    A part is a pair or a triple. The second of a pair is labels where it holds
    integers, booleans or strings, targets where it holds floats, and None where nothing
    is known. Floats that could be classes (few whole numbers, or one-hot rows) are
    refused unless `task` says what they are. A triple, such as a `Split` of natural
    inputs, is (inputs, labels or None, targets or None).

    Images are `(n, h, w, c)` or `(n, h, w)`; features are `(n, d)`. `uint8` and
    `uint16` images become pixels in [0, 1]; floats are taken as they are, and so are
    features of any number type. Labels are `(n,)`, targets `(n,)` or `(n, c)`.
    Without `class_names`, the classes are the sorted distinct labels of `train`. Labels
    of bytes are read as UTF-8. Masked arrays are refused where anything is masked.

    Args:
      train: the training data.
      test: the same for the test data, or None.
      validation: the same for the validation data, or None.
      class_names: one name per integer label, or the strings that the labels are.
      columns: names and units, for features with targets.
      task: `classification` or `regression`: what the second of a pair is, whatever its
        type. None: as said above.
      where: what the arrays came from, for messages.

    Returns:
      The source; its arrays are not copied.

    Raises:
      DataError: shapes, dtypes, lengths or labels that do not fit together.
    """
    if task not in (None, *TASKS):
        raise DataError(f"task={task!r}; known: {', '.join(TASKS)}")
    given = {"train": train, "validation": validation, "test": test}
    parts = {
        # What the targets are is read off the training data alone.
        part: _arrays(value, task, f"{where}: {part}", refuse_ambiguous=part == "train")
        for part, value in given.items()
        if part == "train" or value is not None
    }
    inputs, _, targets = parts["train"]
    for part, arrays in parts.items():
        _check_alike(parts["train"], arrays, f"{where}: {part}")
    if None in (test, validation):
        _refuse_one_sample_a_class(parts["train"].labels, f"{where}: train labels")
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


def _arrays(
    value: Any, task: str | None, where: str, *, refuse_ambiguous: bool
) -> _Arrays:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        kind = type(value).__name__
        of = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise DataError(
            f"{where} is a {kind}{of}; it must be a pair (inputs, labels), (inputs, "
            "targets) or (inputs, None), or a triple (inputs, labels, targets)"
        )
    inputs = _inputs(value[0], f"{where} inputs")
    names = ("labels", "targets") if len(value) == 3 else ("labels or targets",)
    known = [
        None if each is None else _as_array(each, f"{where} {name}")
        for each, name in zip(value[1:], names, strict=True)
    ]
    if len(known) == 1:
        known = _as_labels_or_targets(
            known[0], task, where, refuse_ambiguous=refuse_ambiguous
        )
    elif task is not None:
        raise DataError(
            f"{where}: task={task!r} is for pairs; a triple (inputs, labels, targets) "
            "says itself what is what"
        )
    labels, targets = known
    return _Arrays(
        inputs,
        None if labels is None else _labels(labels, len(inputs), f"{where} labels"),
        None if targets is None else _targets(targets, len(inputs), f"{where} targets"),
    )


def _as_array(value: Any, where: str) -> np.ndarray:
    """An array of numbers or strings; what would lose something on the way is refused.

    Args:
      value: an array, or what NumPy makes one of.
      where: for messages.
    """
    if value is None:
        raise DataError(f"{where}: None; an array is expected")
    items = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x) for x in items):
        raise DataError(
            f"{where}: a masked array with masked values; fill them (.filled(value)) "
            "or leave these samples out"
        )
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise DataError(f"{where}: a sparse matrix; give its .toarray()")
    try:
        array = value if type(value) is np.memmap else np.asarray(value)
    # Whatever the object's own conversion raises.
    except Exception as error:
        raise DataError(f"{where}: no array: {one_line(error)}") from error
    if array.dtype == object:
        array = _without_objects(array, where)
    if array.dtype.kind == "S":
        array = _decoded(array, where)
    return array


def _without_objects(array: np.ndarray, where: str) -> np.ndarray:
    """Python objects, such as pandas has in columns, as strings or numbers."""
    items = array.reshape(-1).tolist()
    first = type(items[0]) if items else float
    allowed: tuple[type, ...] = (bool, int, float, np.number, np.bool_)
    for kind in (str, bytes):
        allowed = (kind,) if issubclass(first, kind) else allowed
    for place, item in enumerate(items):
        if not isinstance(item, allowed):
            index = np.unravel_index(place, array.shape)
            feature = f", feature {int(index[1])}" if array.ndim == 2 else ""
            raise DataError(
                f"{where}: sample {int(index[0])}{feature} is {item!r} (dtype object); "
                "expected numbers, or strings, in every place"
            )
    return np.array(items).reshape(array.shape)


def _decoded(array: np.ndarray, where: str) -> np.ndarray:
    """Bytes as text."""
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: {error.object!r} is not UTF-8 text; decode it, or give integers"
        ) from error


def _as_labels_or_targets(
    known: np.ndarray | None, task: str | None, where: str, *, refuse_ambiguous: bool
) -> list[np.ndarray | None]:
    """The second array of a pair as `[labels, targets]`, one of them None.

    Without a task integers are labels and floats targets; `refuse_ambiguous` raises for
    floats that could be classes.
    """
    if known is None:
        if task is not None:
            raise DataError(f"{where}: task={task!r}, but there is nothing to learn")
        return [None, None]
    if refuse_ambiguous and task is None and known.dtype.kind == "f":
        _refuse_classes_as_floats(known, where)
    regression = task == "regression" or (task is None and known.dtype.kind == "f")
    return [None, known] if regression else [known, None]


def _refuse_classes_as_floats(known: np.ndarray, where: str) -> None:
    """Raises where floats could be classes, lest regression come by accident."""
    if _is_one_hot(known):
        raise DataError(
            f"{where}: floats that are one-hot rows could be classes or targets; give "
            "labels.argmax(axis=1) for classes, or task='regression'"
        )
    values = np.unique(known)
    few = 2 * len(values) <= len(known)
    if known.size == len(known) and few and (values == np.rint(values)).all():
        shown = ", ".join(f"{value:g}" for value in values[:5])
        raise DataError(
            f"{where}: floats of few whole numbers ({shown}"
            f"{', ...' if len(values) > 5 else ''}) could be classes or targets; say "
            "task='classification' or task='regression'"
        )


def _is_one_hot(array: np.ndarray) -> bool:
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "biuf":
        return False
    return bool(np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all())


def _refuse_one_sample_a_class(labels: np.ndarray | None, where: str) -> None:
    """Raises where integers are numbers to predict rather than classes."""
    if labels is None or labels.dtype.kind not in "iu":
        return
    values = len(np.unique(labels))
    if 2 * values > len(labels) > 2:
        raise DataError(
            f"{where}: {values} classes in {len(labels)} samples; numbers to predict "
            "are given with task='regression'"
        )


def _inputs(value: Any, where: str) -> np.ndarray:
    array = _as_array(value, where)
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
    if array.dtype.kind not in "buifU":
        raise DataError(
            f"{where}: dtype {array.dtype}; expected integers, booleans or strings "
            "(classes), or floats as targets"
        )
    if _is_one_hot(array):
        raise DataError(f"{where}: one-hot rows; give labels.argmax(axis=1)")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(
            f"{where}: shape {array.shape} for {count} inputs; expected ({count},) "
            f"labels, or floats ({count}, c) as targets"
        )
    wrong = np.zeros(count, bool)
    if array.dtype.kind == "U":
        wrong = array == ""
    elif array.dtype.kind == "f":
        wrong = ~np.isfinite(array) | (array != np.rint(array))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{where}: sample {row} has the label {array[row].item()!r}; a label is a "
            "whole number, a boolean or a string that is not empty"
        )
    return array if array.dtype.kind != "f" else array.astype(np.int64)


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
        raise DataError(f"{where}: {one_line(error)}") from error


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
    parts: dict[str, _Arrays], class_names: Sequence[str | bytes] | None, where: str
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
    if isinstance(class_names, (str, bytes)):
        raise DataError(f"{where}: class_names={class_names!r}; give a name a class")
    text = train.dtype.kind == "U"
    if class_names is None:
        values = np.unique(train)
        names = tuple(str(value) for value in values.tolist())
    else:
        given = _as_array(list(class_names), f"{where}: class_names")
        names = tuple(map(str, given.tolist()))
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
    if labels.dtype.kind == "U":
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
