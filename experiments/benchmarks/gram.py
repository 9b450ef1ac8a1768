"""Gram matrices and random features, as fractions of the rate of a matrix product.

    python -m experiments.benchmarks.gram [--again] [--toy]

- Rates: every case takes turns with plain square matrix products in `jnp` and `np`; the
  faster of the two is what the machine can do, and each case's floating-point rate is
  given as a fraction of it.
- Memory: the peak resident set of a fresh process that forms the Gram of n rows, block
  by block and in one piece, for growing n (`experiments/benchmarks/blocked_gram.py`).

Writes `experiments/results/benchmarks/gram.json`, which `--again` measures anew, on
your machine: a minute and a half on two cores.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddjax.kernels import random_features, ridge
from experiments import commands
from experiments.benchmarks import blocked_gram, common
from experiments.commands import Cell, Measured

__all__ = ["FULL", "TOY", "Sizes", "main", "peak", "rates"]

_OPTIONS = common.define_flags()


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      product: rows of the square matrices of the yardstick.
      grams: (rows, features) of each Gram, in feature space and in sample space.
      images: images for the random features, of the MNIST shape.
      width: units of the fully connected networks, of which there are `networks`.
      channels: of the convolutional networks, of which there is one.
      rows: the n of the memory curve.
      in_one_piece: those of them that are also formed without blocks.
    """

    product: int
    grams: tuple[tuple[int, int], ...]
    images: int
    width: int
    networks: int
    channels: int
    rows: tuple[int, ...]
    in_one_piece: tuple[int, ...]


FULL = Sizes(
    product=4096,
    grams=((16384, 2048), (2048, 16384)),
    images=1024,
    width=1024,
    networks=8,
    channels=256,
    rows=(20_000, 80_000, 320_000),
    in_one_piece=(20_000, 80_000),
)
TOY = Sizes(
    product=64,
    grams=((32, 16), (16, 32)),
    images=4,
    width=16,
    networks=2,
    channels=4,
    rows=(600,),
    in_one_piece=(600,),
)


def _feature_operations(
    architecture: random_features.Architecture, images: int, networks: int
) -> float:
    """Multiply-adds of the layers, times two; the elementwise part is not counted."""
    per_image, fan_in, side = 0, 28 * 28, 28
    if architecture.kind == "convolutional":
        fan_in = 1
    for _ in range(architecture.depth):
        positions, taps = 1, 1
        if architecture.kind == "convolutional":
            positions, taps = side * side, 9
            side = side // 2 if architecture.pooling == "average" else side
        per_image += positions * taps * fan_in * architecture.width
        fan_in = architecture.width
    return 2.0 * images * networks * per_image


def _cases(sizes: Sizes, key: Any) -> dict[str, common.Work]:
    cases = {}
    statistics = jax.jit(lambda rows, y: ridge.sufficient_statistics(rows, y).gram)
    outer = jax.jit(lambda rows: rows @ rows.T)
    for n, p in sizes.grams:
        rows = jax.random.normal(key, (n, p), jnp.float32)
        if n > p:
            name, targets = f"gram FᵀF {n} x {p}", jnp.zeros((n, 1), jnp.float32)
            call = functools.partial(statistics, rows, targets)
        else:
            name, call = f"gram FFᵀ {n} x {p}", functools.partial(outer, rows)
        cases[name] = common.Work(call, 2.0 * n * p * min(n, p))
    images = jax.random.normal(key, (sizes.images, 28, 28, 1), jnp.float32)
    for architecture, networks in (
        (random_features.fully_connected(width=sizes.width), sizes.networks),
        (random_features.convolutional(width=sizes.channels), 1),
    ):
        params = random_features.init_networks(
            key, architecture, input_shape=images.shape[1:], networks=networks
        )
        compiled = jax.jit(
            functools.partial(random_features.features, architecture=architecture)
        )
        part = images if architecture.kind == "fully_connected" else images[::4]
        name = (
            f"features {architecture.kind}, {networks} x {architecture.depth} x "
            f"{architecture.width}, {len(part)} images"
        )
        cases[name] = common.Work(
            functools.partial(compiled, params, part),
            _feature_operations(architecture, len(part), networks),
        )
    return cases


def rates(sizes: Sizes, *, seed: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds, GFLOP/s and fraction of the yardstick of every case, by name."""
    products = common.matrix_products(size=sizes.product)
    work = products | _cases(sizes, jax.random.key(seed))
    timings = common.time_in_turns(
        {name: one.call for name, one in work.items()}, repeats=repeats
    )
    rate = {name: 1e-9 * work[name].operations / timings[name].median for name in work}
    best = max(rate[name] for name in products)
    return {
        name: {
            "seconds": timings[name].median,
            "gflops_per_second": rate[name],
            "fraction": rate[name] / best,
        }
        for name in work
    }


def peak(form: str, rows: int) -> dict[str, Any]:
    """Peak memory of a fresh process that forms the Gram of so many rows."""
    return common.in_a_process(
        blocked_gram.__name__, f"--rows={rows}", f"--form={form}"
    )


def main() -> None:
    """Measures memory and rates."""
    sizes = TOY if _OPTIONS.toy.value else FULL
    seed, repeats = _OPTIONS.seed.value, _OPTIONS.repeats.value
    counts = dict.fromkeys(blocked_gram.FORMS, sizes.rows)
    counts["in_one_piece"] = sizes.in_one_piece
    memory = {
        f"memory, {form}, {n} rows": functools.partial(peak, form, n)
        for form in counts
        for n in counts[form]
    }

    def result(found: Mapping[str, Any]) -> Measured:
        peaks = [found[part] for part in memory]
        by_form = {
            form: [each["peak_mib"] for each in peaks if each["form"] == form]
            for form in counts
        }
        return Measured(
            {
                "rates": found["rates"],
                "memory": peaks,
                "peak_of_largest_n_over_smallest": {
                    form: each[-1] / each[0] for form, each in by_form.items()
                },
            },
            f"n to {max(sizes.rows)}, products of {sizes.product}, float32",
            "toy shapes" if _OPTIONS.toy.value else None,
        )

    cell = Cell(
        "benchmarks/gram",
        {"seed": seed, "repeats": repeats, "sizes": sizes},
        {
            **memory,
            "rates": functools.partial(rates, sizes, seed=seed, repeats=repeats),
        },
        result,
    )
    commands.measure([cell], tables=["gram", "blocked_gram"])


if __name__ == "__main__":
    commands.run(main)
