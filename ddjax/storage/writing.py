"""Disks that take nothing more: what libraries then raise, as one error of one line."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CannotWrite", "full_or_read_only", "writing"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# Reading can be refused for these, too: only of files that are to be written.
_RIGHTS = (errno.EACCES, errno.EPERM)


class CannotWrite(OSError):
    """A full or read-only disk, or a missing right; the message says where and why."""


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names what could not be written, whoever tried in the block.

    Args:
      path: the file or folder that the block writes (in).

    Raises:
      CannotWrite: in place of what was raised because of a full or read-only disk, or
        of a missing right below `path`.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        reason = full_or_read_only(error) or _refused(error, Path(path))
        if reason is None:
            raise
        raise CannotWrite(f"{path} cannot be written: {reason}") from error


def full_or_read_only(error: BaseException | None) -> str | None:
    """What is wrong with the disk if that is behind an error, None otherwise.

    Libraries that write in other languages (safetensors, TensorStore) raise errors of
    their own, which hold the system's words.
    """
    known = [os.strerror(number) for number in _DISK]
    for each in _chain(error):
        if isinstance(each, CannotWrite):
            return str(each)
        for words in known:
            if words in str(each):
                return words
    return None


def _refused(error: BaseException, path: Path) -> str | None:
    whole = path.absolute()
    for each in _chain(error):
        if not (isinstance(each, OSError) and each.errno in _RIGHTS):
            continue
        for name in (each.filename, each.filename2):
            named = Path(str(name)).absolute()
            above, below = named in whole.parents, whole in named.parents
            # What is written in one step is written beside its place first.
            if name and (above or below or named.parent == whole.parent):
                return os.strerror(each.errno)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
