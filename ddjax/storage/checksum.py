"""A checksum of named arrays, to tell what was written from what is read."""

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array
from numpy import ndarray

__all__ = ["checksum"]


def checksum(arrays: Mapping[str, Array | ndarray]) -> str:
    """The sha256 (hex) over names, dtypes, shapes and bytes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
