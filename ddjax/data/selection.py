"""Which samples of a source are used, and in which split."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax.data import splits
from ddjax.data.errors import DataError
from ddjax.data.options import Options
from ddjax.data.source import LazyRows, Source

__all__ = ["TEST_FRACTION", "Part", "select"]

# Where there is no official test data, this part of the data is the test data, and
# which part does not depend on the seed: changing it must not reveal test samples.
TEST_FRACTION = 0.2
_TEST_SEED = 0

# Draws that share a seed differ in these numbers.
_PURPOSES = {"train": 1, "validation": 2, "test": 3}
_CUT_VALIDATION, _CUT_TEST = 4, 5


class Part(NamedTuple):
    """Chosen rows, their labels and their targets.

    Attributes:
      rows: where they are read from.
      indices: sorted positions in `rows`.
      labels: integer classes in the order of the chosen ones, one per index, or None.
      targets: floats to fit, one row per index, or None.
    """

    rows: LazyRows
    indices: np.ndarray
    labels: np.ndarray | None
    targets: np.ndarray | None

    def at(self, chosen: np.ndarray) -> "Part":
        """The part at these positions."""
        labels = None if self.labels is None else self.labels[chosen]
        targets = None if self.targets is None else self.targets[chosen]
        return Part(self.rows, self.indices[chosen], labels, targets)


def select(
    source: Source, options: Options
) -> tuple[dict[str, Part], tuple[str, ...] | None, dict[str, Any]]:
    """Cuts a source into train, validation and test.

    In this order: a test split where the source has none (before anything depends on
    the seed or on the classes), the chosen classes, the limit, the validation split
    where the source has none. Every class is in every split.

    Returns:
      `train`, `validation` and `test`, in this order; one name per label, or None; and
      how they were cut (JSON-able).

    Raises:
      DataError: labels that are out of range or leave a class empty, or options that
        do not fit the data.
    """
    names = source.class_names
    parts = {}
    for key in ("train", "validation", "test"):
        rows = getattr(source, key)
        if rows is not None:
            _check_rows(rows, names)
            parts[key] = Part(rows, np.arange(rows.count), rows.labels, rows.targets)
    record: dict[str, Any] = {"test": "official", "validation": "official"}
    if "test" not in parts:
        record["test"] = f"{TEST_FRACTION} of the training data, whatever the seed"
        parts["train"], parts["test"] = _hold_out(
            parts["train"], names, TEST_FRACTION, seed=_TEST_SEED, purpose=_CUT_TEST
        )
    if options.classes is not None:
        labels, names = _chosen_classes(options.classes, names, source.train.where)
        record["classes"] = labels
        parts = {key: _relabelled(part, labels) for key, part in parts.items()}
    if options.limit is not None:
        parts = {key: _limited(parts, key, names, options) for key in parts}
    if "validation" not in parts:
        record["validation"] = f"{options.validation} of the training data"
        parts["train"], parts["validation"] = _hold_out(
            parts["train"], names, options.validation,
            seed=options.seed, purpose=_CUT_VALIDATION,
        )  # fmt: skip
    return {key: parts[key] for key in _PURPOSES}, names, record


def _check_rows(rows: LazyRows, class_names: tuple[str, ...] | None) -> None:
    if rows.count == 0:
        raise DataError(f"{rows.where}: empty: no samples")
    if class_names is None or rows.labels is None:
        return
    wrong = (rows.labels < 0) | (rows.labels >= len(class_names))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{rows.where}: label {rows.labels[row]} of sample {row} is out of range; "
            f"labels are 0 to {len(class_names) - 1}"
        )
    sizes = np.bincount(rows.labels, minlength=len(class_names))
    if np.count_nonzero(sizes) == 1:
        only = class_names[int(np.argmax(sizes))]
        raise DataError(
            f"{rows.where}: a single class: every label is {only!r}; at least 2 are "
            "needed"
        )
    if (sizes == 0).any():
        absent = class_names[int(np.argmin(sizes))]
        raise DataError(f"{rows.where}: no sample of class {absent!r}")


def _hold_out(
    part: Part, names: tuple[str, ...] | None, fraction: float, *, seed, purpose
) -> tuple[Part, Part]:
    kept, held = splits.hold_out(
        part.labels,
        len(part.indices),
        fraction,
        seed=seed,
        purpose=purpose,
        where=part.rows.where,
        class_names=names,
    )
    return part.at(kept), part.at(held)


def _limited(
    parts: dict[str, Part], key: str, names: tuple[str, ...] | None, options: Options
) -> Part:
    part = parts[key]
    # The training data may have to give one sample of each class to validation.
    least = 2 if key == "train" and "validation" not in parts else 1
    kept = splits.keep_at_most(
        part.labels,
        len(part.indices),
        options.limit or len(part.indices),
        least=least,
        seed=options.seed,
        purpose=_PURPOSES[key],
        where=part.rows.where,
        class_names=names,
    )
    return part.at(kept)


def _chosen_classes(
    classes: Sequence[int | str], names: tuple[str, ...] | None, where: str
) -> tuple[list[int], tuple[str, ...]]:
    if names is None:
        raise DataError(f"classes={classes!r}, but {where} has no classes")
    labels = []
    for item in classes:
        if isinstance(item, str) and item in names:
            labels.append(names.index(item))
        elif isinstance(item, (int, np.integer)) and 0 <= item < len(names):
            labels.append(int(item))
        else:
            shown = ", ".join(f"{i} ({name})" for i, name in enumerate(names[:20]))
            more = f", ..., {len(names) - 1} ({names[-1]})" if len(names) > 20 else ""
            raise DataError(f"no class {item!r} in {where}; it has {shown}{more}")
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise DataError(f"classes={classes!r}; give at least two different classes")
    return labels, tuple(names[label] for label in labels)


def _relabelled(part: Part, labels: list[int]) -> Part:
    """The samples of these labels; `labels[i]` becomes `i`."""
    assert part.labels is not None  # there are class names
    new = np.full(max(labels + [int(part.labels.max())]) + 1, -1)
    new[labels] = np.arange(len(labels))
    kept = part.at(np.flatnonzero(new[part.labels] >= 0))
    return kept._replace(labels=new[kept.labels])
