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
from ddjax.runtime.signals import Interrupted
from ddjax.storage.lock import WorkdirInUse, exclusive

__all__ = [
    "CHOICES",
    "Diverged",
    "Interrupted",
    "Keys",
    "TrainResult",
    "WorkdirInUse",
    "compile_chunk",
    "exclusive",
    "run_keys",
    "train",
]
