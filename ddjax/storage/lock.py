"""One process at a time in a run's folder."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_FILE", "WorkdirInUse", "exclusive"]

LOCK_FILE = ".lock"


class WorkdirInUse(Exception):
    """Another process is working in the folder."""


@contextlib.contextmanager
def exclusive(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Holds `workdir` for this process alone while the block runs.

    The lock belongs to the open file, so the system frees it when the process ends in
    whatever way: a file that a killed process left behind blocks nobody. The file says
    who holds it and is never removed (removing it would let two processes hold locks on
    two files of one name).

    Args:
      workdir: an existing folder on a file system with working `flock` (every local
        one; NFS between the hosts that mount it with locking).

    Raises:
      WorkdirInUse: somebody holds it; the message says who.
      OSError: the file cannot be made, or the file system has no locks.
    """
    path = Path(workdir) / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            raise WorkdirInUse(
                f"{workdir} is in use by {holder or 'another process'}"
            ) from None
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)
