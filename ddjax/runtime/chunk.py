"""Many steps in one compiled call: compiled once, whatever the number of steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ddjax.methods.base import Method, Progress, keys_of_step
from ddjax.runtime.feed import Feed, no_rows, with_rows

__all__ = ["Chunk", "compile_chunk", "copied"]


class Chunk(NamedTuple):
    """A compiled chunk of steps.

    Attributes:
      run: `(state, device, rows, key, start, length, steps) -> (state, metrics,
        finite)`: steps `start ... start + length - 1` of a run of `steps`; `device` and
        `rows` as in `ddjax.runtime.feed`, only `state` is donated. `metrics` maps a
        name to `(capacity,)` values, the first `length` of which mean something;
        `finite` maps the path of a state's leaf to `(capacity,)` flags: it was finite
        after that step (a leaf that starts out infinite, a best value so far say, has
        to be no NaN).
      capacity: the most steps a call can do.
    """

    run: Callable[..., tuple[Any, dict[str, Array], dict[str, Array]]]
    capacity: int


def compile_chunk(
    method: Method,
    state: PyTree[Array],
    feed: Feed,
    key: PRNGKeyArray,
    *,
    capacity: int,
) -> Chunk:
    """Compiles the steps of `method`, ahead of time and for good.

    Step `t` draws from `fold_in(key, t)` alone, so that where a run is cut into chunks
    changes nothing. The number of steps, of the chunk and of the run, is an argument of
    the compiled loop, hence the last, shorter chunk, and a resumed or lengthened run,
    are the same program.

    Args:
      method: whose `sample` and `step` to compile.
      state: the state a run starts from (not one it resumes from: what may be infinite
        is read off it), with buffers of its own (see `copied`).
      feed: what `method.prepare` gave.
      key: root key of the steps.
      capacity: the most steps a call can do.

    Raises:
      ValueError: the metrics of a step are not scalars, or lack `loss`.
    """

    # Compiled as a part of the chunk only; `jit` lets one trace serve twice.
    @functools.partial(jax.jit, inline=True)
    def one(state, device, rows, key, step, steps, index):
        sample_key, step_key = keys_of_step(key, step)
        data = with_rows(feed, device, jax.tree.map(lambda each: each[index], rows))
        batch = method.sample(sample_key, data)
        state, metrics = method.step(state, batch, step_key, Progress(step, steps))
        return state, (metrics, _finite(state, infinite_at_start))

    infinite_at_start = _infinite_leaves(state)
    first = np.int32(0)
    rows = no_rows(feed, capacity)
    _, measured = jax.eval_shape(
        one, state, feed.device, rows, key, first, first, first
    )
    _check_metrics(measured[0])

    def chunk_of_steps(state, device, rows, key, start, length, steps):
        def body(index, carry):
            state, buffers = carry
            state, values = one(state, device, rows, key, start + index, steps, index)
            # Buffers are filled, not stacked, for the number of steps is not static.
            return state, jax.tree.map(
                lambda buffer, value: buffer.at[index].set(value), buffers, values
            )

        buffers = jax.tree.map(
            lambda value: jnp.zeros((capacity,), value.dtype), measured
        )
        state, (metrics, finite) = jax.lax.fori_loop(
            first, length, body, (state, buffers)
        )
        return state, metrics, finite

    compiled = (
        jax.jit(chunk_of_steps, donate_argnums=0)
        .lower(state, feed.device, rows, key, first, first, first)
        .compile()
    )
    return Chunk(compiled, capacity)


def copied(state: PyTree) -> PyTree[Array]:
    """A copy of a state whose every leaf is an array of its own.

    What a chunk is given is donated to it: two leaves must not share a buffer, nor one
    leaf be an array that somebody else (the real data, say) still needs.
    """
    return jax.tree.map(_copied, state)


def _copied(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    # Naming the dtype makes it a strong one, as it will be after a step.
    return jnp.array(leaf, dtype=leaf.dtype, copy=True)


def _floats(state: PyTree[Array]) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path).lstrip("."): leaf
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def _infinite_leaves(state: PyTree[Array]) -> frozenset[str]:
    return frozenset(
        name for name, leaf in _floats(state).items() if bool(jnp.isinf(leaf).any())
    )


def _finite(
    state: PyTree[Array], infinite_at_start: frozenset[str]
) -> dict[str, Array]:
    return {
        name: jnp.all(
            ~jnp.isnan(leaf) if name in infinite_at_start else jnp.isfinite(leaf)
        )
        for name, leaf in _floats(state).items()
    }


def _check_metrics(metrics: Any) -> None:
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise ValueError(f"a step's metrics must hold 'loss', got {metrics}")
    for name, value in metrics.items():
        if value.shape != ():
            raise ValueError(
                f"a step's metrics must be scalars, {name!r} has shape {value.shape}"
            )
