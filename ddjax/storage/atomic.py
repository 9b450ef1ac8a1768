"""Writing that is either done or not: never a half-written file."""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

from ddjax.storage.writing import writing

__all__ = ["beside", "replace_file", "sweep", "sync_folder"]

_LEFT_BEHIND = re.compile(r"\.(.+)\.saving-[0-9a-f]{16}")


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file in one step: a reader, or a crash, finds the old or the new one.

    Args:
      path: the file; its folder exists.
      data: what shall be in it.

    Raises:
      CannotWrite: the disk is full or read-only, or the right to write is missing.
    """
    temporary = beside(path)
    with writing(path):
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def beside(path: Path) -> Path:
    """A fresh hidden name on the same file system as `path`; `sweep` knows it."""
    return path.parent / f".{path.name}.saving-{secrets.token_hex(8)}"


def sweep(folder: Path, names: str) -> None:
    """Removes what a killed writer left: `beside` names of anything matching `names`.

    Args:
      folder: where to look.
      names: regular expression for the whole name of what was being written.
    """
    for left in os.scandir(folder):
        written = _LEFT_BEHIND.fullmatch(left.name)
        if not (written and re.fullmatch(names, written[1])):
            continue
        if left.is_dir(follow_symlinks=False):
            shutil.rmtree(left.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(left.path)
