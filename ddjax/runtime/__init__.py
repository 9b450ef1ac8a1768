"""The loop around a method: steps, checkpoints, metrics, progress, reports."""

from ddjax.runtime.chunk import compile_chunk
from ddjax.runtime.loop import (
    CHOICES,
    Diverged,
    Keys,
    TrainResult,
    run_keys,
    train,
)
from ddjax.runtime.memory import NotEnoughMemory
from ddjax.runtime.signals import Interrupted
from ddjax.storage.lock import WorkdirInUse, exclusive
from ddjax.storage.writing import CannotWrite

__all__ = [
    "CHOICES",
    "CannotWrite",
    "Diverged",
    "Interrupted",
    "Keys",
    "NotEnoughMemory",
    "TrainResult",
    "WorkdirInUse",
    "compile_chunk",
    "exclusive",
    "run_keys",
    "train",
]
