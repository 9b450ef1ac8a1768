"""Caches of expensive results: one protocol, kept nowhere, in memory, or on disk.

Whoever computes something expensive names it and says what it depends on; whoever calls
decides where it is kept. A result is found again only for equal dependencies, so that a
stale one is never used.
"""

import hashlib
import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy import ndarray

from ddjax.storage import atomic
from ddjax.storage.checksum import checksum
from ddjax.storage.lock import exclusive
from ddjax.storage.writing import writing

__all__ = [
    "DISK_LIMIT",
    "Arrays",
    "Cache",
    "cached_tree",
    "in_memory",
    "no_cache",
    "on_disk",
]

DISK_LIMIT = 64 * 2**20
"""Results of more bytes are not kept on disk unless another limit is given."""

Arrays = dict[str, Array | ndarray]
"""Named results, on device or host."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*")


@runtime_checkable
class Cache(Protocol):
    """Keeps expensive results, or does not."""

    def __call__(
        self,
        name: str,
        depends_on: Mapping[str, Any],
        compute: Callable[[], Arrays],
    ) -> Arrays:
        """Returns the arrays kept for `name` and these dependencies, or computes them.

        Args:
          name: what it is, made of `[A-Za-z0-9_.=-]`, a letter or digit first; for
            people who look at files.
          depends_on: everything that determines the result, JSON-able. Two mappings
            are the same where their JSON is: a tuple is the list of its items, 1 and
            1.0 differ.
          compute: makes the arrays. What it returns may be on the device or the host;
            what was kept comes back with the same values and dtypes, on either.

        Raises:
          ValueError: another name, or dependencies that are not JSON-able.
        """
        ...


def no_cache(
    name: str, depends_on: Mapping[str, Any], compute: Callable[[], Arrays]
) -> Arrays:
    """A `Cache` that always computes."""
    del name, depends_on
    return compute()


def cached_tree(
    cache: Cache,
    name: str,
    depends_on: Mapping[str, Any],
    compute: Callable[[], Any],
    *,
    like: Any,
) -> Any:
    """A result that is a pytree of arrays, kept by a cache.

    Args:
      cache: where it is kept.
      name: see `Cache`, as the next two.
      depends_on: everything that determines the result.
      compute: makes it.
      like: any tree of its structure.
    """
    structure = jax.tree.structure(like)
    found = cache(
        name,
        depends_on,
        lambda: {
            str(place): leaf for place, leaf in enumerate(jax.tree.leaves(compute()))
        },
    )
    leaves = [jnp.asarray(found[str(place)]) for place in range(structure.num_leaves)]
    return jax.tree.unflatten(structure, leaves)


def in_memory(*, limit: int | None = None) -> Cache:
    """A `Cache` that keeps results in memory, for runs that share it.

    Args:
      limit: bytes; beyond it the results that were not asked for longest are dropped.
        None keeps everything.
    """
    kept: OrderedDict[str, Arrays] = OrderedDict()

    def cache(
        name: str, depends_on: Mapping[str, Any], compute: Callable[[], Arrays]
    ) -> Arrays:
        key = _key(name, depends_on)
        if key in kept:
            kept.move_to_end(key)
            return {**kept[key]}
        arrays = compute()
        if limit is None or _bytes(arrays) <= limit:
            kept[key] = {**arrays}
        while limit is not None and sum(map(_bytes, kept.values())) > limit:
            kept.popitem(last=False)
        return arrays

    return cache


def on_disk(directory: str | Path, *, limit: int = DISK_LIMIT) -> Cache:
    """A `Cache` in `directory/NAME-KEY.safetensors`, KEY a digest of the dependencies.

    A file is written in one step, so that a killed run leaves a whole file or none. It
    carries a checksum of its arrays; a file that does not hold what was written is
    computed anew, with a warning that names it.

    Args:
      directory: made when the first result is stored.
      limit: bytes; a larger result is computed each time (features of a whole data
        set, say, which only serve to solve what is itself kept).
    """
    folder = Path(directory)

    def cache(
        name: str, depends_on: Mapping[str, Any], compute: Callable[[], Arrays]
    ) -> Arrays:
        path = folder / f"{_key(name, depends_on)}.safetensors"
        if path.exists():
            try:
                return {**_load(path)}
            except ValueError as error:
                warnings.warn(f"{error}; computing it anew", stacklevel=2)
        arrays = compute()
        if _bytes(arrays) > limit:
            return arrays
        _save(path, {k: np.asarray(jax.device_get(v)) for k, v in arrays.items()})
        return arrays

    return cache


def _key(name: str, depends_on: Mapping[str, Any]) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r} of a result is not made of [A-Za-z0-9_.=-]")
    try:
        text = json.dumps(depends_on, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"what {name!r} depends on is not JSON-able: {error}"
        ) from None
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _bytes(arrays: Mapping[str, Any]) -> int:
    return sum(each.nbytes for each in arrays.values())


def _save(path: Path, arrays: Mapping[str, ndarray]) -> None:
    from safetensors.numpy import save_file

    # safetensors writes the memory of an array, whatever its strides.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    described = {"sha256": checksum(contiguous)}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever shares the folder would sweep away what is being written here.
        with exclusive(path.parent, wait=True):
            atomic.sweep(path.parent, re.escape(path.name))
            temporary = atomic.beside(path)
            try:
                save_file(contiguous, temporary, metadata=described)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            atomic.sync_folder(path.parent)


def _load(path: Path) -> dict[str, ndarray]:
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
