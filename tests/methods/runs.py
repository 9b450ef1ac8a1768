"""Runs a method the way the loop does, without the loop."""

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.data.feed import Batches, rows_of_step
from ddjax.methods.base import Progress, keys_of_step


def progress(step=0, steps=1):
    return Progress(jnp.asarray(step, jnp.int32), jnp.asarray(steps, jnp.int32))


def prepared(method, problem, *, seed=0):
    """Data and the first state."""
    key = jax.random.key(seed)
    data = method.prepare(jax.random.fold_in(key, 1), problem)
    return data, method.init(jax.random.fold_in(key, 2), problem, data)


def in_double(problem):
    """The problem with training inputs in float64."""
    inputs = jnp.asarray(problem.train.inputs, jnp.float64)
    return problem._replace(train=problem.train._replace(inputs=inputs))


def drawn(data, *, seed=0, step=0):
    """Data with the rows of a step in place of `Batches`."""
    return _with_rows(data, _rows_of(data, seed=seed, step=step))


def run(method, problem, *, steps, seed=0):
    """Returns data, the first and last state, and the metrics of every step."""
    data, start = prepared(method, problem, seed=seed)
    key = jax.random.fold_in(jax.random.key(seed), 3)
    each = [_rows_of(data, seed=seed, step=step) for step in range(steps)]
    rows = [np.stack(of_one) for of_one in zip(*each, strict=True)]

    @jax.jit
    def scan(state, data):
        def body(state, scanned):
            step, rows = scanned
            sample_key, step_key = keys_of_step(key, step)
            batch = method.sample(sample_key, _with_rows(data, rows))
            return method.step(state, batch, step_key, progress(step, steps))

        return jax.lax.scan(body, state, (jnp.arange(steps, dtype=jnp.int32), rows))

    state, metrics = scan(start, jax.tree.map(jnp.asarray, data))
    return data, start, state, metrics


def distilled(method, problem, data, state, *, seed=0):
    """The set of a state of `run`, under the key that `prepare` was given."""
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return method.distilled(key, state, problem, data)


def _is_batches(node):
    return isinstance(node, Batches)


def _rows_of(data, *, seed, step):
    nodes = jax.tree.leaves(data, is_leaf=_is_batches)
    return [
        rows_of_step(each, seed=seed, step=step) for each in nodes if _is_batches(each)
    ]


def _with_rows(data, rows):
    left = list(rows)

    def replaced(node):
        if not _is_batches(node):
            return node
        chosen = left.pop(0)
        return jax.tree.map(lambda x: jnp.asarray(x)[chosen], node.split)

    return jax.tree.map(replaced, data, is_leaf=_is_batches)
