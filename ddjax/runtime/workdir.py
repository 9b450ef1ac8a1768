"""A run's folder belongs to one configuration: what is written in it must agree."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddjax.storage import atomic
from ddjax.storage.writing import writing

__all__ = [
    "RUN_FILE",
    "flat",
    "open_workdir",
    "refuse_another",
    "write_json",
]

RUN_FILE = "run.json"
"""What a run is: its folder holds this file from the first step on."""

# Differences that an error lists.
_LISTED = 4


def open_workdir(workdir: str | os.PathLike[str]) -> Path:
    """Makes the folder, or takes one that is empty or a run's.

    Raises:
      ValueError: the path is no folder, or a folder of something else.
      CannotWrite: it cannot be made.
    """
    path = Path(workdir).absolute()
    for each in (path, *path.parents):
        if each.exists() and not each.is_dir():
            raise ValueError(f"{each} is a file; a run needs a folder")
    with writing(path):
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


def refuse_another(
    path: Path,
    record: Mapping[str, Any],
    *,
    growing: Sequence[str] = (),
    free: Callable[[str], bool] = lambda key: False,
    part: str | None = None,
) -> dict[str, Any] | None:
    """Compares a JSON record with the one that is there, and writes nothing.

    Where things lie on this machine, keys that end in `directory`, may differ.

    Args:
      path: the file.
      record: JSON-able; tuples count as lists.
      growing: dotted keys whose number may be larger than what is there.
      free: says of a dotted key that it may differ.
      part: the key of the record there that is compared; None for all of it.

    Returns:
      The record that is there, None where there is none.

    Raises:
      ValueError: the record there differs, with the differing keys; or it cannot be
        read; or `record` is not JSON-able.
    """
    try:
        wanted = json.loads(json.dumps(record))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be written: {error}") from error
    if not path.exists():
        return None
    held = _read(path)
    compared = held if part is None else held.get(part) or {}
    found = _differences(compared, wanted, growing, free)
    if found:
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise ValueError(
            f"{path} is of another run: {'; '.join(found[:_LISTED])}{more}. Give "
            "another folder, or what is there"
        )
    return held


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file in one step."""
    atomic.replace_file(path, (json.dumps(record, indent=2) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read: {error}. It says what the run in this folder is; "
            "without it the run cannot go on: give a new folder"
        ) from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no JSON object; give a new folder")
    return held


def _differences(
    held: dict[str, Any],
    wanted: dict[str, Any],
    growing: Sequence[str],
    free: Callable[[str], bool],
) -> list[str]:
    before, now = flat(held), flat(wanted)
    found = []
    for key in sorted(before.keys() | now.keys()):
        there, here = before.get(key, "nothing"), now.get(key, "nothing")
        if there == here or key.endswith("directory") or free(key):
            continue
        numbers = all(isinstance(value, (int, float)) for value in (there, here))
        if key in growing and numbers and here > there:
            continue
        found.append(f"{key} is {there!r} there, {here!r} here")
    return found


def flat(record: Any, prefix: str = "") -> dict[str, Any]:
    """A nested JSON record as dotted keys and their values."""
    if isinstance(record, list) and any(isinstance(each, dict) for each in record):
        record = {str(index): each for index, each in enumerate(record)}
    if not isinstance(record, dict) or not record:
        return {prefix: record}
    found = {}
    for key, value in record.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found
