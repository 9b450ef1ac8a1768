"""Where real data come from: loading, splitting, preprocessing, batches."""

from ddjax.data import augment, preprocess
from ddjax.data.columns import Columns
from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.feed import (
    Batches,
    batches,
    gather,
    on_device,
    rows_of_step,
    to_device,
)
from ddjax.data.load import from_arrays, load
from ddjax.data.options import DEVICE_BUDGET
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split, identity
from ddjax.data.registry import SOURCES, terms_of
from ddjax.data.selection import TEST_FRACTION

__all__ = [
    "DEVICE_BUDGET",
    "SOURCES",
    "TEST_FRACTION",
    "Batches",
    "Columns",
    "DataError",
    "MissingDataError",
    "Preprocessing",
    "Problem",
    "Split",
    "augment",
    "batches",
    "from_arrays",
    "gather",
    "identity",
    "load",
    "on_device",
    "preprocess",
    "rows_of_step",
    "terms_of",
    "to_device",
]
