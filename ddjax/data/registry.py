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
from ddjax.storage.terms import Terms

__all__ = ["SOURCES", "Reader", "Request", "read_source", "terms_of"]


class Request(NamedTuple):
    """What is asked of a source.

    Attributes:
      directory: the data directory.
      explicit: whether the caller named it (else it is the default one).
      argument: what follows the colon in the data set's name, or an empty string.
      image_size: (height, width) that images are brought to; None: as they are.
      channels: 1 (grey) or 3 (colour); None until a source is read: 3.
      table: keywords of `tabular.read`; None until a source is read: none.
      broken: what is done about broken images; see `folder.read`.
      task: what is learned of arrays; see `arrays.read`.
    """

    directory: Path
    explicit: bool = True
    argument: str = ""
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    table: Mapping[str, Any] | None = None
    broken: str = "refuse"
    task: str | None = None


class Reader(NamedTuple):
    """A registered source.

    Attributes:
      read: the request -> the source.
      terms: under which the data may be used.
      argument: whether a colon and an argument follow the name: `no`, `may` or `must`.
      accepts: which of `image_size`, `channels`, `table`, `broken` and `task` it takes.
    """

    read: Callable[[Request], Source]
    terms: Terms
    argument: str = "no"
    accepts: tuple[str, ...] = ()


_OF_IMAGES = ("image_size", "channels", "broken")
_OPTIONS = (*_OF_IMAGES, "table", "task")
_USERS_OWN_TERMS = Terms(note="the user's own data, under the user's terms")
_CIFAR = Terms(
    page="https://www.cs.toronto.edu/~kriz/cifar.html",
    note="its authors ask for a citation of the report named there",
)


def _named_folder(request: Request, name: str) -> Path:
    """`DIR/name`, or `DIR` itself where that is the folder of that name."""
    inside = request.directory / name
    if not inside.is_dir() and request.directory.name == name:
        return request.directory
    return inside


def _of_images(request: Request) -> dict[str, Any]:
    return {option: getattr(request, option) for option in _OF_IMAGES}


def _with_target(table: Mapping[str, Any]) -> Mapping[str, Any]:
    if "target" not in table:
        raise DataError("a table needs the column to predict: table={'target': NAME}")
    return table


