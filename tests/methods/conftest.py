"""Small real problems that every method's tests share."""

import pytest

from ddjax import data
from tests.methods.encoders import colour_digits, small


@pytest.fixture(scope="session")
def binary():
    """Digits 0 and 1: 8 x 8 real images."""
    return data.load("digits", classes=(0, 1))


@pytest.fixture(scope="session")
def three_classes():
    return data.load("digits", classes=(0, 1, 2))


@pytest.fixture(scope="session")
def coloured():
    return colour_digits()


@pytest.fixture(scope="session")
def encoder():
    return small()
