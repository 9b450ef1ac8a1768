"""The best distilled sets of a run so far: the sets, not the states they came from."""

import contextlib
import re
import shutil
from pathlib import Path

import jax
import numpy as np

from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.files import DistilledSetError, load, save

__all__ = ["BestSets", "on_host"]

_NAME = re.compile(r"step-(\d+)")


class BestSets:
    """Keeps the sets that checkpoints call the best, in a folder or in memory."""

    def __init__(self, directory: Path | None):
        """Keeps them in `directory/step-N`, or the last one in memory for None."""
        self._directory = directory
        self._kept: dict[int, DistilledSet] = {}

    def keep(self, step: int, distilled: DistilledSet) -> None:
        """Keeps the set of a step beside those that are there."""
        if self._directory is None:
            self._kept = {step: on_host(distilled)}
        else:
            save(self._path(step), distilled)

    def find(self, step: int) -> DistilledSet | None:
        """The set of a step, None where it is not there or damaged."""
        if self._directory is None:
            return self._kept.get(step)
        with contextlib.suppress(DistilledSetError):
            return load(self._path(step))
        return None

    def drop_all_but(self, steps: set[int]) -> None:
        """Removes the sets of other steps, which no checkpoint speaks of."""
        if self._directory is None or not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and int(match.group(1)) not in steps:
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, step: int) -> Path:
        assert self._directory is not None
        return self._directory / f"step-{step}"


def on_host(distilled: DistilledSet) -> DistilledSet:
    """A copy of a set: the buffers of the state it is of are given to the next step."""
    stored = jax.tree.map(lambda leaf: np.array(leaf, copy=True), distilled.stored)
    labels = distilled.labels
    labels = None if labels is None else np.array(labels, copy=True)
    return distilled._replace(stored=stored, labels=labels)
