"""Tables with named columns, of CSV and Parquet files, for regression.

What is done about the usual troubles is a rule or an option, never a guess:

- A column is numeric when every cell is a number, and text when none is. One that mixes
  the two is an error, unless `orders` makes it a text column.
- A missing cell (empty, `NA`, `N/A`, `NaN`, `null`, in any case) is an error, or drops
  its row (`missing`).
- A text column becomes one column of 0 and 1 a value, named `column=value`, or the
  position of the value in a given order (`text`, `orders`).
- A constant column stays: it is centred to zero, and not scaled. A constant target is
  an error.
- Fewer rows than columns are allowed, with a warning.
"""

import csv
import difflib
import inspect
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.columns import Columns
from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.source import Source, rows_of_array

__all__ = [
    "MISSING",
    "MOST_CATEGORIES",
    "TEXT",
    "check_options",
    "read",
    "read_california_housing",
    "read_diabetes",
    "read_diamonds",
]

TEXT = ("one_hot", "ordinal", "refuse")
"""What a text column may become."""

MISSING = ("refuse", "drop")
"""What may be done about missing cells."""

MOST_CATEGORIES = 64
"""A text column of more values is taken for names or remarks and refused."""

_MISSING_CELLS = frozenset(("", "na", "n/a", "nan", "null"))
_DELIMITERS = (",", ";", "\t", "|")
_PARQUET = (".parquet", ".pq")


class _Table(NamedTuple):
    """The columns of a file, parsed.

    Attributes:
      path: the file.
      columns: name -> `(n,)` float64 with NaN for missing, or strings (object) with
        None for missing.
      line: position of a row -> how a user finds it, e.g. `line 17`.
    """

    path: Path
    columns: dict[str, np.ndarray]
    line: Callable[[int], str]


