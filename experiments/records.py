"""One JSON record per measured result: what was run, on what, and what came out."""

import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = [
    "RESULTS",
    "SCHEMA",
    "hardware",
    "peak_memory_mib",
    "read_records",
    "versions",
    "write_record",
]

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"

_ROOT = Path(__file__).parent.parent
_IMPORTED_AT = time.perf_counter()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*")
_PACKAGES = (
    "ddjax",
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "flax",
    "optax",
    "scikit-learn",
    "lineax",
    "neural-tangents",
)
_FIELDS = frozenset(
    (
        "schema",
        "name",
        "config",
        "seed",
        "commit",
        "modified",
        "versions",
        "hardware",
        "date",
        "wall_seconds",
        "peak_memory_mib",
        "scale",
        "reduced",
        "results",
    )
)


def write_record(
    name: str,
    config: Any,
    results: Mapping[str, Any],
    *,
    scale: str,
    reduced: str | None = None,
    seed: int | None = None,
    wall_seconds: float | None = None,
    directory: str | os.PathLike[str] = RESULTS,
) -> Path:
    """Writes `directory/name.json`, replacing an older record of that name at once.

    Args:
      name: the record's path below `directory` without suffix, `[A-Za-z0-9._=-]` in
        parts separated by `/`, e.g. `dgkip/table3/mnist_ipc1_seed0`.
      config: everything that determined the run: a mapping, a `ConfigDict` or a named
        tuple of JSON-able values. NumPy and JAX arrays become lists.
      results: named results, JSON-able in the same sense; every number finite.
      scale: what was run, in words that a table can print (`12 665 images, 500 steps`).
      reduced: how the run is smaller than the protocol it follows, None when it is not.
      seed: the run's seed; by default `config["seed"]`, null when there is none.
      wall_seconds: by default the seconds since this module was imported.
      directory: the records' root.

    Returns:
      The path written.

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
    plain_config = _plain(config, "config")
    if seed is None and isinstance(plain_config, dict):
        seed = plain_config.get("seed")
    if wall_seconds is None:
        wall_seconds = time.perf_counter() - _IMPORTED_AT
    commit, modified = _commit()
    record = {
        "schema": SCHEMA,
        "name": name,
        "config": plain_config,
        "seed": seed,
        "commit": commit,
        "modified": modified,
        "versions": versions(),
        "hardware": hardware(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "scale": scale,
        "reduced": reduced,
        "results": _plain(results, "results"),
    }
    path = Path(directory) / f"{name}.json"
    _write_atomically(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


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


def versions() -> dict[str, str]:
    """Versions of python and of the packages that results depend on, if installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine as results depend on it: processor, cores, memory, jax's devices."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def peak_memory_mib() -> float:
    """Largest resident set of this process so far, in MiB.

    Linux's `VmHWM` where there is one: `ru_maxrss` of a freshly started child also
    counts the parent that it was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        match = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if match:
            return int(match.group(1)) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's own types; `where` is its place, for the error message."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(v, f"{where}.{key}") for key, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _plain(np.asarray(value).tolist(), where)
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; a record holds finite numbers only")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


def _commit() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether its tracked code differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git(
            *("status", "--porcelain", "--untracked-files=no", "--"),
            *("ddjax", "experiments/*.py", "configs"),
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changed)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if match:
            return match.group(1)
    return platform.processor() or platform.machine()


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".", suffix=".tmp", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    try:
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError:
        os.unlink(file.name)
        raise
