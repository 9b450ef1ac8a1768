"""Runs that do not fit in memory: one line that says how much is asked for."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from ddjax.runtime.chunk import Chunk

__all__ = [
    "NotEnoughMemory",
    "StepMemory",
    "enough_memory",
    "free_memory",
    "in_units",
    "refuse_too_large",
    "step_memory",
]

_REMEDY = (
    "Lower the networks' width or number (features), the distilled samples a class, "
    "or the batch and block sizes"
)


class NotEnoughMemory(MemoryError):
    """The run does not fit; the message says how much it asks for and what to lower."""


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Turns what NumPy and XLA raise for want of memory into a `NotEnoughMemory`."""
    try:
        yield
    except NotEnoughMemory:
        raise
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = str(error)
        told = ("RESOURCE_EXHAUSTED", "Out of memory")
        if not isinstance(error, MemoryError) and not any(w in text for w in told):
            raise
        asked = re.search(r"([\d,]+)\s*bytes|([\d.]+)\s*([KMGTPE]iB)", text)
        what = "more than there is"
        if asked and asked[1]:
            what = in_units(int(asked[1].replace(",", "")))
        elif asked:
            what = f"{asked[2]} {asked[3]}"
        raise NotEnoughMemory(_message(f"one array takes {what}")) from error


class StepMemory(NamedTuple):
    """What compiled steps need, in bytes.

    Attributes:
      arguments: the state and the data that steps look at, there before the first one.
      needed: besides these: intermediate values, and results that take no argument's
        place.
      free: what is free where they would run, the arguments being there; None where
        that is not known.
    """

    arguments: int
    needed: int
    free: int | None

    @property
    def fits(self) -> bool:
        """Whether as much is free as is needed, as far as that is known."""
        return self.free is None or self.needed <= self.free


def step_memory(chunk: Chunk) -> StepMemory | None:
    """What the compiled steps need, None where the compiler does not say."""
    analysis = chunk.run.memory_analysis()
    if analysis is None:
        return None
    results = max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
    return StepMemory(
        arguments=analysis.argument_size_in_bytes,
        needed=analysis.temp_size_in_bytes + results,
        free=free_memory(),
    )


def refuse_too_large(memory: StepMemory | None) -> None:
    """Refuses steps that would not fit, as far as is known, before the first one.

    Raises:
      NotEnoughMemory: they need more besides their arguments than is free.
    """
    if memory is not None and not memory.fits:
        raise NotEnoughMemory(_message(f"a step takes {in_units(memory.needed)}"))


def free_memory() -> int | None:
    """Bytes that are free where jax computes, None where that is not known."""
    device = jax.devices()[0]
    counted = device.memory_stats() or {}
    if "bytes_limit" in counted:
        return counted["bytes_limit"] - counted.get("bytes_in_use", 0)
    found = None
    if device.platform == "cpu" and Path("/proc/meminfo").exists():
        text = Path("/proc/meminfo").read_text()
        found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 2**10 if found else None


def _message(what: str) -> str:
    free = free_memory()
    beside = "" if free is None else f", {in_units(free)} are free"
    return f"the run does not fit in memory: {what}{beside}. {_REMEDY}"


def in_units(count: int) -> str:
    """A number of bytes in words: `1.5 GiB`."""
    unit, name = (2**30, "GiB") if count >= 2**28 else (2**20, "MiB")
    return f"{count / unit:,.1f} {name}"
