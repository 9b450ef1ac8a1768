"""Runs a method the way the loop does, without the loop."""

import jax


def run(method, problem, *, steps, seed=0):
    """Returns data, the first and last state, and the metrics of every step."""
    key = jax.random.key(seed)
    data = method.prepare(jax.random.fold_in(key, 1), problem)
    start = method.init(jax.random.fold_in(key, 2), problem, data)

    @jax.jit
    def scan(state, data):
        def body(state, step):
            step_key = jax.random.fold_in(jax.random.fold_in(key, 3), step)
            sample_key, key_ = jax.random.split(step_key)
            return method.step(state, method.sample(sample_key, data), key_)

        return jax.lax.scan(body, state, jax.numpy.arange(steps))

    state, metrics = scan(start, data)
    return data, start, state, metrics
