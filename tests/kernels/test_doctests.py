"""The examples in the docstrings of `ddjax.kernels` and `ddjax.solvers` run."""

import doctest
import importlib
import pkgutil

import pytest

from ddjax import kernels, solvers

MODULES = [
    name
    for package in (kernels, solvers)
    for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]


@pytest.mark.parametrize("name", [kernels.__name__, *MODULES])
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
