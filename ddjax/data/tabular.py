"""Tables with named columns, of CSV and Parquet files, for regression.

What is done about the usual troubles is a rule or an option, never a guess:

- A column is numeric when every cell is a number, and text when none is. One that mixes
  the two is an error, unless `orders` makes it a text column; so is one with cells that
  only read as numbers or dates (`5%`, `$5`, `1,234.5`, `0,5`, `1_000`, `5 kg`,
  `2020-01-31`), and a number beyond float32's largest.
- A missing cell (empty, `NA`, `N/A`, `NaN`, `null`, in any case) is an error, or drops
  its row (`missing`).
- A text column becomes one column of 0 and 1 a value, named `column=value`, or the
  position of the value in a given order (`text`, `orders`).
- A constant column stays: it is centred to zero, and not scaled. A constant target is
  an error.
- Fewer rows than columns are allowed, with a warning.
"""

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax.data import table_columns
from ddjax.data.columns import Columns
from ddjax.data.errors import DataError
from ddjax.data.source import Source, rows_of_array
from ddjax.data.table_columns import MISSING, MOST_CATEGORIES, TEXT
from ddjax.data.table_files import Table, read_table

__all__ = ["MISSING", "MOST_CATEGORIES", "TEXT", "check_options", "read"]


def read(
    path: Path,
    *,
    target: str | Sequence[str],
    inputs: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    text: str = "one_hot",
    orders: Mapping[str, Sequence[str]] | None = None,
    missing: str = "refuse",
    delimiter: str | None = None,
) -> Source:
    """Reads a table for regression; the rules are those of this module.

    CSV is read with the standard library: UTF-8, a header of names, quotes as in
    spreadsheets; blank lines are skipped, cells are stripped. Parquet is read with
    pyarrow (the extra `tabular`). Files of other kinds (Excel, archives) are refused
    with what to do, whatever they are called.

    Args:
      path: a CSV or Parquet file; its first bytes say which.
      target: the column, or columns, to predict.
      inputs: the columns to predict from, in this order; None: all others.
      units: column -> unit, for those that have one.
      text: what a text column becomes: `one_hot`, `ordinal` (its values' positions in
        `orders`, which must have the column) or `refuse` (an error).
      orders: text column -> all of its values, in order; for `one_hot` it fixes which
        columns there are.
      missing: `refuse` or `drop` (the row), for missing cells.
      delimiter: of a CSV file; None: the one of comma, semicolon, tab and bar that
        splits the header into most names.

    Returns:
      The source, without a test split; inputs and targets are float64.

    Raises:
      DataError: a file or an option that cannot be used, naming the row and column and
        what to do.
      MissingDataError: no such file.
      ImportError: Parquet without pyarrow.
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    named = dict(units or {})
    known_orders = {k: [str(v) for v in values] for k, values in (orders or {}).items()}
    for option, value, known in (("text", text, TEXT), ("missing", missing, MISSING)):
        if value not in known:
            raise DataError(f"{option}={value!r}; known: {', '.join(known)}")
    table = read_table(path, delimiter=delimiter)
    wanted = table_columns.choose_columns(table, targets, inputs, named, known_orders)
    table = table._replace(columns={name: table.columns[name] for name in wanted})
    table = table_columns.parse_numbers(table, known_orders)
    _refuse_text(table, targets)
    table, dropped = table_columns.without_missing(table, missing)
    columns, categories = table_columns.encode_text(table, text, known_orders)
    features = [name for name in columns if name not in targets]
    rows = np.stack([columns[name] for name in features], axis=1)
    values = np.stack([columns[name] for name in targets], axis=1)
    _refuse_constant(path, targets, values)
    if len(rows) < len(features):
        warnings.warn(
            f"{path}: {len(rows)} rows are fewer than the {len(features)} input "
            "columns; only regularisation decides between models that fit them",
            stacklevel=2,
        )
    kept = {name: unit for name, unit in named.items() if name in columns}
    return Source(
        train=rows_of_array(rows, targets=values, where=str(path)),
        validation=None,
        test=None,
        class_names=None,
        unit=1.0,
        origin={
            "reader": "table",
            "file": path.name,
            "rows": len(rows),
            "dropped": dropped,
            "text": {name: list(values) for name, values in categories.items()},
        },
        columns=Columns(tuple(features), targets, kept),
    )


def _refuse_text(table: Table, targets: tuple[str, ...]) -> None:
    for name in targets:
        if table.columns[name].dtype == object:
            first = next(value for value in table.columns[name] if value is not None)
            raise DataError(
                f"{table.path}: target {name!r} is text (such as {first!r}), not a "
                "number; classes are loaded with from_arrays"
            )


def _refuse_constant(path: Path, targets: tuple[str, ...], values: np.ndarray) -> None:
    for name, column in zip(targets, values.T, strict=True):
        if (column == column[0]).all():
            raise DataError(
                f"{path}: target {name!r} is {column[0]:g} in every row; there is "
                "nothing to learn"
            )


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keywords of `read` beside the path, when they are such.

    Raises:
      DataError: an unknown keyword, with those that are known, or one of the wrong
        type.
    """
    if not isinstance(options, Mapping):
        raise DataError(f"table={options!r}; give keywords, such as {{'target': NAME}}")
    known = [name for name in inspect.signature(read).parameters if name != "path"]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"table takes no {name!r}{hint}; it takes: {', '.join(known)}"
            )
    for name, value in options.items():
        wanted = _WANTED.get(name)
        if value is not None and wanted and not wanted[1](value):
            raise DataError(f"table: {name}={value!r}; it is {wanted[0]}")
    return dict(options)


def _is_names(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


# What keywords that are no choice of a few are, in words and as a test.
_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "target": (
        "the name of a column, or several",
        lambda v: isinstance(v, str) or _is_names(v),
    ),
    "inputs": ("a sequence of names of columns", _is_names),
    "units": (
        "a mapping of columns to units",
        lambda v: (
            isinstance(v, Mapping) and all(isinstance(u, str) for u in v.values())
        ),
    ),
    "orders": (
        "a mapping of columns to sequences of values",
        lambda v: isinstance(v, Mapping) and all(map(_is_names, v.values())),
    ),
    "delimiter": ("one character", lambda v: isinstance(v, str)),
}
