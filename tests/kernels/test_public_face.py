"""`from ddjax import kernels` is all that a user of the mathematics imports."""

import doctest
import importlib
import subprocess
import sys

import pytest

from ddjax import kernels

IMPORT = """
import sys
import ddjax.kernels
for name in ddjax.kernels.__all__:
    getattr(ddjax.kernels, name)
heavy = {"flax", "tensorflow", "matplotlib", "neural_tangents", "sklearn", "optax"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_no_module_imports_anything_heavy():
    subprocess.run([sys.executable, "-c", IMPORT], check=True)


def test_the_face_shows_its_modules():
    assert dir(kernels) == kernels.__all__ == sorted(kernels.__all__)
    for name in kernels.__all__:
        module = importlib.import_module(f"ddjax.kernels.{name}")
        assert getattr(kernels, name) is module
        assert all(hasattr(module, public) for public in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'rigde'"):
        _ = kernels.rigde


def test_examples_in_the_docstring():
    failed, attempted = doctest.testmod(kernels)
    assert attempted > 0 and failed == 0
