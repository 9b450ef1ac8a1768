"""What the columns of a table are called."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Columns", "check_columns"]


class Columns(NamedTuple):
    """Names and units of the columns of a table of numbers.

    Attributes:
      inputs: one name for each input coordinate.
      targets: one name for each target.
      units: name -> unit, for those that have one.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    units: Mapping[str, str]


def check_columns(
    columns: Columns, *, input_shape: tuple[int, ...], targets: int
) -> None:
    """Raises unless the names fit inputs of a shape and so many targets.

    Raises:
      ValueError: names that are no strings or used twice, a number of them that is not
        that of the coordinates, or a unit of no column.
    """
    names = (*columns.inputs, *columns.targets)
    for name in (*names, *columns.units, *columns.units.values()):
        if not (isinstance(name, str) and name):
            raise ValueError(f"columns hold {name!r}, which is no name")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"columns hold the name {twice!r} twice")
    if input_shape != (len(columns.inputs),):
        raise ValueError(
            f"columns name {len(columns.inputs)} inputs; inputs have shape "
            f"{input_shape}"
        )
    if targets != len(columns.targets):
        raise ValueError(
            f"columns name {len(columns.targets)} targets; there are {targets}"
        )
    unknown: Any = next((name for name in columns.units if name not in names), None)
    if unknown is not None:
        raise ValueError(f"columns have a unit of {unknown!r}, which is no column")
