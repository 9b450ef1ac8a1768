"""One Gram of random features in a process of its own, to see what memory it takes.

    python -m experiments.benchmarks.blocked_gram --rows=N --form=FORM

prints one line of JSON in seconds and writes nothing; `experiments.benchmarks.gram`
calls it. Inputs are drawn when a block of them is asked for and results are given away
block by block, as files would do it, so that nothing of size n is held but what the
computation holds.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ddjax.kernels import blocks, random_features, ridge
from ddjax.runtime.devices import peak_memory_mib

__all__ = ["BLOCK", "FORMS", "main", "measure"]

BLOCK = 2000
WIDTH = 1024
INPUTS = 784
COLUMNS = 1000
CLASSES = 10


class _Drawn:
    """Random inputs `(rows, 784)` that exist only while they are looked at."""

    ndim = 2

    def __init__(self, rows: int) -> None:
        self.shape = (rows, INPUTS)

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.shape[0])
        draw = np.random.default_rng(start)
        return draw.standard_normal((stop - start, INPUTS), np.float32)

    def targets(self, part: slice) -> np.ndarray:
        """One-hot labels of the same rows."""
        start, stop, _ = part.indices(self.shape[0])
        return np.eye(CLASSES, dtype=np.float32)[np.arange(start, stop) % CLASSES]


class _Summed:
    """Takes the blocks of a matrix and keeps their sum."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.total = shape, 0.0

    def __setitem__(self, place: Any, values: np.ndarray) -> None:
        self.total += float(values.sum(dtype=np.float64))


def _statistics(inputs: _Drawn, features: Callable[[Array], Array]) -> float:
    def blocks():
        for start in range(0, inputs.shape[0], BLOCK):
            part = slice(start, start + BLOCK)
            yield features(jnp.asarray(inputs[part])), inputs.targets(part)

    statistics = ridge.streamed_statistics(blocks())
    return float(jnp.trace(statistics.gram))


def _in_one_piece(inputs: _Drawn, features: Callable[[Array], Array]) -> float:
    rows = inputs.shape[0]
    parts = [slice(start, start + BLOCK) for start in range(0, rows, BLOCK)]
    images = jnp.asarray(np.concatenate([inputs[part] for part in parts]))
    targets = jnp.asarray(np.concatenate([inputs.targets(part) for part in parts]))
    statistics = ridge.sufficient_statistics(features(images), targets)
    return float(jnp.trace(statistics.gram))


def _kernel(inputs: _Drawn, features: Callable[[Array], Array]) -> float:
    out: Any = _Summed((inputs.shape[0], COLUMNS))
    rows: Any = inputs
    columns = _Drawn(COLUMNS)[:]
    blocks.feature_gram_in_blocks(features, rows, columns, block=BLOCK, out=out)
    return out.total


FORMS = {"statistics": _statistics, "kernel": _kernel, "in_one_piece": _in_one_piece}


def measure(*, rows: int, form: str) -> dict[str, Any]:
    """Forms a Gram of `rows` inputs and reads the peak memory in MiB.

    Args:
      rows: the n.
      form: `statistics`: FᵀF (1024 x 1024) and FᵀY, streamed; `in_one_piece`: the same
        from all features at once; `kernel`: n x 1000 values of the features' kernel.

    Returns:
      The peak, what of it was there before, and a checksum.
    """
    architecture = random_features.fully_connected(depth=1, width=WIDTH)
    params = random_features.init_networks(
        jax.random.key(0), architecture, input_shape=(INPUTS,), networks=1
    )
    features = jax.jit(
        lambda x: random_features.features(params, x, architecture=architecture)
    )
    before = peak_memory_mib()
    checksum = FORMS[form](_Drawn(rows), features)
    return {
        "rows": rows,
        "form": form,
        "block": None if form == "in_one_piece" else BLOCK,
        "before_mib": before,
        "peak_mib": peak_memory_mib(),
        "checksum": checksum,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the measurement as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.blocked_gram", description=__doc__
    )
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--form", choices=FORMS, required=True)
    options = parser.parse_args(arguments)
    print(json.dumps(measure(rows=options.rows, form=options.form)), flush=True)


if __name__ == "__main__":
    main()
