"""Timing that can be compared: warmed up, waited for, in turns, as medians."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import records

__all__ = [
    "Timing",
    "Work",
    "matrix_products",
    "options",
    "ratios",
    "table",
    "time_in_turns",
]


def options(
    name: str, description: str | None, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """A benchmark's command line: `--toy`, `--seed`, `--repeats`, `--directory`.

    Args:
      name: of the module in this package.
      description: for `--help`.
      arguments: None for the process's own.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.benchmarks.{name}", description=description
    )
    parser.add_argument("--toy", action="store_true", help="tiny shapes, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=records.RESULTS)
    return parser.parse_args(arguments)


class Work(NamedTuple):
    """A call and its floating-point operations, a multiply-add being two."""

    call: Callable[[], Any]
    operations: float


class Timing(NamedTuple):
    """Seconds of one call.

    Attributes:
      median: over the repeats.
      fastest: the least.
      slowest: the most.
      repeats: how many calls were timed.
    """

    median: float
    fastest: float
    slowest: float
    repeats: int


def time_in_turns(
    contenders: Mapping[str, Callable[[], Any]], *, repeats: int, warmups: int = 1
) -> dict[str, Timing]:
    """Times calls against each other, one of each per round.

    Taking turns lets a machine that slows down or is shared do so for all of them. The
    results are waited for (`jax.block_until_ready`), and the first `warmups` rounds,
    which compile, are not counted.

    Args:
      contenders: name -> a call without arguments.
      repeats: counted rounds, >= 1.
      warmups: rounds before that.

    Returns:
      name -> timing.

    Raises:
      ValueError: `repeats` below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but at least 1 is needed")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmups + repeats):
        for name, call in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= warmups:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(float(np.median(taken)), min(taken), max(taken), repeats)
        for name, taken in seconds.items()
    }


def ratios(timings: Mapping[str, Timing], *, base: str) -> dict[str, float]:
    """Median of each contender over the median of `base`: above 1 is slower than it."""
    return {name: t.median / timings[base].median for name, t in timings.items()}


def matrix_products(*, size: int) -> dict[str, Work]:
    """The product of two square float32 matrices: the yardstick of what can be had.

    Through `jnp.matmul`, and on the CPU through `np.matmul` as well.
    """
    left, right = np.random.default_rng(0).normal(size=(2, size, size))
    left, right = left.astype(np.float32), right.astype(np.float32)
    product = jax.jit(jnp.matmul)
    on_device = jnp.asarray(left), jnp.asarray(right)
    operations = 2.0 * size**3
    products = {"jnp.matmul": Work(lambda: product(*on_device), operations)}
    if jax.default_backend() == "cpu":
        products["np.matmul"] = Work(lambda: left @ right, operations)
    return products


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells as aligned text; numbers with three figures."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True))
        for line in lines
    )
