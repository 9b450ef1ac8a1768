"""The best results of a run so far: what it leaves, not the states they came from."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax.models import trained
from ddjax.models.encoders.base import EncoderError
from ddjax.models.trained import TrainedNetwork
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.files import DistilledSetError, load, save

__all__ = ["BestResults", "RunResult", "on_host"]

RunResult = DistilledSet | TrainedNetwork
"""What a run leaves: a distilled set, or the network of a method that trains one."""

_NAME = re.compile(r"step-(\d+)(\.safetensors)?")


class BestResults:
    """Keeps the results that checkpoints call the best, in a folder or in memory."""

    def __init__(self, directory: Path | None):
        """Keeps them in `directory`, or the last one in memory for None.

        A set is the folder `step-N`, a network the file `step-N.safetensors`.
        """
        self._directory = directory
        self._kept: dict[int, RunResult] = {}

    def keep(self, step: int, result: RunResult) -> None:
        """Keeps the result of a step beside those that are there."""
        if self._directory is None:
            self._kept = {step: on_host(result)}
        elif isinstance(result, TrainedNetwork):
            trained.save(self._directory / f"step-{step}.safetensors", result)
        else:
            save(self._directory / f"step-{step}", result)

    def find(self, step: int) -> RunResult | None:
        """The result of a step, None where it is not there or damaged."""
        if self._directory is None:
            return self._kept.get(step)
        network = self._directory / f"step-{step}.safetensors"
        with contextlib.suppress(DistilledSetError, EncoderError):
            if network.exists():
                return trained.load(network)
            return load(self._directory / f"step-{step}")
        return None

    def drop_all_but(self, steps: set[int]) -> None:
        """Removes the results of other steps, which no checkpoint speaks of."""
        if self._directory is None or not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if not match or int(match.group(1)) in steps:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def on_host(result: RunResult) -> RunResult:
    """A copy of a result: the buffers of the state it is of go to the next step."""
    if isinstance(result, TrainedNetwork):
        return result._replace(variables=_copied(result.variables))
    return result._replace(stored=_copied(result.stored), labels=_copied(result.labels))


def _copied(arrays: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), arrays)
