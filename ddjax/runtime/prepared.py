"""Expensive results kept on disk, so that a resumed run works with the same numbers."""

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.methods.base import Arrays, Remember
from ddjax.storage import atomic
from ddjax.storage.checksum import checksum

__all__ = ["LIMIT", "on_disk"]

LIMIT = 64 * 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*")


def on_disk(directory: str | Path, *, limit: int = LIMIT) -> Remember:
    """A `Remember` that keeps each name's arrays in `directory/name.safetensors`.

    A file is written in one step, so that a killed run leaves a whole file or none. It
    carries a checksum of its arrays; a file that does not hold what it should is
    computed anew, with a warning that names it.

    Args:
      directory: made when the first result is stored.
      limit: bytes; a larger result is computed each time (features of a whole data
        set, say, which only serve to solve what is itself kept).
    """
    folder = Path(directory)

    def remember(name: str, compute: Callable[[], Arrays]) -> Arrays:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"name {name!r} of a prepared result is not made of [A-Za-z0-9_.=-]"
            )
        path = folder / f"{name}.safetensors"
        if path.exists():
            try:
                return {k: jnp.asarray(v) for k, v in _load(path).items()}
            except ValueError as error:
                warnings.warn(f"{error}; computing it anew", stacklevel=2)
        arrays = compute()
        if sum(each.nbytes for each in arrays.values()) > limit:
            return arrays
        _save(path, {k: np.asarray(jax.device_get(v)) for k, v in arrays.items()})
        return arrays

    return remember


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.sweep(path.parent, re.escape(path.name))
    temporary = atomic.beside(path)
    # safetensors writes the memory of an array, whatever its strides.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        save_file(contiguous, temporary, metadata={"sha256": checksum(contiguous)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    atomic.sync_folder(path.parent)


def _load(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            expected = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if checksum(arrays) != expected:
        raise ValueError(f"{path} does not hold what was written: checksum differs")
    return arrays
