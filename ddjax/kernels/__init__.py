"""Pure functions from arrays to arrays: the public face of the mathematics.

>>> from ddjax import kernels
>>> kernels.random_features.fully_connected().depth
3
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddjax.kernels import (
        blocks,
        convolution,
        duality,
        factorization,
        infinite_width,
        linear_probe,
        losses,
        precision,
        random_features,
        ridge,
        statistics,
        unrolled,
    )

__all__ = [
    "blocks",
    "convolution",
    "duality",
    "factorization",
    "infinite_width",
    "linear_probe",
    "losses",
    "precision",
    "random_features",
    "ridge",
    "statistics",
    "unrolled",
]


def __getattr__(name: str):
    # Modules are imported when first named, so that what is not used costs nothing.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
