"""A run's folder belongs to one configuration: what is written in it must agree."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddjax.storage import atomic

__all__ = ["RUN_FILE", "agree", "open_workdir", "refuse_another", "write_json"]

RUN_FILE = "run.json"
"""What a run is: its folder holds this file from the first step on."""


def open_workdir(workdir: str | os.PathLike[str]) -> Path:
    """Makes the folder, or takes one that is empty or a run's.

    Raises:
      ValueError: the path is no folder, or a folder of something else.
    """
    path = Path(workdir).absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; a run needs a folder")
    path.mkdir(parents=True, exist_ok=True)
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    # Prepared results are found by what they are of, whoever left them.
    names = [name for name in names if name != "prepared"]
    if names and RUN_FILE not in names:
        raise ValueError(
            f"{path} is not empty and holds no run (there is {names[0]} but no "
            f"{RUN_FILE}); give a new or empty folder"
        )
    return path


def agree(
    path: Path,
    record: Mapping[str, Any],
    *,
    growing: Sequence[str] = (),
) -> None:
    """Writes a JSON record, or compares it with the one that is there.

    Args:
      path: the file.
      record: JSON-able; tuples count as lists.
      growing: dotted keys whose number may be larger than what is there.

    Raises:
      ValueError: as `refuse_another`; or `record` is not JSON-able.
    """
    held, wanted = refuse_another(path, record, growing=growing), _plain(path, record)
    if held != wanted:
        write_json(path, wanted)


def refuse_another(
    path: Path,
    record: Mapping[str, Any],
    *,
    growing: Sequence[str] = (),
    part: str | None = None,
) -> dict[str, Any] | None:
    """Compares a JSON record with the one that is there, and writes nothing.

    Where things lie on this machine, keys that end in `directory`, may differ.

    Args:
      path: the file.
      record: JSON-able; tuples count as lists.
      growing: dotted keys whose number may be larger than what is there.
      part: the key of the record there that is compared; None for all of it.

    Returns:
      The record that is there, None where there is none.

    Raises:
      ValueError: the record there differs, with the differing keys; or it cannot be
        read.
    """
    if not path.exists():
        return None
    held = _read(path)
    compared = held if part is None else held.get(part) or {}
    differences = _differences(compared, _plain(path, record), growing)
    if differences:
        raise ValueError(
            f"{path} is of another run: {'; '.join(differences)}. Give another "
            "folder, or what is there"
        )
    return held


def _plain(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(record))
    except TypeError as error:
        raise ValueError(f"{path.name} cannot be written: {error}") from error


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step."""
    atomic.replace_file(path, (json.dumps(record, indent=2) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no JSON object")
    return held


def _differences(
    held: dict[str, Any],
    wanted: dict[str, Any],
    growing: Sequence[str],
) -> list[str]:
    before, now = _flat(held), _flat(wanted)
    found = []
    for key in sorted(before.keys() | now.keys()):
        there, here = before.get(key, "nothing"), now.get(key, "nothing")
        if there == here or key.endswith("directory"):
            continue
        numbers = all(isinstance(value, (int, float)) for value in (there, here))
        if key in growing and numbers and here > there:
            continue
        found.append(f"{key} is {there!r} there, {here!r} here")
    return found


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(record, dict) or not record:
        return {prefix: record}
    flat = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
