"""Runs that do not fit in memory: one line with a size and a remedy."""

import jax
import numpy as np
import pytest

from ddjax.runtime.memory import NotEnoughMemory, enough_memory


@pytest.mark.parametrize(
    "error,size",
    [
        (MemoryError("Unable to allocate 74.5 GiB for an array"), "74.5 GiB"),
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
