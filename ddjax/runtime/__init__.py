"""The loop around a method: steps, checkpoints, metrics, reports, runs compared."""

from ddjax.runtime.comparison import table_of_runs
from ddjax.runtime.loop import (
    Diverged,
    Keys,
    TrainResult,
    memory_of_steps,
    run_keys,
    train,
)
from ddjax.runtime.memory import NotEnoughMemory, StepMemory
from ddjax.runtime.outcome import Outcome, report
from ddjax.runtime.runs import sweep, train_and_report
from ddjax.runtime.signals import Interrupted
from ddjax.storage.lock import WorkdirInUse, exclusive
from ddjax.storage.writing import CannotWrite

__all__ = [
    "CannotWrite",
    "Diverged",
    "Interrupted",
    "Keys",
    "NotEnoughMemory",
    "Outcome",
    "StepMemory",
    "TrainResult",
    "WorkdirInUse",
    "exclusive",
    "memory_of_steps",
    "report",
    "run_keys",
    "sweep",
    "table_of_runs",
    "train",
    "train_and_report",
]
