"""New rows of a table, with the columns of its file, as the numbers that it became."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ddjax.data.columns import Columns
from ddjax.data.errors import DataError
from ddjax.data.table_columns import refuse_infinite
from ddjax.data.table_files import Table, number, read_table, strings

__all__ = ["Cells", "encoded_rows"]

Cells = Mapping[str, Any] | str | os.PathLike[str]
"""Column -> its cells, or a CSV or Parquet file."""


def encoded_rows(
    given: Cells,
    columns: Columns,
    categories: Mapping[str, Sequence[str]],
) -> Float[ndarray, "n d"]:
    """Rows as the table's own were encoded when it was read.

    A text column becomes a column of 0 and 1 for each of its values where the inputs
    have those (`column=value`), and the position of the value where they have the
    column itself. Columns that are no inputs, such as the target's, are passed over.

    Args:
      given: the columns by name, each with its cells (numbers, or text as in a file),
        or the file that holds them.
      columns: those that the table became.
      categories: text column -> its values, in order; those of
        `Problem.source["text"]`.

    Returns:
      Inputs in natural units, one column for each of `columns.inputs`.

    Raises:
      DataError: a column that is missing, columns of different lengths, no rows, a
        missing cell, a cell that is no number in a column of numbers, or a value that a
        text column did not have.
      MissingDataError: no such file.
    """
    table = _table(given) if isinstance(given, Mapping) else read_table(Path(given))
    of_text = {
        f"{name}={value}": (name, value)
        for name, values in categories.items()
        if name not in columns.inputs
        for value in values
    }
    needed = [of_text.get(name, (name, ""))[0] for name in columns.inputs]
    missing = [name for name in dict.fromkeys(needed) if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.path}: there is no column {', '.join(map(repr, missing))}; the "
            f"set was made of the columns {', '.join(dict.fromkeys(needed))}"
        )
    known = {
        name: _positions(table, name, categories[name])
        if name in categories
        else _numbers(table, name)
        for name in dict.fromkeys(needed)
    }
    encoded = []
    for name in columns.inputs:
        source, value = of_text.get(name, (name, None))
        cells = known[source]
        if value is not None:
            cells = cells == list(categories[source]).index(value)
        encoded.append(cells.astype(np.float64))
    return np.stack(encoded, axis=1)


def _table(given: Mapping[str, Any]) -> Table:
    """Columns of the caller's own: numbers as float64, anything else as text."""
    path, columns = Path("rows"), {}
    for name, cells in given.items():
        values = np.asarray(cells)
        if values.ndim != 1:
            raise DataError(
                f"{path}: column {name!r} has shape {values.shape}; give its cells as "
                "a list"
            )
        if values.dtype.kind in "biuf":
            columns[name] = values.astype(np.float64)
        else:
            # Of mixed lists NumPy makes text; the cells themselves say more.
            columns[name] = strings(_text(cell) for cell in cells)
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"{path}: the columns have different numbers of rows: {lengths}"
        )
    if not any(lengths.values()):
        raise DataError(f"{path}: no rows")
    return Table(path, columns, lambda row: f"row {row + 1}")


def _text(cell: Any) -> str | None:
    return None if cell is None else str(cell).strip()


def _numbers(table: Table, name: str) -> Float[ndarray, " n"]:
    cells = table.columns[name]
    if cells.dtype == object:
        _refuse_missing(table, name, [cell is None for cell in cells])
        found = [number(cell) for cell in cells]
        if None in found:
            row = found.index(None)
            raise DataError(
                f"{table.path}: {table.line(row)}: column {name!r} has {cells[row]!r} "
                "there; the set was made with numbers in it"
            )
        cells = np.array(found, np.float64)
    _refuse_missing(table, name, np.isnan(cells))
    refuse_infinite(table, name, cells)
    return cells


def _positions(table: Table, name: str, values: Sequence[str]) -> Float[ndarray, " n"]:
    """Which of its values each cell of a text column has."""
    cells = table.columns[name]
    if cells.dtype != object:
        cells = strings(f"{cell:g}" for cell in cells)
    _refuse_missing(table, name, [cell is None for cell in cells])
    at = {value: float(position) for position, value in enumerate(values)}
    for row, cell in enumerate(cells):
        if cell not in at:
            raise DataError(
                f"{table.path}: {table.line(row)}: column {name!r} has {cell!r} there; "
                f"the set knows {', '.join(map(repr, values))}"
            )
    return np.array([at[cell] for cell in cells])


def _refuse_missing(table: Table, name: str, missing: Any) -> None:
    if any(missing):
        row = list(missing).index(True)
        raise DataError(
            f"{table.path}: {table.line(row)}: column {name!r} is missing there; a "
            "prediction needs every column"
        )
