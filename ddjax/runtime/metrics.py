"""What a run measured, step by step: one JSON object a line, and TensorBoard."""

import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddjax.runtime.event_file import EventFile
from ddjax.storage import atomic

__all__ = ["METRICS_FILE", "MemoryLog", "MetricsLog", "read"]

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends rows to `workdir/metrics.jsonl` and `workdir/tensorboard`.

    A row is `{"step": int, "seconds": float, name: float, ...}`, `seconds` being the
    training time up to that step over all the processes that worked on the run. A step
    has one row. Rows are handed to the system as they are written, so that a killed
    process loses none; those later than the step it resumes from are dropped here, for
    they will be written again.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, step: int):
        """Opens the log of a run that goes on from `step` (-1: from the very start)."""
        self._path = Path(workdir) / METRICS_FILE
        _drop_later(self._path, step)
        self._file = open(self._path, "a", encoding="utf-8")
        self._board = EventFile(
            Path(workdir) / "tensorboard",
            purge_step=step + 1 if step >= 0 else None,
        )

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row; a number that is not finite becomes null."""
        plain = {name: _plain(value) for name, value in row.items()}
        self._file.write(json.dumps(plain, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in plain.items():
            if name != "step" and isinstance(value, (int, float)):
                self._board.write(name, value, plain["step"])

    def rows(self) -> list[dict[str, Any]]:
        """Every row of the run so far, in order."""
        return read(self._path)

    def close(self) -> None:
        """Closes the files, whole up to the last row."""
        self._board.close()
        self._file.close()


class MemoryLog:
    """The rows of a run that keeps nothing on disk."""

    def __init__(self) -> None:
        """Without rows."""
        self._rows: list[dict[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row; a number that is not finite becomes None."""
        self._rows.append({name: _plain(value) for name, value in row.items()})

    def rows(self) -> list[dict[str, Any]]:
        """Every row, in order."""
        return list(self._rows)

    def close(self) -> None:
        """Nothing is held back."""


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics file in order; an unfinished last line is left out.

    Raises:
      FileNotFoundError: there is none.
      ValueError: a line that is no row; the message names the line.
    """
    return list(_rows(Path(path)))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}, line {number} is not a row with a step: {row}")
        yield row


def _drop_later(path: Path, step: int) -> None:
    """Rewrites the file without the rows later than `step`, in one go."""
    atomic.sweep(path.parent, re.escape(path.name))
    if not path.exists():
        return
    kept = []
    try:
        kept.extend(row for row in _rows(path) if row["step"] <= step)
    except ValueError as error:
        warnings.warn(f"{error}; the log is cut off there", stacklevel=3)
    text = "".join(json.dumps(row) + "\n" for row in kept)
    if text.encode() != path.read_bytes():
        atomic.replace_file(path, text.encode())


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
