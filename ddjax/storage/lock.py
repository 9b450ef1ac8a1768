"""One process at a time in a folder: of a run, or of what runs share."""

import contextlib
import fcntl
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from ddjax.storage.writing import writing

__all__ = ["LOCK_FILE", "WorkdirInUse", "exclusive"]

LOCK_FILE = ".lock"


class WorkdirInUse(Exception):
    """Another process is working in the folder."""


class _Held(threading.local):
    """How often this thread holds a folder, by (process id, folder).

    With the process id, because a fork inherits the counts but not the right to them.
    """

    def __init__(self) -> None:
        self.times: dict[tuple[int, Path], int] = {}


_HELD = _Held()


@contextlib.contextmanager
def exclusive(workdir: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Holds `workdir` for this process alone while the block runs.

    Blocks of one thread may be nested: the folder is free again when the outermost one
    ends. Another thread of the process is refused as another process is.

    The lock belongs to the open file, so the system frees it when the process ends in
    whatever way: a file that a killed process left behind blocks nobody. The file says
    who holds it and is never removed (removing it would let two processes hold locks on
    two files of one name).

    Args:
      workdir: an existing folder on a file system with working `flock` (every local
        one; NFS between the hosts that mount it with locking).
      wait: while somebody else holds it, wait, with a warning that says for whom.

    Raises:
      WorkdirInUse: somebody else holds it; the message says who.
      CannotWrite: the file cannot be made.
      OSError: the file system has no locks.
    """
    held = os.getpid(), Path(workdir).resolve()
    with contextlib.ExitStack() as stack:
        if not _HELD.times.get(held):
            path = held[1] / LOCK_FILE
            with writing(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, descriptor)
                _take(descriptor, workdir, wait)
        _HELD.times[held] = _HELD.times.get(held, 0) + 1
        try:
            yield
        finally:
            _HELD.times[held] -= 1
            if not _HELD.times[held]:
                del _HELD.times[held]


def _take(descriptor: int, workdir: str | os.PathLike[str], wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
        in_use = f"{workdir} is in use by {holder or 'another process'}"
        if not wait:
            raise WorkdirInUse(in_use) from None
        # The caller of `exclusive`, through its context manager.
        warnings.warn(f"{in_use}; waiting for it to finish", stacklevel=4)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)
