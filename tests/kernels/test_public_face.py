"""`from ddjax import kernels` is all that a user of the mathematics imports."""

import importlib

import pytest

from ddjax import kernels


def test_the_face_shows_its_modules():
    assert dir(kernels) == kernels.__all__ == sorted(kernels.__all__)
    for name in kernels.__all__:
        module = importlib.import_module(f"ddjax.kernels.{name}")
        assert getattr(kernels, name) is module
        assert all(hasattr(module, public) for public in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'rigde'"):
        _ = kernels.rigde
