"""Columns of CSV and Parquet files: cells become numbers, strings or missing."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.errors import DataError, MissingDataError

__all__ = ["Table", "number", "read_table"]

_MISSING_CELLS = frozenset(("", "na", "n/a", "nan", "null"))
_DELIMITERS = (",", ";", "\t", "|")
_PARQUET = (".parquet", ".pq")


class Table(NamedTuple):
    """The columns of a file.

    Attributes:
      path: the file.
      columns: name -> `(n,)` float64 with NaN for missing, or strings (object) with
        None for missing.
      line: position of a row -> how a user finds it, e.g. `line 17`.
    """

    path: Path
    columns: dict[str, np.ndarray]
    line: Callable[[int], str]


def read_table(path: Path, *, delimiter: str | None = None) -> Table:
    """Reads a file; cells of CSV are still strings, whatever they hold.

    Args:
      path: a file; `.parquet` and `.pq` are Parquet, anything else is CSV.
      delimiter: of a CSV file; None: the one of comma, semicolon, tab and bar that
        splits the header into most names.

    Returns:
      Its columns.

    Raises:
      DataError: a file that cannot be read, with what to do.
      MissingDataError: no such file.
      ImportError: Parquet without pyarrow.
    """
    if not path.is_file():
        problem = "a folder, not a file" if path.is_dir() else "no such file"
        raise MissingDataError(f"{path}: {problem}")
    if path.suffix.lower() in _PARQUET:
        return _read_parquet(path)
    return _read_csv(path, delimiter)


def number(cell: str) -> float | None:
    """The number that a cell holds, or None."""
    # Python allows underscores between digits, which no table means.
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _read_csv(path: Path, delimiter: str | None) -> Table:
    lines = io.StringIO(_decoded(path), newline="")
    if delimiter is not None and len(delimiter) != 1:
        raise DataError(f"delimiter={delimiter!r}; it is one character")
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: empty; a header of column names is expected")
    sign = delimiter or max(_DELIMITERS, key=first.count)
    lines.seek(0)
    rows, numbers = _split(path, lines, sign)
    names = _header(path, rows[0])
    _check_rows(path, names, rows, numbers, sign)
    columns = {
        name: _strings(cells)
        for name, cells in zip(names, zip(*rows[1:], strict=True), strict=True)
    }
    return Table(path, columns, lambda row: f"line {numbers[row + 1]}")


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {at}: not UTF-8 text (byte {content[error.start]:#04x}); "
            "save it as UTF-8, e.g. `iconv -f LATIN1 -t UTF-8`"
        ) from error


def _split(
    path: Path, lines: io.StringIO, sign: str
) -> tuple[list[list[str]], list[int]]:
    """The rows that are not blank, in cells, and the line that each ends on."""
    reader = csv.reader(lines, delimiter=sign, strict=True)
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append([cell.strip() for cell in row])
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: not valid CSV: {error}; look at the "
            "quotes there and above"
        ) from error
    return rows, numbers


def _check_rows(
    path: Path,
    names: list[str],
    rows: list[list[str]],
    numbers: list[int],
    sign: str,
) -> None:
    """Raises unless there is a header of names and rows of as many cells below it."""
    if all(number(name) is not None for name in names):
        raise DataError(
            f"{path}: the first line holds numbers ({sign.join(names)[:60]}), not "
            "names of columns; add a header"
        )
    for row, at in zip(rows, numbers, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"{path}: line {at}: {len(row)} cells; the header has {len(names)} "
                f"names (split at {sign!r})"
            )
    if len(rows) == 1:
        raise DataError(f"{path}: no rows below the header")


def _header(path: Path, names: list[str]) -> list[str]:
    for position, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{path}: column {position} has no name in the header; give it one"
            )
        if names.index(name) + 1 != position:
            raise DataError(
                f"{path}: columns {names.index(name) + 1} and {position} are both "
                f"called {name!r}; rename one"
            )
    return names


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{path}: reading Parquet needs pyarrow: pip install 'ddjax[tabular]'"
        ) from error

    try:
        found = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file, or a broken one: {error}") from (
            error
        )
    if found.num_rows == 0:
        raise DataError(f"{path}: no rows")
    names = _header(path, [str(name) for name in found.column_names])
    columns = {
        name: _parquet_column(path, name, column)
        for name, column in zip(names, found.columns, strict=True)
    }
    return Table(path, columns, lambda row: f"row {row + 1}")


def _parquet_column(path: Path, name: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _strings([None if c is None else c.strip() for c in column.to_pylist()])
    if pa.types.is_boolean(kind):
        return _floats(column.cast(pa.int8()).cast(pa.float64()))
    if any(
        is_kind(kind)
        for is_kind in (
            *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
            pa.types.is_null,
        )
    ):
        return _floats(column.cast(pa.float64(), safe=False))
    raise DataError(
        f"{path}: column {name!r} is of type {kind}; expected numbers or text. "
        "Convert it, or leave it out with inputs=(...)"
    )


def _strings(cells: Iterable[str | None]) -> np.ndarray:
    """Cells as objects, those that say that they are missing as None."""
    found = [None if c is None or c.lower() in _MISSING_CELLS else c for c in cells]
    return np.array(found, dtype=object)


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float64)
