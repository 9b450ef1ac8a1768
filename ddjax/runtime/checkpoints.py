"""Checkpoints of a run: written aside, checked when read, the newest whole one wins."""

import json
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy import ndarray

from ddjax.storage.checksum import checksum
from ddjax.storage.writing import CannotWrite, full_or_read_only, writing

__all__ = ["Checkpoint", "CheckpointStore"]

# What Orbax and the file system need besides the numbers.
_BESIDES_BYTES = 2**20


class Checkpoint(NamedTuple):
    """What was restored.

    Attributes:
      step: the step it was saved at.
      tree: the arrays, in the structure asked for.
      facts: the JSON-able facts saved with them.
      path: its folder.
    """

    step: int
    tree: PyTree[Array]
    facts: dict[str, Any]
    path: Path


class CheckpointStore:
    """The last few checkpoints of one folder, through Orbax.

    `save` copies the arrays and returns; a thread writes them into a folder of another
    name, which is renamed when it is whole. Each checkpoint carries a checksum over its
    arrays and facts, and is read back whole or not at all.

    A disk that is full or read-only is a `CannotWrite` of whichever method meets it:
    what the thread could not write is said by the next one that is called.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int):
        """Opens `directory` (made if absent), keeping the newest `keep` checkpoints."""
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.directory = Path(directory).absolute()
        for name in ("absl", "asyncio"):
            logging.getLogger(name).addFilter(_not_raised_as_well)
        with writing(self.directory):
            self._manager = ocp.CheckpointManager(
                self.directory,
                item_names=("arrays", "facts"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    enable_async_checkpointing=True,
                    cleanup_tmp_directories=True,
                ),
            )

    def steps(self) -> list[int]:
        """The steps there is a checkpoint of, in order."""
        return sorted(self._manager.all_steps())

    def latest(self) -> Path | None:
        """The folder of the newest checkpoint, None when there is none."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def save(self, step: int, tree: PyTree[Array], facts: dict[str, Any]) -> None:
        """Saves `tree` and `facts` as `step`, in place of what stood there.

        The arrays are copied before this returns, so that their buffers may be donated
        to the next step.

        Raises:
          CannotWrite: the disk has no room for it, or an earlier one was not written.
        """
        arrays = _flatten(tree)
        facts = {"step": step, **facts}
        self._check_space(arrays)
        with writing(self.directory):
            self._save(step, arrays, facts)

    def _check_space(self, arrays: dict[str, ndarray]) -> None:
        """Before Orbax, which meets a full disk in many threads at once."""
        needed = sum(array.nbytes for array in arrays.values()) + _BESIDES_BYTES
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise CannotWrite(
                f"{self.directory} cannot be written: a checkpoint takes up to "
                f"{needed / 2**20:.1f} MiB, and the disk has {free / 2**20:.1f} MiB "
                "left"
            )

    def _save(
        self, step: int, arrays: dict[str, ndarray], facts: dict[str, Any]
    ) -> None:
        if step in self._manager.all_steps():
            self._manager.delete(step)
        self._manager.save(
            step,
            force=True,
            args=self._ocp.args.Composite(
                # Orbax refuses arrays without elements: their shapes are kept apart.
                arrays=self._ocp.args.StandardSave(
                    {name: array for name, array in arrays.items() if array.size}
                ),
                facts=self._ocp.args.JsonSave(
                    {
                        "facts": facts,
                        "empty": {
                            name: [array.dtype.name, list(array.shape)]
                            for name, array in arrays.items()
                            if not array.size
                        },
                        "checksum": _sum(arrays, facts),
                    }
                ),
            ),
        )

    def restore(self, like: PyTree[Array]) -> Checkpoint | None:
        """The newest whole checkpoint, None when there is none.

        A damaged one is moved to the folder `damaged` beside the store, with a warning
        that names it, and the one before is tried.

        Args:
          like: a tree of the structure, shapes and dtypes that were saved.

        Raises:
          ValueError: a whole checkpoint holds other arrays than `like`: it belongs to
            another method or to other code.
        """
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                arrays, facts = self._read(step)
            # Orbax and TensorStore raise whatever they trip over in a damaged file.
            except Exception as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                self._set_aside(step, reason)
                continue
            tree = _unflatten(arrays, like, path)
            return Checkpoint(step, tree, facts, path)
        return None

    def wait(self) -> None:
        """Waits until everything saved is on the disk."""
        with writing(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, and ends the store's threads."""
        try:
            self.wait()
        finally:
            with writing(self.directory):
                self._manager.close()

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _read(self, step: int) -> tuple[dict[str, ndarray], dict[str, Any]]:
        read = self._manager.restore(
            step,
            args=self._ocp.args.Composite(
                arrays=self._ocp.args.StandardRestore(),
                facts=self._ocp.args.JsonRestore(),
            ),
        )
        arrays, document = dict(read["arrays"]), read["facts"]
        for name, (dtype, shape) in document["empty"].items():
            arrays[name] = np.zeros(shape, dtype)
        if _sum(arrays, document["facts"]) != document["checksum"]:
            raise ValueError("its content has another checksum than was saved")
        return arrays, document["facts"]

    def _set_aside(self, step: int, reason: str) -> None:
        path, damaged = self._path(step), self.directory.parent / "damaged"
        target = damaged / f"{self.directory.name}-{step}"
        with writing(damaged):
            damaged.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(path, target)
        self._manager.reload()
        warnings.warn(
            f"checkpoint {path} is damaged ({reason}); moved to {target}, going on "
            "without it",
            stacklevel=3,
        )


def _not_raised_as_well(record: logging.LogRecord) -> bool:
    """A filter: Orbax's threads log, with tracebacks, what is raised later anyway."""
    error = record.exc_info[1] if record.exc_info else None
    return full_or_read_only(error) is None


def _flatten(tree: PyTree) -> dict[str, ndarray]:
    """Copies of the leaves by their path; random keys as the numbers they are."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _to_host(leaf) for path, leaf in leaves}


def _to_host(leaf: Array) -> ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    # A copy: on a CPU the array that device_get returns is the device's own memory.
    return np.array(jax.device_get(leaf), order="C")


def _unflatten(arrays: dict[str, ndarray], like: PyTree[Array], path: Path) -> Any:
    wanted = _flatten(like)

    def describe(named: dict[str, ndarray]) -> dict[str, str]:
        return {name: f"{a.dtype.name}{list(a.shape)}" for name, a in named.items()}

    held, asked = describe(arrays), describe(wanted)
    if held != asked:
        differing = sorted({name for name, _ in held.items() ^ asked.items()})
        listed = "; ".join(
            f"{name} is {held.get(name, 'absent')}, not {asked.get(name, 'absent')}"
            for name in differing[:4]
        )
        raise ValueError(f"checkpoint {path} does not fit this run's state: {listed}")
    leaves, structure = jax.tree_util.tree_flatten(like)
    named = zip(wanted, leaves, strict=True)
    restored = [_to_device(arrays[name], leaf) for name, leaf in named]
    return jax.tree_util.tree_unflatten(structure, restored)


def _to_device(array: ndarray, like: Array) -> Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.asarray(array), impl=jax.random.key_impl(like)
        )
    # A copy for the same reason: the device may otherwise keep NumPy's own memory.
    return jnp.array(array, copy=True)


def _sum(arrays: dict[str, ndarray], facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True).encode()
    return checksum({**arrays, "facts": np.frombuffer(text, np.uint8)})
