"""Runs of one method share their compiled steps, most of the time of a small run."""

import jax
import pytest

from ddjax.runtime import loop
from ddjax.runtime.feed import no_rows

_compiled = {}


@pytest.fixture(scope="package", autouse=True)
def _compiled_once():
    """Keeps compiled steps by the method's functions and the shapes of what they take.

    No value is a part of a compiled chunk, so that one serves every run of the method.
    """
    compile_chunk = loop.compile_chunk

    def kept(method, state, feed, key, *, capacity):
        taken = (state, feed.device, no_rows(feed, capacity))
        shapes = jax.tree.map(lambda each: (each.shape, each.dtype), taken)
        about = (method.sample, method.step, str((shapes, feed.structure)))
        if about not in _compiled:
            _compiled[about] = compile_chunk(
                method, state, feed, key, capacity=capacity
            )
        return _compiled[about]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_chunk", kept)
        yield
