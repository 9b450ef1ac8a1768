"""Files that are whole or absent, checksums, and folders that one process holds."""

from ddjax.storage.checksum import checksum
from ddjax.storage.lock import WorkdirInUse, exclusive
from ddjax.storage.writing import CannotWrite

__all__ = ["CannotWrite", "WorkdirInUse", "checksum", "exclusive"]
