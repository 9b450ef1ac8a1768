"""One Gram of random features in a process of its own, to see what memory it takes.

`python -m experiments.benchmarks.blocked_gram --rows=N [--in-one-piece]` prints JSON.
The images are drawn block by block, so that nothing of size n is held but what the
computation itself holds.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.kernels import random_features, ridge
from ddjax.runtime.devices import peak_memory_mib

__all__ = ["main", "measure"]

BLOCK = 2000
WIDTH = 1024
INPUTS = 784
CLASSES = 10


def _blocks(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        draw = np.random.default_rng(start)
        labels = draw.integers(CLASSES, size=count)
        yield (
            draw.normal(size=(count, INPUTS)).astype(np.float32),
            np.eye(CLASSES, dtype=np.float32)[labels],
        )


def measure(*, rows: int, in_one_piece: bool) -> dict[str, Any]:
    """The statistics FᵀF, FᵀY of `rows` random images, and the peak memory in MiB."""
    architecture = random_features.fully_connected(depth=1, width=WIDTH)
    params = random_features.init_networks(
        jax.random.key(0), architecture, input_shape=(INPUTS,), networks=1
    )
    apply = jax.jit(
        lambda images: random_features.features(
            params, images, architecture=architecture
        )
    )
    before = peak_memory_mib()
    if in_one_piece:
        images, targets = (
            np.concatenate(part) for part in zip(*_blocks(rows), strict=True)
        )
        statistics = ridge.sufficient_statistics(
            apply(jnp.asarray(images)), jnp.asarray(targets)
        )
    else:
        statistics = ridge.streamed_statistics(
            (apply(jnp.asarray(images)), targets) for images, targets in _blocks(rows)
        )
    jax.block_until_ready(statistics)
    return {
        "rows": rows,
        "block": None if in_one_piece else BLOCK,
        "before_mib": before,
        "peak_mib": peak_memory_mib(),
        "trace": float(jnp.trace(statistics.gram)) / rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the measurement as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--in-one-piece", action="store_true")
    options = parser.parse_args(arguments)
    print(
        json.dumps(measure(rows=options.rows, in_one_piece=options.in_one_piece)),
        flush=True,
    )


if __name__ == "__main__":
    main()
