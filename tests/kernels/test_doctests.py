import doctest
import importlib
import inspect
import pkgutil

import pytest

from ddjax import kernels

MODULES = [module.name for module in pkgutil.iter_modules(kernels.__path__)]


@pytest.mark.parametrize("name", ["", *(f".{module}" for module in MODULES)])
def test_examples_run(name):
    module = importlib.import_module(f"ddjax.kernels{name}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_subject_has_an_example(name):
    """A reader of each subject finds at least one."""
    module = importlib.import_module(f"ddjax.kernels.{name}")
    functions = [
        value
        for public in module.__all__
        if inspect.isfunction(value := getattr(module, public))
    ]
    lacking = [f.__name__ for f in functions if ">>>" not in (f.__doc__ or "")]
    in_module = ">>>" in (module.__doc__ or "")
    assert in_module or len(lacking) < len(functions), lacking
