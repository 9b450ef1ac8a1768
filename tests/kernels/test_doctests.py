import doctest
import importlib
import pkgutil

import pytest

from ddjax import kernels

MODULES = [module.name for module in pkgutil.iter_modules(kernels.__path__)]


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_examples_run(name):
    module = importlib.import_module(f"ddjax.kernels{name}")
    assert doctest.testmod(module).failed == 0
