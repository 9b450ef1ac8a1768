"""Runs that do not fit in memory: one line with a size and a remedy."""

import jax
import numpy as np
import pytest

from ddjax.runtime.loop import memory_of_steps
from ddjax.runtime.memory import (
    NotEnoughMemory,
    StepMemory,
    enough_memory,
    refuse_too_large,
)
from tests.runtime import fakes


@pytest.mark.parametrize(
    "error,size",
    [
        (
            jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 40000000000 bytes.\n"
            ),
            "37.3 GiB",
        ),
        (
            jax.errors.JaxRuntimeError(
                "INTERNAL: Error dispatching computation: Out of memory allocating "
                "400000000000000 bytes."
            ),
            "372,529.0 GiB",
        ),
        (MemoryError(), "more than there is"),
    ],
)
def test_one_line_says_how_much_and_what_to_lower(error, size):
    with pytest.raises(NotEnoughMemory, match="width or number") as caught:
        with enough_memory():
            raise error
    assert size in str(caught.value) and "\n" not in str(caught.value)


def test_what_numpy_itself_says_is_understood():
    with pytest.raises(NotEnoughMemory, match="one array takes 8.00 PiB"):
        with enough_memory():
            np.empty((2**50,), np.float64)


def test_other_errors_stay():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), enough_memory():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_what_steps_need_is_said_before_the_first():
    found = memory_of_steps(fakes.QUADRATIC, fakes.problem())
    assert found is not None and found.fits
    # The real data and the state are among the arguments.
    assert found.arguments > 4 * 24 * 9 and found.needed > 0
    larger = memory_of_steps(fakes.quadratic(samples=20_000), fakes.problem())
    assert larger is not None and larger.needed > 10 * found.needed
    refuse_too_large(found)
    with pytest.raises(NotEnoughMemory, match="a step takes 10.0 MiB"):
        refuse_too_large(StepMemory(arguments=1, needed=10 * 2**20, free=2**20))
    assert StepMemory(arguments=1, needed=10, free=None).fits
