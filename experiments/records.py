"""One JSON record per measured result: what was run, on what, and what came out."""

import json
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax.runtime.devices import commit, hardware, peak_memory_mib, versions
from ddjax.storage.atomic import replace_file

__all__ = ["RESULTS", "SCHEMA", "on_record", "plain", "read_records", "write_record"]

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*")
_FIELDS = {"schema", "name", "config", "seed", "commit", "modified", "versions"}
_FIELDS |= {"hardware", "date", "wall_seconds", "peak_memory_mib"}
_FIELDS |= {"scale", "reduced", "results"}


def write_record(
    name: str,
    config: Any,
    results: Mapping[str, Any],
    *,
    scale: str,
    wall_seconds: float,
    reduced: str | None = None,
    directory: str | os.PathLike[str] = RESULTS,
) -> Path:
    """Writes `directory/name.json`, replacing an older record of that name at once.

    Args:
      name: the record's path below `directory` without suffix, `[A-Za-z0-9._=-]` in
        parts separated by `/`, e.g. `dgkip/table3/mnist_ipc1_seed0`.
      config: everything that determined the run: a mapping, a `ConfigDict` or a named
        tuple of JSON-able values, `seed` among them where there is one. NumPy and JAX
        arrays become lists.
      results: named results, JSON-able in the same sense; every number finite.
      scale: what was run, in words that a table can print (`12 665 images, 500 steps`).
      wall_seconds: what it took.
      reduced: how the run is smaller than the protocol it follows, None when it is not.
      directory: the records' root.

    Raises:
      ValueError: a bad name, an empty scale, a number that is not finite, or a value
        that JSON cannot hold; the message names it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"record name {name!r} is not made of parts [A-Za-z0-9._=-] joined by '/'"
        )
    if not scale:
        raise ValueError(f"record {name!r} needs a scale in words, got {scale!r}")
    plain_config = plain(config, "config")
    at_commit, modified = commit("ddjax", "experiments/*.py", "configs")
    record = {
        "schema": SCHEMA,
        "name": name,
        "config": plain_config,
        "seed": plain_config.get("seed"),
        "commit": at_commit,
        "modified": modified,
        "versions": versions(),
        "hardware": hardware(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "scale": scale,
        "reduced": reduced,
        "results": plain(results, "results"),
    }
    path = Path(directory) / f"{name}.json"
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode("utf-8"))
    return path


def on_record(name: str, *, directory: str | os.PathLike[str] = RESULTS) -> bool:
    """Whether there is a record of that name, see `write_record`."""
    return (Path(directory) / f"{name}.json").exists()


def read_records(directory: str | os.PathLike[str] = RESULTS) -> list[dict[str, Any]]:
    """All records below `directory`, ordered by path.

    Raises:
      FileNotFoundError: `directory` is no folder.
      ValueError: a file that is no record of this schema; the message names the file.
    """
    root = Path(directory)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of records at {root}")
    records = []
    for path in sorted(root.rglob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            found = record.get("schema") if isinstance(record, dict) else record
            raise ValueError(f"{path} has schema {found!r}, expected {SCHEMA}")
        missing = sorted(_FIELDS - record.keys())
        if missing:
            raise ValueError(f"{path} lacks the fields {', '.join(missing)}")
        records.append(record)
    return records


def plain(value: Any, where: str) -> Any:
    """A value in JSON's own types.

    Args:
      value: mappings, sequences, named tuples, `ConfigDict`s, arrays, numbers, paths.
      where: its place in the record, for the error message.

    Raises:
      ValueError: a number that is not finite, or what JSON cannot hold.
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(v, f"{where}.{key}") for key, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(np.asarray(value).tolist(), where)
    if isinstance(value, (list, tuple)):
        return [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; a record holds finite numbers only")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold")
