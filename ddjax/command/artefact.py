"""A distilled set and its data, as the sub-commands are given them."""

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import data, synthetic
from ddjax.command.keywords import parameters, read
from ddjax.command.named import data_keywords
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.files import DOCUMENT, RUN_SUBFOLDER

__all__ = ["configured", "data_of", "fingerprint", "load_keywords", "opened", "place"]


def place(folder: str | os.PathLike[str]) -> Path:
    """The set in a folder: the folder itself, or what a run there has left."""
    path = Path(folder)
    own = path / RUN_SUBFOLDER
    in_run = not (path / DOCUMENT).is_file() and (own / DOCUMENT).is_file()
    return own if in_run else path


def opened(folder: str | os.PathLike[str]) -> DistilledSet:
    """The distilled set in a folder, or in the folder of its run.

    Raises:
      DistilledSetError: there is none, or it is damaged.
    """
    return synthetic.load(place(folder))


def fingerprint(distilled: DistilledSet) -> str | None:
    """Of the data that a set was distilled from, None if unknown."""
    source = distilled.provenance.get("data")
    return source.get("fingerprint") if isinstance(source, Mapping) else None


def configured(distilled: DistilledSet, section: str) -> dict[str, Any]:
    """A section of the configuration that a set was made with; empty if unknown."""
    config = distilled.provenance.get("config")
    found = config.get(section) if isinstance(config, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def data_of(arguments: Namespace, distilled: DistilledSet) -> dict[str, Any]:
    """Keywords of `ddjax.data.load`, from `--data`, `--directory` and `--load`.

    Where the set was distilled from data of that name, what is not given is as it was
    then.

    Raises:
      ValueError: an unknown keyword, or a value of a wrong type.
    """
    given = load_keywords(arguments)
    before = configured(distilled, "data")
    if before.pop("name", None) == arguments.data:
        known = set(parameters(data.load)) - {"directory", "scratch", "on_device"}
        given = {key: before[key] for key in before if key in known} | given
    named = {"name": arguments.data, "directory": arguments.directory}
    return data_keywords("--load", named | given)


def load_keywords(arguments: Namespace) -> dict[str, Any]:
    """What `--load` gives.

    Raises:
      ValueError: a keyword that has a flag of its own.
    """
    given = read("--load", arguments.load)
    for key, flag in (("name", "--data"), ("directory", "--directory")):
        if key in given:
            raise ValueError(f"--load {key}={given[key]}: give it as {flag}")
    return given
