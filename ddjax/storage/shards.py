"""Rows of numbers on disk, written shard by shard: what is larger than memory.

Features of a data set, parameters along expert trajectories (a row each, raveled), or
moments: rows of one shape and dtype that are expensive and need not fit in memory. They
lie in one `.npy` file, in shards of consecutive rows, each with its own checksum:

    DIRECTORY/KEY/rows.npy         (rows, *shape of a row)
    DIRECTORY/KEY/manifest.json    what they are rows of; a sha256 for each shard

KEY is a digest of everything that determines the rows, so that nothing stale can be
found. A build that is killed goes on after its last finished shard; a shard that does
not hold what was written is computed again.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ddjax.storage import atomic
from ddjax.storage.lock import exclusive
from ddjax.storage.writing import CannotWrite, writing

__all__ = [
    "NotEnoughSpace",
    "ShardedRows",
    "filling",
    "progress_bar",
    "sharded_rows",
]

_MANIFEST = "manifest.json"
# Seconds between two lines of a log, and between two movements on a terminal.
_PLAIN_INTERVAL, _MOVING_INTERVAL = 15.0, 0.2


class NotEnoughSpace(CannotWrite):
    """The rows do not fit on the disk; the message has both sizes."""


class ShardedRows(NamedTuple):
    """A description of rows on disk; made by `sharded_rows`.

    Attributes:
      folder: where they lie.
      key: what they are rows of, as in the manifest.
      shape: `(rows, *shape of a row)`.
      dtype: of the numbers, little-endian.
      shard_rows: rows of a shard: what a killed build can lose.
      file: name of the file with the rows.
    """

    folder: Path
    key: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    shard_rows: int
    file: str

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, known before the first is computed."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, shard: int) -> range:
        """The rows of a shard; the last one may have fewer."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.shape[0]))

    def pending(self, *, warn: bool = True) -> list[int]:
        """Shards that are not on the disk as they were written.

        Reads and checks all that is there.

        Args:
          warn: say what was found damaged; what was never written needs no word.
        """
        checksums = self._checksums(warn)
        shards = range(-(-self.shape[0] // self.shard_rows))
        if not checksums:
            return list(shards)
        missing = []
        with open(self.folder / self.file, "rb") as file:
            for shard in shards:
                if shard in checksums and self._is_whole(file, shard, checksums[shard]):
                    continue
                missing.append(shard)
                if warn and shard in checksums:
                    rows = self.rows(shard)
                    warnings.warn(
                        f"{file.name}: rows {rows.start} to {rows.stop - 1} are not "
                        "what was written; computing them anew",
                        stacklevel=2,
                    )
        return missing

    def write(self, shard: int, values: ndarray) -> None:
        """Stores the rows of a shard; a crash leaves the shard whole or pending.

        For one process at a time: hold `ddjax.storage.exclusive(rows.folder)`.

        Args:
          shard: which.
          values: `(rows of the shard, *shape of a row)`.

        Raises:
          ValueError: values of another shape or dtype, or that are not finite.
          CannotWrite: the disk is full or read-only, or the right is missing.
        """
        rows = self.rows(shard)
        expected = (len(rows), *self.shape[1:])
        if values.shape != expected or values.dtype != self.dtype:
            raise ValueError(
                f"shard {shard} has shape {expected} and dtype {self.dtype.name}, got "
                f"{values.shape} and {values.dtype.name}"
            )
        finite = np.isfinite(values).reshape(len(rows), -1).all(axis=1)
        if not finite.all():
            row = rows.start + int(np.argmin(finite))
            raise ValueError(f"row {row} holds numbers that are not finite")
        checksums = self._checksums(warn=False)
        path = self.folder / self.file
        if not checksums:
            # The first shard of a new file; an open map of an older one stays whole.
            atomic.sweep(self.folder, rf"{re.escape(self.file)}|{_MANIFEST}")
            atomic.replace_file(path, self._header())
        data = np.ascontiguousarray(values).tobytes()
        # A map would meet a full disk with a signal instead of an error.
        with writing(path), open(path, "r+b") as file:
            file.seek(self._place(rows))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        checksums[shard] = hashlib.sha256(data).hexdigest()
        shards = {str(each): checksums[each] for each in sorted(checksums)}
        document = {"key": self.key, "shards": shards}
        atomic.replace_file(self.folder / _MANIFEST, _dumps(document))

    def open(self) -> np.memmap:
        """All rows as a read-only memory map; none may be pending."""
        return np.memmap(
            self.folder / self.file,
            self.dtype,
            mode="r",
            offset=len(self._header()),
            shape=self.shape,
        )

    def _header(self) -> bytes:
        file = io.BytesIO()
        described = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": self.shape,
        }
        np.lib.format.write_array_header_1_0(file, described)
        return file.getvalue()

    def _place(self, rows: range) -> int:
        return len(self._header()) + self._row_bytes() * rows.start

    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _is_whole(self, file: io.BufferedReader, shard: int, checksum: str) -> bool:
        rows = self.rows(shard)
        file.seek(self._place(rows))
        data = file.read(self._row_bytes() * len(rows))
        if hashlib.sha256(data).hexdigest() != checksum:
            return False
        return bool(np.isfinite(np.frombuffer(data, self.dtype)).all())

    def _checksums(self, warn: bool) -> dict[int, str]:
        """Checksum by shard; empty where there is nothing to go on from."""
        path = self.folder / _MANIFEST
        header = self._header()
        try:
            document = json.loads(path.read_bytes())
            with open(self.folder / self.file, "rb") as file:
                same = file.read(len(header)) == header
            if not same or document["key"] != self.key:
                raise ValueError("it is of other rows")
            return {int(shard): str(sum_) for shard, sum_ in document["shards"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if warn:
                warnings.warn(
                    f"{path}: {error}; computing everything anew", stacklevel=3
                )
            return {}


def sharded_rows(
    directory: str | os.PathLike[str],
    key: Mapping[str, Any],
    *,
    shape: tuple[int, ...],
    dtype: str = "float32",
    shard_rows: int = 1024,
    file: str = "rows.npy",
) -> ShardedRows:
    """Describes rows on disk; nothing is read or written.

    Args:
      directory: where such rows are kept; each has a folder of its own in it.
      key: everything that determines the rows, JSON-able; `shard_rows` is added.
      shape: `(rows, *shape of a row)`.
      dtype: a NumPy dtype of numbers.
      shard_rows: rows of a shard, at least 1.
      file: name of the file with the rows.

    Raises:
      ValueError: no rows, a shard without rows, a dtype that is not of numbers, or a
        key that is not JSON-able.
    """
    if shard_rows < 1 or not shape or min(shape) < 1:
        raise ValueError(
            f"shape={tuple(shape)}, shard_rows={shard_rows}; all are at least 1"
        )
    numbers = np.dtype(dtype).newbyteorder("<")
    if numbers.kind not in "fiub":
        raise ValueError(f"dtype={dtype!r}; rows hold floats, integers or booleans")
    try:
        # As it comes back from the manifest.
        known = json.loads(_dumps({**key, "shard_rows": shard_rows}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the key of the rows is not JSON-able: {error}") from None
    name = hashlib.sha256(_dumps(known)).hexdigest()[:32]
    return ShardedRows(
        Path(directory) / name, known, tuple(shape), numbers, shard_rows, file
    )


@contextlib.contextmanager
def filling(rows: ShardedRows) -> Iterator[list[int]]:
    """Holds the rows for this process while it computes the shards that are pending.

    ```
    with filling(rows) as pending:
        for shard in pending:
            rows.write(shard, compute(rows.rows(shard)))
    values = rows.open()
    ```

    Where nothing is pending nothing is locked, so that readers wait for nobody. Where
    another process is filling them, this one waits for it, with a warning that says who
    that is, and computes what is then still pending.

    Yields:
      The pending shards, ascending.

    Raises:
      NotEnoughSpace: what is pending does not fit on the disk.
      CannotWrite: the folder cannot be made or written.
    """
    if not rows.pending(warn=False):
        yield []
        return
    with writing(rows.folder):
        rows.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(rows.folder, wait=True):
        pending = rows.pending()
        _check_space(rows)
        yield pending


def progress_bar(
    rows: ShardedRows,
    pending: list[int],
    *,
    what: str,
    unit: str,
    units_of_row: int = 1,
    verbose: bool = True,
) -> Any:
    """A bar on stderr that says the size of the rows, the speed and the time left.

    Args:
      rows: the description.
      pending: the shards that are to be computed; without any nothing is shown.
      what: rows of what.
      unit: what is counted.
      units_of_row: how many of them a row takes.
      verbose: False shows nothing.

    Returns:
      A `tqdm` to update, a context manager.
    """
    from tqdm import tqdm

    left = sum(len(rows.rows(shard)) for shard in pending)
    return tqdm(
        desc=f"{what} ({rows.nbytes / 2**20:.1f} MiB)",
        total=rows.shape[0] * units_of_row,
        initial=(rows.shape[0] - left) * units_of_row,
        unit=f" {unit}",
        disable=not (verbose and pending),
        mininterval=_MOVING_INTERVAL if sys.stderr.isatty() else _PLAIN_INTERVAL,
    )


def _check_space(rows: ShardedRows) -> None:
    path = rows.folder / rows.file
    # Blocks, for a file may be longer than what it takes.
    there = path.stat().st_blocks * 512 if path.exists() else 0
    free = shutil.disk_usage(rows.folder).free
    if rows.nbytes - there > free:
        raise NotEnoughSpace(
            f"{path} takes {rows.nbytes / 2**20:.1f} MiB for {rows.shape[0]} rows, and "
            f"the disk has {free / 2**20:.1f} MiB left"
        )


def _dumps(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
