"""Configurations of `ddjax distil` in files: the user's own, and ready-made presets."""

import importlib.resources
import os
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax.command.keywords import check_names
from ddjax.synthetic import json_text

__all__ = ["configuration", "preset", "presets"]

# What a file may hold, all of it optional, and of which type.
_SECTIONS: dict[str, type] = {
    "description": str,
    "steps": int,
    "seed": int,
    "data": dict,
    "method": dict,
    "train": dict,
    "evaluate": dict,
}
_FORMATS = (".json", ".toml")


def configuration(arguments: Namespace) -> dict[str, Any]:
    """The configuration that `--config` or `--preset` names; empty without them.

    Raises:
      ValueError: an unknown preset, or a file that is no configuration.
    """
    if arguments.config is not None:
        return _read_file(arguments.config)
    return {} if arguments.preset is None else preset(arguments.preset)


def _read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A configuration in a JSON or TOML file."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path}: a configuration is a {' or a '.join(_FORMATS)} file")
    try:
        return _parsed(path.suffix.lower(), path.read_bytes())
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: {reason}") from error


def presets() -> dict[str, str]:
    """Name -> description of the presets that come with the package."""
    return {name: preset(name)["description"].strip() for name in _files()}


def preset(name: str) -> dict[str, Any]:
    """The configuration of a preset.

    Raises:
      ValueError: an unknown name, with the nearest that there is.
    """
    files = _files()
    check_names("--preset", [name], files)
    return _parsed(".toml", files[name].read_bytes())


def _files() -> dict[str, Any]:
    folder = importlib.resources.files("ddjax.command").joinpath("presets")
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file for file in found}


def _parsed(suffix: str, content: bytes) -> dict[str, Any]:
    if suffix == ".json":
        found = json_text.loads(content)
    else:
        try:
            found = tomllib.loads(content.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text: {error}") from error
    check_names("the configuration", found, _SECTIONS)
    for name, value in found.items():
        kind = _SECTIONS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "a table of keywords" if kind is dict else f"of type {kind.__name__}"
            raise ValueError(f"{name} is {value!r}; it is {what}")
    for label, settings in found.get("evaluate", {}).items():
        if not isinstance(settings, Mapping):
            raise ValueError(
                f"evaluate.{label} is {settings!r}; it is a table of keywords"
            )
    return found
