"""The data sets that `load` knows by name."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ddjax.data import (
    cifar,
    digits,
    folder,
    idx,
    known_tables,
    linear,
    npz,
    tabular,
    tfds,
)
from ddjax.data.errors import DataError
from ddjax.data.source import Source

__all__ = ["SOURCES", "Reader", "Request", "read_source"]


class Request(NamedTuple):
    """What is asked of a source.

    Attributes:
      directory: the data directory.
      explicit: whether the caller named it (else it is the default one).
      argument: what follows the colon in the data set's name, or an empty string.
      image_size: (height, width) that images are brought to; None: as they are.
      channels: 1 (grey) or 3 (colour).
      table: keywords of `tabular.read`.
      broken: what is done about broken images; see `folder.read`.
      task: what is learned of arrays; see `arrays.read`.
    """

    directory: Path
    explicit: bool = True
    argument: str = ""
    image_size: tuple[int, int] | None = None
    channels: int = 3
    table: Mapping[str, Any] = {}
    broken: str = "refuse"
    task: str | None = None


class Reader(NamedTuple):
    """A registered source.

    Attributes:
      read: the request -> the source.
      argument: whether a colon and an argument follow the name: `no`, `may` or `must`.
      accepts: which of `image_size`, `channels`, `table`, `broken` and `task` it takes.
    """

    read: Callable[[Request], Source]
    argument: str = "no"
    accepts: tuple[str, ...] = ()


_OF_IMAGES = ("image_size", "channels", "broken")


def _named_folder(request: Request, name: str) -> Path:
    """`DIR/name`, or `DIR` itself where that is the folder of that name."""
    inside = request.directory / name
    if not inside.is_dir() and request.directory.name == name:
        return request.directory
    return inside


def _with_target(table: Mapping[str, Any]) -> Mapping[str, Any]:
    if "target" not in table:
        raise DataError("a table needs the column to predict: table={'target': NAME}")
    return table


SOURCES: dict[str, Reader] = {
    "digits": Reader(lambda request: digits.read()),
    "mnist": Reader(lambda r: idx.read_mnist(_named_folder(r, "mnist"))),
    "fashion_mnist": Reader(
        lambda r: idx.read_fashion_mnist(_named_folder(r, "fashion_mnist"))
    ),
    "cifar10": Reader(lambda r: cifar.read_cifar10(_named_folder(r, "cifar10"))),
    "cifar100": Reader(lambda r: cifar.read_cifar100(_named_folder(r, "cifar100"))),
    "folder": Reader(
        lambda r: folder.read(
            r.directory / r.argument,
            image_size=r.image_size,
            channels=r.channels,
            broken=r.broken,
        ),
        argument="may",
        accepts=_OF_IMAGES,
    ),
    "npz": Reader(
        lambda r: npz.read(r.directory / r.argument, task=r.task),
        argument="must",
        accepts=("task",),
    ),
    "table": Reader(
        lambda r: tabular.read(r.directory / r.argument, **_with_target(r.table)),
        argument="must",
        accepts=("table",),
    ),
    "linear": Reader(lambda r: linear.read(r.argument), argument="may"),
    "diabetes": Reader(lambda r: known_tables.read_diabetes()),
    "california_housing": Reader(
        lambda r: known_tables.read_california_housing(
            _named_folder(r, "tabular"), **r.table
        ),
        accepts=("table",),
    ),
    "diamonds": Reader(
        lambda r: known_tables.read_diamonds(_named_folder(r, "tabular"), **r.table),
        accepts=("table",),
    ),
    "tfds": Reader(
        lambda r: tfds.read(
            r.argument,
            directory=r.directory if r.explicit else None,
            image_size=r.image_size,
        ),
        argument="must",
        accepts=("image_size",),
    ),
    "imagenette": Reader(
        lambda r: folder.read_imagenette(
            _named_folder(r, "imagenette"),
            image_size=r.image_size,
            channels=r.channels,
            broken=r.broken,
        ),
        accepts=_OF_IMAGES,
    ),
    "cub50": Reader(
        lambda r: folder.read_cub50(
            _named_folder(r, "cub50"),
            image_size=r.image_size,
            channels=r.channels,
            broken=r.broken,
        ),
        accepts=_OF_IMAGES,
    ),
}


def read_source(
    name: str,
    *,
    directory: Path,
    explicit: bool,
    image_size: tuple[int, int] | None,
    channels: int | None,
    table: Mapping[str, Any] | None = None,
    broken: str = "refuse",
    task: str | None = None,
) -> Source:
    """Finds the reader of a name such as `mnist` or `tfds:mnist`, and reads.

    Args:
      name: a key of `SOURCES`, with its argument.
      directory: the data directory.
      explicit: whether the caller named it.
      image_size: (height, width) or None.
      channels: 1, 3 or None (3).
      table: keywords of `tabular.read`, or None.
      broken: see `folder.read`.
      task: see `arrays.read`.

    Returns:
      The source.

    Raises:
      DataError: unknown name, with the known ones; an argument missing or too many; an
        option that the source does not take.
    """
    if not isinstance(name, str):
        raise DataError(f"name={name!r}; it is the name of a data set, a string")
    key, _, argument = name.partition(":")
    if key not in SOURCES:
        raise DataError(_unknown_name(name))
    reader = SOURCES[key]
    if argument and reader.argument == "no":
        raise DataError(f"unknown data set {name!r}; did you mean {key!r}?")
    if not argument and reader.argument == "must":
        raise DataError(f"data set {name!r} needs what to read: '{key}:NAME'")
    given = {
        "image_size": image_size,
        "channels": channels,
        "table": table,
        "broken": None if broken == "refuse" else broken,
        "task": task,
    }
    for option, value in given.items():
        if value is not None and option not in reader.accepts:
            taking = [k for k, r in SOURCES.items() if option in r.accepts]
            raise DataError(
                f"{option} is only for {', '.join(taking)}; {key!r} takes no "
                f"{option} (it is {value!r})"
            )
    if channels not in (None, 1, 3):
        raise DataError(f"channels={channels!r}; it is 1 (grey) or 3 (colour)")
    options = tabular.check_options(table or {})
    return reader.read(
        Request(
            directory,
            explicit,
            argument,
            image_size=image_size,
            channels=channels or 3,
            table=options,
            broken=broken,
            task=task,
        )
    )


def _unknown_name(name: str) -> str:
    known = ", ".join(sorted(SOURCES))
    if name == "arrays":
        return "arrays in memory are loaded by from_arrays(train=(inputs, labels))"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), SOURCES, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown data set {name!r}{hint} Known: {known}"
