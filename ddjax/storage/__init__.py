"""Files that are whole or absent, checksums, and folders that one process holds."""

from ddjax.storage.checksum import checksum
from ddjax.storage.lock import WorkdirInUse, exclusive

__all__ = ["WorkdirInUse", "checksum", "exclusive"]
