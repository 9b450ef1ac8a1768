"""Columns of CSV and Parquet files: cells become numbers, strings or missing."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.errors import DataError, MissingDataError, one_line

__all__ = ["Table", "number", "read_table", "strings"]

_MISSING_CELLS = frozenset(("", "na", "n/a", "nan", "null"))
_DELIMITERS = (",", ";", "\t", "|")
_PARQUET_NAMES, _PARQUET_MAGIC = (".parquet", ".pq"), b"PAR1"

# First bytes of files that are no tables in text -> what they are and what to do.
_OTHER_KINDS = {
    b"PK\x03\x04": (
        "an Excel file (.xlsx), another spreadsheet or a zip archive",
        "export the sheet as CSV (UTF-8), or unpack the archive",
    ),
    b"\xd0\xcf\x11\xe0": ("an old Excel file (.xls)", "export it as CSV (UTF-8)"),
    b"\x1f\x8b": ("compressed with gzip", "unpack it with gunzip"),
    b"BZh91AY": ("compressed with bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with unzstd"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"\xff\xfe": ("UTF-16 text", "save it as UTF-8, e.g. `iconv -f UTF-16 -t UTF-8`"),
    b"\xfe\xff": ("UTF-16 text", "save it as UTF-8, e.g. `iconv -f UTF-16 -t UTF-8`"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
    b"ARROW1": ("a Feather (Arrow) file", "save it as Parquet or CSV"),
    b"\x89HDF": ("an HDF5 file", "save its table as Parquet or CSV"),
    b"\x93NUMPY": ("a NumPy array", "load it with from_arrays"),
    b"%PDF": ("a PDF document", "export the table as CSV"),
    b"<!doctype": ("an HTML page", "download the table itself"),
    b"<html": ("an HTML page", "download the table itself"),
    b"<?xml": ("an XML document", "export the table as CSV"),
}


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
      path: a CSV or Parquet file; its first bytes say which.
      delimiter: of a CSV file; None: the one of comma, semicolon, tab and bar that
        splits the header into most names.

    Raises:
      DataError: a file that cannot be read, with what to do.
      MissingDataError: no such file.
      ImportError: Parquet without pyarrow.
    """
    if not path.is_file():
        problem = "no such file"
        if path.exists():
            kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
            problem = f"{kind}, not a file"
        raise MissingDataError(f"{path}: {problem}")
    with path.open("rb") as file:
        start = file.read(16)
    for magic, (kind, remedy) in _OTHER_KINDS.items():
        if start.startswith(magic) or start.lower().startswith(magic):
            raise DataError(f"{path}: {kind}, not a CSV or Parquet table; {remedy}")
    if start.startswith(_PARQUET_MAGIC) or path.suffix.lower() in _PARQUET_NAMES:
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
        name: strings(cells)
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
            "save it as UTF-8, e.g. `iconv -f LATIN1 -t UTF-8` where it is Latin-1"
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
            f"{path}: line {reader.line_num}: not valid CSV: {one_line(error)}; look "
            "at the quotes there and above"
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
        names = [str(name) for name in found.column_names]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: a column's name is not UTF-8 text ({error.object!r}); the file "
            "is damaged or was written by a faulty program: rename the column"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a Parquet file, or a broken one: {one_line(error)}"
        ) from error
    if found.num_rows == 0:
        raise DataError(f"{path}: no rows")
    columns = {}
    for name, column in zip(_header(path, names), found.columns, strict=True):
        try:
            columns[name] = _parquet_column(path, name, column)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: column {name!r} holds {error.object!r}, which is not UTF-8 "
                "text; mend the cell, or leave the column out before it is saved"
            ) from error
        except pa.ArrowException as error:
            raise DataError(
                f"{path}: column {name!r} cannot be read: {one_line(error)}"
            ) from error
    return Table(path, columns, lambda row: f"row {row + 1}")


def _parquet_column(path: Path, name: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return strings([None if c is None else c.strip() for c in column.to_pylist()])
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


def strings(cells: Iterable[str | None]) -> np.ndarray:
    """Cells as objects, those that say that they are missing as None."""
    found = [None if c is None or c.lower() in _MISSING_CELLS else c for c in cells]
    return np.array(found, dtype=object)


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float64)
