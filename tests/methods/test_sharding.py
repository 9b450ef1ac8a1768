"""A step on several devices: the pool by student, the real batch by row.

Devices of a process are counted once, so this is a process of its own, with two.
"""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ddjax import methods
from ddjax.methods.base import Progress
from ddjax.storage.cache import no_cache
from tests.conformance import problems
from tests.methods.encoders import small
from tests.processes import python


def _steps() -> None:
    assert jax.device_count() == 2
    layers = {"depth": 2, "width": 4}
    pool = {
        **{"network": "fully_connected", "settings": layers},
        **{"students": 4, "steps": 2},
    }
    # A ridge that forgives the order of sums: features of four units are alike.
    method = methods.krr_st(
        count=4, teacher=small(width=6), pool=pool, ridge=1e-2, batch_size=999
    )
    problem, key = problems.unlabelled(), jax.random.key(0)
    data = method.prepare(key, problem, no_cache)
    state = method.init(key, problem, data)
    rows = 2 * (len(data.real.inputs) // 2)
    batch = data.real._replace(
        inputs=data.real.inputs[:rows], targets=data.real.targets[:rows]
    )
    mesh = Mesh(np.asarray(jax.devices()), ("devices",))
    by_first = NamedSharding(mesh, PartitionSpec("devices"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    sharded = jax.device_put(state, everywhere)
    sharded = sharded._replace(pool=jax.device_put(state.pool, by_first))
    step, progress = jax.jit(method.step), Progress(jnp.asarray(0), jnp.asarray(9))
    for turn in range(5):  # long enough for students to be drawn anew
        key = jax.random.fold_in(jax.random.key(1), turn)
        state, wanted = step(state, batch, key, progress)
        sharded, found = step(sharded, jax.device_put(batch, by_first), key, progress)
        np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-4)
    # The pool stays where it was put, no device holds all of it.
    for leaf in jax.tree.leaves(sharded.pool):
        assert leaf.sharding.shard_shape(leaf.shape)[0] == leaf.shape[0] // 2
    found, wanted = ((each.pool, each.descent.learned) for each in (sharded, state))
    chex.assert_trees_all_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_students_lie_on_two_devices():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    python("-m", __name__, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")


if __name__ == "__main__":
    _steps()
