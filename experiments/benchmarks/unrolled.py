r"""An outer step of distilled regression, against inner steps T and real rows n.

    python -m experiments.benchmarks.unrolled [--again] [--toy]

The step is what a run repeats: from distilled inputs and targets, T steps of gradient
descent from each of Q initial weights, the squared loss of the result on the real data,
its gradient in inputs and targets, and an update.

- Inner steps: the three forms of `unrolled.iterate` take turns, for Q = 1 over all T
  and for the paper's Q = 30 over some. The unrolled scan is compiled for each T; the
  other two are compiled once and take T as an argument.
- Real rows: the loss through the sufficient statistics, which are streamed once from
  rows that are drawn block by block, and for comparison from the rows themselves as
  long as these fit in memory.

Writes `experiments/results/benchmarks/unrolled.json`, which `--again` measures anew, on
your machine: a minute on two cores.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax.kernels import ridge, unrolled
from experiments import commands
from experiments.benchmarks import common
from experiments.commands import Cell, Measured

__all__ = ["FULL", "TOY", "Sizes", "against_rows", "against_steps", "main"]

_OPTIONS = common.define_flags()
FORMS = ("scan", "doubling", "spectral")
RIDGE = 1e-3


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      samples: m.
      inputs: d.
      steps: the T of the curve with one draw of initial weights.
      draws: Q of the second curve.
      steps_with_draws: its T.
      rows: the n of the curve through statistics.
      rows_in_memory: the n of the curve from the rows themselves.
      block: rows drawn at once.
      inner: T in the curves over n.
    """

    samples: int
    inputs: int
    steps: tuple[int, ...]
    draws: int
    steps_with_draws: tuple[int, ...]
    rows: tuple[int, ...]
    rows_in_memory: tuple[int, ...]
    block: int
    inner: int


FULL = Sizes(
    samples=100,
    inputs=100,
    steps=(10, 100, 1000, 10_000, 100_000),
    draws=30,
    steps_with_draws=(100, 1000, 10_000),
    rows=(1000, 10_000, 100_000, 1_000_000, 10_000_000),
    rows_in_memory=(1000, 10_000, 100_000, 1_000_000),
    block=100_000,
    inner=1000,
)
TOY = Sizes(
    samples=4,
    inputs=6,
    steps=(3, 10),
    draws=2,
    steps_with_draws=(3,),
    rows=(50, 120),
    rows_in_memory=(50,),
    block=40,
    inner=5,
)


class _Set(NamedTuple):
    inputs: Array
    targets: Array


@functools.partial(jax.jit, static_argnames=("rows", "inputs"))
def _block(key: PRNGKeyArray, *, rows: int, inputs: int) -> tuple[Array, Array]:
    """Rows of a linear problem with noise, the same for the same key."""
    weights = jnp.cos(jnp.arange(inputs, dtype=jnp.float32))
    row_key, noise_key = jax.random.split(key)
    x = jax.random.normal(row_key, (rows, inputs), jnp.float32)
    return x, x @ weights + 0.1 * jax.random.normal(noise_key, (rows,), jnp.float32)


def _blocks(
    key: PRNGKeyArray, count: int, sizes: Sizes
) -> Iterator[tuple[Array, Array]]:
    for start in range(0, count, sizes.block):
        rows = min(sizes.block, count - start)
        yield _block(jax.random.fold_in(key, start), rows=rows, inputs=sizes.inputs)


def _outer_step(
    distilled: _Set,
    starts: Array,
    data: Any,
    step_size: Array,
    steps: Any,
    *,
    form: unrolled.Form,
    loss: Callable[[Array, Any], Array],
) -> tuple[_Set, Array]:
    """One update by the gradient of the mean loss over the draws."""

    def objective(distilled: _Set) -> Array:
        def one(start: Array) -> Array:
            weights = unrolled.iterate(
                distilled.inputs,
                distilled.targets,
                start,
                step_size=step_size,
                ridge=RIDGE,
                steps=steps,
                form=form,
            )
            return loss(weights, data)

        return jnp.mean(jax.vmap(one)(starts))

    value, gradient = jax.value_and_grad(objective)(distilled)
    update = jax.tree.map(lambda z, g: z - 0.01 * g, distilled, gradient)
    return update, value


@functools.cache
def _compiled(
    form: unrolled.Form, loss: Callable[[Array, Any], Array]
) -> Callable[..., tuple[_Set, Array]]:
    """The step, compiled for every T (scan) or with T as an argument."""
    step = functools.partial(_outer_step, form=form, loss=loss)
    return jax.jit(step, static_argnums=(4,) if form == "scan" else ())


def _loss_from_statistics(
    weights: Array, statistics: ridge.SufficientStatistics
) -> Array:
    loss = ridge.squared_loss_from_statistics(weights, statistics)
    return loss / statistics.count


def _loss_from_rows(weights: Array, data: tuple[Array, Array]) -> Array:
    rows, targets = data
    return 0.5 * jnp.mean(jnp.square(rows @ weights - targets))


