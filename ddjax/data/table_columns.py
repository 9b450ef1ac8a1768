"""From the columns of a table to numbers: which are used, and what becomes of text."""

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ddjax.data.disguised_numbers import disguised_number, shared_unit
from ddjax.data.errors import DataError
from ddjax.data.table_files import Table, number

__all__ = [
    "MISSING",
    "MOST_CATEGORIES",
    "TEXT",
    "choose_columns",
    "encode_text",
    "parse_numbers",
    "refuse_infinite",
    "without_missing",
]

TEXT = ("one_hot", "ordinal", "refuse")
"""What a text column may become."""

MISSING = ("refuse", "drop")
"""What may be done about missing cells."""

MOST_CATEGORIES = 64
"""A text column of more values is taken for names or remarks and refused."""


def choose_columns(
    table: Table,
    targets: tuple[str, ...],
    inputs: Sequence[str] | None,
    units: Mapping[str, str],
    orders: Mapping[str, list[str]],
) -> tuple[str, ...]:
    """The columns that are used, inputs first.

    Raises:
      DataError: a name that is no column or is given twice, or nothing left to predict
        from.
    """
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


def parse_numbers(table: Table, orders: Mapping[str, list[str]]) -> Table:
    """Columns of nothing but numbers become float64; those in `orders` stay text.

    Raises:
      DataError: a column that is empty, mixes numbers and text, or is infinite or too
        large for float32; text that looks like numbers or dates; an order for a column
        of numbers.
    """
    columns = {}
    for name, cells in table.columns.items():
        columns[name] = cells
        if cells.dtype != object:
            if name in orders:
                raise DataError(
                    f"{table.path}: orders has {name!r}, which holds numbers"
                )
            refuse_infinite(table, name, cells)
            continue
        if name in orders:
            continue
        numbers = [None if cell is None else number(cell) for cell in cells]
        present = [i for i, cell in enumerate(cells) if cell is not None]
        if not present:
            raise DataError(
                f"{table.path}: column {name!r} is empty; leave it out with "
                "inputs=(...)"
            )
        text = [i for i in present if numbers[i] is None]
        _refuse_disguised(table, name, text)
        if not text:
            columns[name] = np.array([math.nan if x is None else x for x in numbers])
            refuse_infinite(table, name, columns[name])
        elif len(text) < len(present):
            raise DataError(
                f"{table.path}: {table.line(text[0])}: column {name!r} has "
                f"{cells[text[0]]!r} there and a number in "
                f"{len(present) - len(text)} other rows; mend the cell, or give the "
                "column's values in `orders` if it is text"
            )
    return table._replace(columns=columns)


def refuse_infinite(table: Table, name: str, values: np.ndarray) -> None:
    """Raises where a number is infinite in float32: most is done in it.

    Raises:
      DataError: such a number, with its line and column.
    """
    largest = float(np.finfo(np.float32).max)
    wrong = np.abs(values) > largest
    if wrong.any():
        row = int(np.argmax(wrong))
        value = values[row]
        problem = "infinite" if np.isinf(value) else f"{value:g}"
        raise DataError(
            f"{table.path}: {table.line(row)}: column {name!r} is {problem} there; "
            f"numbers are at most {largest:.1e}: mend the cell, or use a larger unit"
        )


def _refuse_disguised(table: Table, name: str, rows: Sequence[int]) -> None:
    """Raises where one of these cells of text reads as a number or a date."""
    cells = table.columns[name]
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(cells[row], row)
    escape = f"or give the column's values in orders={{{name!r}: [...]}} if it is text"
    for cell, row in first.items():
        found = disguised_number(cell)
        if found is not None:
            raise DataError(
                f"{table.path}: {table.line(row)}: column {name!r} has {cell!r} there, "
                f"{found[0]}; {found[1]}, {escape}"
            )
    unit = shared_unit(first)
    if unit is not None:
        row = rows[0]
        raise DataError(
            f"{table.path}: {table.line(row)}: column {name!r} has {cells[row]!r} "
            f"there, and a number with {unit!r} in every row; write the numbers alone, "
            f"and name the unit with units={{{name!r}: {unit!r}}}, {escape}"
        )


def without_missing(table: Table, missing: str) -> tuple[Table, int]:
    """The rows without missing cells, and how many others there were.

    Raises:
      DataError: a missing cell where `missing` is `refuse`, or in every row.
    """
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
    dropped = int(incomplete.sum())
    return Table(table.path, complete, lambda i: line(int(kept[i]))), dropped


def encode_text(
    table: Table, text: str, orders: Mapping[str, list[str]]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Every column as numbers, and the values of those of text, which become `text`.

    Raises:
      DataError: text that is refused, not in its order, or of too many values.
    """
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
    return columns, categories


def _categories(
    table: Table,
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