SOURCES: dict[str, Reader] = {
    "digits": Reader(
        lambda request: digits.read(),
        Terms(
            "CC-BY-4.0",
            "https://archive.ics.uci.edu/dataset/80",
            "part of UCI's optical recognition of handwritten digits",
        ),
    ),
    "mnist": Reader(
        lambda r: idx.read_mnist(_named_folder(r, "mnist")),
        Terms(
            page="http://yann.lecun.com/exdb/mnist/",
            note="copies of it elsewhere name different licences",
        ),
    ),
    "fashion_mnist": Reader(
        lambda r: idx.read_fashion_mnist(_named_folder(r, "fashion_mnist")),
        Terms(
            "MIT",
            "https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE",
        ),
    ),
    "cifar10": Reader(
        lambda r: cifar.read_cifar10(_named_folder(r, "cifar10")), _CIFAR
    ),
    "cifar100": Reader(
        lambda r: cifar.read_cifar100(_named_folder(r, "cifar100")), _CIFAR
    ),
    "folder": Reader(
        lambda r: folder.read(r.directory / r.argument, **_of_images(r)),
        _USERS_OWN_TERMS,
        argument="may",
        accepts=_OF_IMAGES,
    ),
    "npz": Reader(
        lambda r: npz.read(r.directory / r.argument, task=r.task),
        _USERS_OWN_TERMS,
        argument="must",
        accepts=("task",),
    ),
    "table": Reader(
        lambda r: tabular.read(r.directory / r.argument, **_with_target(r.table)),
        _USERS_OWN_TERMS,
        argument="must",
        accepts=("table",),
    ),
    "linear": Reader(
        lambda r: linear.read(r.argument),
        Terms(note="none needed: numbers that this library draws"),
        argument="may",
    ),
    "diabetes": Reader(
        lambda r: known_tables.read_diabetes(),
        Terms(page="https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html"),
    ),
    "california_housing": Reader(
        lambda r: known_tables.read_california_housing(
            _named_folder(r, "tabular"), **r.table
        ),
        Terms(
            page="https://github.com/ageron/handson-ml2/tree/master/datasets/housing",
            note="from the census of 1990, by way of StatLib",
        ),
        accepts=("table",),
    ),
    "diamonds": Reader(
        lambda r: known_tables.read_diamonds(_named_folder(r, "tabular"), **r.table),
        Terms(
            "MIT",
            "https://github.com/tidyverse/ggplot2/blob/main/LICENSE.md",
            "that of ggplot2, which holds the table",
        ),
        accepts=("table",),
    ),
    "tfds": Reader(
        lambda r: tfds.read(
            r.argument,
            directory=r.directory if r.explicit else None,
            image_size=r.image_size,
        ),
        Terms(page="https://www.tensorflow.org/datasets/catalog/overview"),
        argument="must",
        accepts=("image_size",),
    ),
    "imagenette": Reader(
        lambda r: folder.read_imagenette(
            _named_folder(r, "imagenette"), **_of_images(r)
        ),
        Terms(
            page="https://github.com/fastai/imagenette",
            note="the images are ImageNet's, whose terms of access allow "
            "non-commercial research and education: "
            "https://www.image-net.org/download.php",
        ),
        accepts=_OF_IMAGES,
    ),
    "cub50": Reader(
        lambda r: folder.read_cub50(_named_folder(r, "cub50"), **_of_images(r)),
        Terms(
            page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
            note="photographs from Flickr",
        ),
        accepts=_OF_IMAGES,
    ),
}


def terms_of(name: str) -> Terms:
    """Under which terms a data set may be used, as far as this library knows.

    Args:
      name: as `load` takes it, such as `mnist`, `folder:birds` or `tfds:svhn_cropped`;
        of TensorFlow Datasets those that are known here by the same name have the same
        terms, the others a page to look at.

    Returns:
      The terms; of a name that is not known, those of the user's own data.
    """
    key, _, argument = name.partition(":")
    if key != "tfds" or not argument:
        return SOURCES[key].terms if key in SOURCES else _USERS_OWN_TERMS
    own = argument.partition(":")[0].partition("/")[0]
    if own in SOURCES:
        return SOURCES[own].terms
    page = f"https://www.tensorflow.org/datasets/catalog/{own}"
    return Terms(page=page)


def read_source(name: str, request: Request) -> Source:
    """Finds the reader of a name such as `mnist` or `tfds:mnist`, and reads.

    Args:
      name: a key of `SOURCES`, with its argument.
      request: what is asked of it, but for the argument.

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
    given = {option: getattr(request, option) for option in _OPTIONS}
    if request.broken == "refuse":
        del given["broken"]
    for option, value in given.items():
        if value is not None and option not in reader.accepts:
            taking = [k for k, r in SOURCES.items() if option in r.accepts]
            raise DataError(
                f"{option} is only for {', '.join(taking)}; {key!r} takes no "
                f"{option} (it is {value!r})"
            )
    channels = request.channels
    if channels not in (None, 1, 3):
        raise DataError(f"channels={channels!r}; it is 1 (grey) or 3 (colour)")
    options = tabular.check_options(request.table or {})
    return reader.read(
        request._replace(argument=argument, channels=channels or 3, table=options)
    )


def _unknown_name(name: str) -> str:
    known = ", ".join(sorted(SOURCES))
    if name == "arrays":
        return "arrays in memory are loaded by from_arrays(train=(inputs, labels))"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), SOURCES, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown data set {name!r}{hint} Known: {known}"