def _start(sizes: Sizes, draws: int, seed: int) -> tuple[_Set, Array, Array]:
    """A random set, initial weights, and half the step size that would do."""
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (sizes.samples, sizes.inputs), jnp.float32)
    y = jax.random.normal(keys[1], (sizes.samples,), jnp.float32)
    starts = jax.random.normal(keys[2], (draws, sizes.inputs), jnp.float32)
    return _Set(x, y), starts, 0.5 * unrolled.step_size_limit(x, ridge=RIDGE)


def _calls(
    sizes: Sizes, steps: int, draws: int, statistics: Any, seed: int
) -> dict[str, Callable[[], tuple[_Set, Array]]]:
    distilled, starts, step_size = _start(sizes, draws, seed)
    return {
        form: functools.partial(
            _compiled(form, _loss_from_statistics),
            distilled,
            starts,
            statistics,
            step_size,
            steps if form == "scan" else jnp.asarray(steps),
        )
        for form in FORMS
    }


def _disagreement(calls: dict[str, Callable[[], tuple[_Set, Array]]]) -> float:
    """Largest difference from the scan's updated set, relative to its largest entry."""
    found = {form: call()[0] for form, call in calls.items()}
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found["scan"]))
    return max(
        float(jnp.abs(mine - other).max()) / largest
        for form in FORMS[1:]
        for mine, other in zip(found[form], found["scan"], strict=True)
    )


def against_steps(sizes: Sizes, *, seed: int, repeats: int) -> list[dict[str, Any]]:
    """One entry per number of draws and inner steps: seconds of each form."""
    key = jax.random.key(seed)
    statistics = ridge.streamed_statistics(_blocks(key, sizes.rows[0], sizes))
    entries = []
    for draws, counts in ((1, sizes.steps), (sizes.draws, sizes.steps_with_draws)):
        for steps in counts:
            calls = _calls(sizes, steps, draws, statistics, seed)
            timings = common.time_in_turns(calls, repeats=repeats)
            seconds = {form: timings[form].median for form in FORMS}
            entries.append(
                {
                    "draws": draws,
                    "steps": steps,
                    "seconds": timings,
                    "scan_over": {f: seconds["scan"] / seconds[f] for f in FORMS[1:]},
                    "disagreement": _disagreement(calls),
                }
            )
    return entries


def against_rows(sizes: Sizes, *, seed: int, repeats: int) -> list[dict[str, Any]]:
    """One entry per number of real rows: seconds of a step, and of the pass before."""
    key = jax.random.key(seed)
    distilled, starts, step_size = _start(sizes, 1, seed)
    inner = jnp.asarray(sizes.inner)
    by_statistics = _compiled("doubling", _loss_from_statistics)
    by_rows = _compiled("doubling", _loss_from_rows)
    calls, passes = {}, {}
    for n in sizes.rows:
        began = time.perf_counter()
        statistics = ridge.streamed_statistics(_blocks(key, n, sizes))
        jax.block_until_ready(statistics)
        passes[n] = time.perf_counter() - began
        calls[f"statistics {n}"] = functools.partial(
            by_statistics, distilled, starts, statistics, step_size, inner
        )
    for n in sizes.rows_in_memory:
        blocks = list(_blocks(key, n, sizes))
        rows = tuple(jnp.concatenate(part) for part in zip(*blocks, strict=True))
        calls[f"rows {n}"] = functools.partial(
            by_rows, distilled, starts, rows, step_size, inner
        )
    timings = common.time_in_turns(calls, repeats=repeats)
    return [
        {
            "rows": n,
            "seconds_of_pass": passes[n],
            "seconds": timings[f"statistics {n}"],
            "seconds_from_rows": timings.get(f"rows {n}"),
        }
        for n in sizes.rows
    ]


def main() -> None:
    """Measures both curves."""
    sizes = TOY if _OPTIONS.toy.value else FULL
    seed, repeats = _OPTIONS.seed.value, _OPTIONS.repeats.value

    def result(found: Mapping[str, Any]) -> Measured:
        steps, rows = found["against_steps"], found["against_rows"]
        one_draw = [entry["seconds"] for entry in steps if entry["draws"] == 1]
        medians = [entry["seconds"]["median"] for entry in rows]
        return Measured(
            {
                **found,
                "most_over_least_steps": {
                    form: one_draw[-1][form]["median"] / one_draw[0][form]["median"]
                    for form in FORMS
                },
                "slowest_over_fastest_rows": max(medians) / min(medians),
            },
            f"m = {sizes.samples}, d = {sizes.inputs}, T to {max(sizes.steps)}, n to "
            f"{max(sizes.rows)}, float32",
            "toy shapes" if _OPTIONS.toy.value else None,
        )

    cell = Cell(
        "benchmarks/unrolled",
        {"seed": seed, "repeats": repeats, "sizes": sizes},
        {
            measure.__name__: functools.partial(
                measure, sizes, seed=seed, repeats=repeats
            )
            for measure in (against_steps, against_rows)
        },
        result,
    )
    commands.measure([cell], tables=["unrolled"])


if __name__ == "__main__":
    commands.run(main)
