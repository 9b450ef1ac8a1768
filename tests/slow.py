"""Cases of a test that only some runs of the suite have."""

import functools

import pytest

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
"""Values with which a test is one of the slow ones."""
