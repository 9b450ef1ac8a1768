"""TensorBoard's event files, written where they are asked for.

tensorboardX's own writer does it in a thread, which a full disk stops with a traceback.
"""

import socket
import struct
import time
from pathlib import Path
from typing import Any

__all__ = ["EventFile"]


class EventFile:
    """Scalars by step, each event on its way to the disk when `write` returns."""

    def __init__(self, folder: Path, *, purge_step: int | None = None):
        """Begins a file in `folder` (made if absent).

        What earlier files say of `purge_step` and later ones is void.
        """
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._file = open(folder / name, "ab", buffering=0)
        # Their classes are made when they are imported.
        events: Any = event_pb2
        summaries: Any = summary_pb2
        self._event, self._summary = events.Event, summaries.Summary
        self._append(file_version="brain.Event:2")
        if purge_step is not None:
            start = events.SessionLog(status=events.SessionLog.START)
            self._append(step=purge_step, session_log=start)

    def write(self, name: str, value: int | float, step: int) -> None:
        """Appends one scalar."""
        scalar = self._summary.Value(tag=name, simple_value=value)
        self._append(step=step, summary=self._summary(value=[scalar]))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, **content: object) -> None:
        from tensorboardX.record_writer import masked_crc32c

        data = self._event(wall_time=time.time(), **content).SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = (struct.pack("<I", masked_crc32c(each)) for each in (length, data))
        record = length + next(sums) + data + next(sums)
        while record:
            record = record[self._file.write(record) :]
