"""Where real data comes from: loading, splitting, preprocessing, batches."""

from ddjax.data import preprocess
from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.load import DEVICE_BUDGET, SOURCES, TEST_FRACTION, from_arrays, load
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split

__all__ = [
    "DEVICE_BUDGET",
    "SOURCES",
    "TEST_FRACTION",
    "DataError",
    "MissingDataError",
    "Preprocessing",
    "Problem",
    "Split",
    "from_arrays",
    "load",
    "preprocess",
]