class _Encoded(NamedTuple):
    """Numeric columns by name, and the values behind those that were text."""

    columns: dict[str, np.ndarray]
    categories: dict[str, list[str]]


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
    pyarrow (the extra `tabular`).

    Args:
      path: a file; `.parquet` and `.pq` are Parquet, anything else is CSV.
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
    if not path.is_file():
        problem = "a folder, not a file" if path.is_dir() else "no such file"
        raise MissingDataError(f"{path}: {problem}")
    parquet = path.suffix.lower() in _PARQUET
    table = _read_parquet(path) if parquet else _read_csv(path, delimiter)
    wanted = _chosen(table, targets, inputs, named, known_orders)
    table = table._replace(columns={name: table.columns[name] for name in wanted})
    table = _numeric(table, known_orders)
    for name in targets:
        if table.columns[name].dtype == object:
            first = next(value for value in table.columns[name] if value is not None)
            raise DataError(
                f"{path}: target {name!r} is text (such as {first!r}), not a number; "
                "classes are loaded with from_arrays"
            )
    table, dropped = _complete(table, missing)
    encoded = _encoded(table, text, known_orders)
    features = [name for name in encoded.columns if name not in targets]
    values = np.stack([encoded.columns[name] for name in targets], axis=1)
    for name, column in zip(targets, values.T, strict=True):
        if (column == column[0]).all():
            raise DataError(
                f"{path}: target {name!r} is {column[0]:g} in every row; there is "
                "nothing to learn"
            )
    if len(values) < len(features):
        warnings.warn(
            f"{path}: {len(values)} rows are fewer than the {len(features)} input "
            "columns; only regularisation decides between models that fit them",
            stacklevel=2,
        )
    rows = np.stack([encoded.columns[name] for name in features], axis=1)
    kept = {name: unit for name, unit in named.items() if name in encoded.columns}
    return Source(
        train=rows_of_array(rows, values, str(path)),
        validation=None,
        test=None,
        class_names=None,
        unit=1.0,
        origin={
            "reader": "table",
            "file": path.name,
            "rows": len(rows),
            "dropped": dropped,
            "text": {name: list(v) for name, v in encoded.categories.items()},
        },
        columns=Columns(tuple(features), targets, kept),
    )


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keywords of `read` beside the path, when they are such.

    Raises:
      DataError: an unknown keyword, with those that are known.
    """
    known = [name for name in inspect.signature(read).parameters if name != "path"]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(f"table has no {name!r}.{hint} There are: {known}")
    return dict(options)


def read_diabetes() -> Source:
    """Disease progression of 442 patients, of the installed scikit-learn.

    Ten inputs in natural units. Source: Efron, Hastie, Johnstone and Tibshirani, "Least
    angle regression" (Annals of Statistics, 2004).
    """
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes(scaled=False)
    inputs = np.asarray(found.data, np.float64)
    targets = np.asarray(found.target, np.float64)[:, None]
    units = {"age": "years", "bmi": "kg/m2", "bp": "mmHg"}
    return Source(
        train=rows_of_array(inputs, targets, "scikit-learn's diabetes"),
        validation=None,
        test=None,
        class_names=None,
        unit=1.0,
        origin={"reader": "diabetes", "package": "scikit-learn"},
        columns=Columns(tuple(found.feature_names), ("progression",), units),
    )


def read_california_housing(folder: Path, **options: Any) -> Source:
    """Median house value of 20 640 districts: `folder/california_housing.csv`.

    Eight numeric inputs and the text column `ocean_proximity`. The 207 rows without
    `total_bedrooms` are dropped. Source: Pace and Barry, "Sparse spatial
    autoregressions" (1997), in the form of Géron's handbook.

    Args:
      folder: where the file is.
      **options: of `read`, in place of these.
    """
    return _known(
        folder / "california_housing.csv",
        "housing.csv of github.com/ageron/handson-ml2 (datasets/housing)",
        {
            "target": "median_house_value",
            "units": {
                "longitude": "degrees",
                "latitude": "degrees",
                "housing_median_age": "years",
                "median_income": "10000 USD",
                "median_house_value": "USD",
            },
            "orders": {
                "ocean_proximity": (
                    *("<1H OCEAN", "INLAND", "ISLAND"),
                    *("NEAR BAY", "NEAR OCEAN"),
                )
            },
            "missing": "drop",
            **options,
        },
    )


def read_diamonds(folder: Path, **options: Any) -> Source:
    """Price of 53 940 round-cut diamonds: `folder/diamonds.csv` of ggplot2.

    Six numeric inputs, and cut, color and clarity as ordinals, from worst to best;
    `text="one_hot"` makes columns of 0 and 1 of them.

    Args:
      folder: where the file is.
      **options: of `read`, in place of these.
    """
    return _known(
        folder / "diamonds.csv",
        "data-raw/diamonds.csv of github.com/tidyverse/ggplot2",
        {
            "target": "price",
            "units": {
                **{"price": "USD", "carat": "0.2 g", "depth": "%", "table": "%"},
                **{"x": "mm", "y": "mm", "z": "mm"},
            },
            "text": "ordinal",
            "orders": {
                "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
                "color": tuple("JIHGFED"),
                "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
            },
            **options,
        },
    )


def _known(path: Path, page: str, options: dict[str, Any]) -> Source:
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file. Get {page} and put it there")
    return read(path, **options)


def _read_csv(path: Path, delimiter: str | None) -> _Table:
    content = path.read_bytes()
    try:
        content_text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {at}: not UTF-8 text (byte {content[error.start]:#04x}); "
            "save it as UTF-8, e.g. `iconv -f LATIN1 -t UTF-8`"
        ) from error
    if delimiter is not None and len(delimiter) != 1:
        raise DataError(f"delimiter={delimiter!r}; it is one character")
    lines = io.StringIO(content_text, newline="")
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: empty; a header of column names is expected")
    sign = delimiter or max(_DELIMITERS, key=first.count)
    lines.seek(0)
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
            f"{path}: line {reader.line_num}: not sound CSV: {error}; look at the "
            "quotes there and above"
        ) from error
    names = _header(path, rows[0])
    if all(_number(name) is not None for name in names):
        raise DataError(
            f"{path}: the first line holds numbers ({sign.join(names)[:60]}), not "
            "names of columns; add a header"
        )
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"{path}: line {number}: {len(row)} cells; the header has {len(names)} "
                f"names (split at {sign!r})"
            )
    if len(rows) == 1:
        raise DataError(f"{path}: no rows below the header")
    columns = {
        name: np.array(
            [None if cell.lower() in _MISSING_CELLS else cell for cell in cells],
            dtype=object,
        )
        for name, cells in zip(names, zip(*rows[1:], strict=True), strict=True)
    }
    return _Table(path, columns, lambda row: f"line {numbers[row + 1]}")


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


def _read_parquet(path: Path) -> _Table:
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
    columns = {}
    for name, column in zip(names, found.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            cells = [
                None if cell is None else cell.strip() for cell in column.to_pylist()
            ]
            columns[name] = np.array(
                [
                    None if c is None or c.lower() in _MISSING_CELLS else c
                    for c in cells
                ],
                dtype=object,
            )
        elif pa.types.is_boolean(kind):
            columns[name] = _floats(column.cast(pa.int8()).cast(pa.float64()))
        elif any(
            is_kind(kind)
            for is_kind in (
                *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
                pa.types.is_null,
            )
        ):
            columns[name] = _floats(column.cast(pa.float64(), safe=False))
        else:
            raise DataError(
                f"{path}: column {name!r} is of type {kind}; expected numbers or text. "
                "Convert it, or leave it out with inputs=(...)"
            )
    return _Table(path, columns, lambda row: f"row {row + 1}")


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float64)


def _chosen(
    table: _Table,
    targets: tuple[str, ...],
    inputs: Sequence[str] | None,
    units: Mapping[str, str],
    orders: Mapping[str, list[str]],
) -> tuple[str, ...]:
    """The columns that are used, inputs first; all names that were given exist."""
    if isinstance(inputs, str):
        raise DataError(f"inputs={inputs!r}; give a sequence of column names")
    if not targets:
        raise DataError("target is empty; name the column to predict")
    for option, names in (
        *(("target", targets), ("inputs", inputs or ())),
        *(("units", tuple(units)), ("orders", tuple(orders))),
    ):
        for name in names:
            if name not in table.columns:
                near = difflib.get_close_matches(str(name), table.columns, 1)
                hint = f", did you mean {near[0]!r}?" if near else "."
                shown = ", ".join(table.columns)
                raise DataError(
                    f"{table.path}: {option}: there is no column {name!r}{hint} There "
                    f"are: {shown}"
                )
            if list(names).count(name) > 1:
                raise DataError(f"{table.path}: {option} has {name!r} twice")
    if inputs is None:
        inputs = [name for name in table.columns if name not in targets]
    for name in inputs:
        if name in targets:
            raise DataError(f"{table.path}: {name!r} is both a target and an input")
    if not inputs:
        raise DataError(f"{table.path}: no column is left to predict from")
    return (*inputs, *targets)


def _numeric(table: _Table, orders: Mapping[str, list[str]]) -> _Table:
    """Columns of nothing but numbers as float64."""
    columns = {}
    for name, cells in table.columns.items():
        columns[name] = cells
        if cells.dtype != object:
            _refuse_infinite(table, name, cells)
            if name in orders:
                raise DataError(
                    f"{table.path}: orders has {name!r}, which holds numbers"
                )
            continue
        if name in orders:
            continue
        numbers = [None if cell is None else _number(cell) for cell in cells]
        present = [i for i, cell in enumerate(cells) if cell is not None]
        if not present:
            raise DataError(
                f"{table.path}: column {name!r} is empty; leave it out with "
                "inputs=(...)"
            )
        text = [i for i in present if numbers[i] is None]
        if not text:
            values = [math.nan if number is None else number for number in numbers]
            columns[name] = np.array(values)
            _refuse_infinite(table, name, columns[name])
        elif len(text) < len(present):
            raise DataError(
                f"{table.path}: {table.line(text[0])}: column {name!r} has "
                f"{cells[text[0]]!r} there and a number in "
                f"{len(present) - len(text)} other rows; mend the cell, or give the "
                "column's values in `orders` if it is text"
            )
    return table._replace(columns=columns)


def _refuse_infinite(table: _Table, name: str, values: np.ndarray) -> None:
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise DataError(
            f"{table.path}: {table.line(row)}: column {name!r} is infinite there"
        )


def _complete(table: _Table, missing: str) -> tuple[_Table, int]:
    """The rows without missing cells, and how many others there were."""
    absent = {
        name: np.array([cell is None for cell in cells])
        if cells.dtype == object
        else np.isnan(cells)
        for name, cells in table.columns.items()
    }
    incomplete = np.any(list(absent.values()), axis=0)
    if not incomplete.any():
        return table, 0
    row = int(np.argmax(incomplete))
    name = next(name for name, mask in absent.items() if mask[row])
    if missing == "refuse":
        raise DataError(
            f"{table.path}: {table.line(row)}: column {name!r} is missing there, and "
            f"{int(incomplete.sum())} of {len(incomplete)} rows miss a cell; fill "
            "them, leave the column out with inputs=(...), or drop the rows with "
            "missing='drop'"
        )
    if incomplete.all():
        emptiest = max(absent, key=lambda each: int(absent[each].sum()))
        raise DataError(
            f"{table.path}: every row misses a cell, most of them {emptiest!r}; leave "
            "it out with inputs=(...)"
        )
    kept = np.flatnonzero(~incomplete)
    line = table.line
    complete = {name: cells[kept] for name, cells in table.columns.items()}
    return _Table(table.path, complete, lambda i: line(int(kept[i]))), int(
        incomplete.sum()
    )


def _encoded(table: _Table, text: str, orders: Mapping[str, list[str]]) -> _Encoded:
    """Every column as numbers."""
    columns: dict[str, np.ndarray] = {}
    categories: dict[str, list[str]] = {}
    for name, cells in table.columns.items():
        if cells.dtype != object:
            columns[name] = cells
            continue
        order = _categories(table, name, cells, text, orders)
        categories[name] = order
        at = {value: position for position, value in enumerate(order)}
        positions = np.array([at[cell] for cell in cells])
        if text == "ordinal":
            columns[name] = positions.astype(np.float64)
        else:
            for position, value in enumerate(order):
                column = f"{name}={value}"
                if column in table.columns:
                    raise DataError(
                        f"{table.path}: column {name!r} would make a second "
                        f"{column!r}; rename that one"
                    )
                columns[column] = (positions == position).astype(np.float64)
    return _Encoded(columns, categories)


def _categories(
    table: _Table,
    name: str,
    cells: np.ndarray,
    text: str,
    orders: Mapping[str, list[str]],
) -> list[str]:
    """The values of a text column, in order; all cells are among them."""
    if text == "refuse":
        raise DataError(
            f"{table.path}: {table.line(0)}: column {name!r} is text ({cells[0]!r}); "
            "leave it out with inputs=(...), or allow it with text='one_hot' or "
            "text='ordinal'"
        )
    if name in orders:
        order = orders[name]
        known = set(order)
        for row, cell in enumerate(cells):
            if cell not in known:
                raise DataError(
                    f"{table.path}: {table.line(row)}: column {name!r} has {cell!r}, "
                    f"which is not in its order: {', '.join(order)}"
                )
        return order
    values = sorted(set(cells))
    if text == "ordinal":
        raise DataError(
            f"{table.path}: text='ordinal' needs the order of column {name!r}: "
            f"orders={{{name!r}: [...]}} with {', '.join(map(repr, values[:10]))}"
            + (", ..." if len(values) > 10 else "")
        )
    if len(values) > MOST_CATEGORIES:
        raise DataError(
            f"{table.path}: column {name!r} is text of {len(values)} different values, "
            f"more than {MOST_CATEGORIES}; leave it out with inputs=(...), or give "
            "them all in `orders`"
        )
    return values


def _number(cell: str) -> float | None:
    # Python allows underscores between digits, which no table means.
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None
