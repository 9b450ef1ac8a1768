"""Where real data comes from: loading, splitting, preprocessing, batches."""

from ddjax.data import augment, preprocess
from ddjax.data.batches import HostBatch, gather, host_batch_indices
from ddjax.data.columns import Columns
from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.load import from_arrays, load
from ddjax.data.options import DEVICE_BUDGET
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split
from ddjax.data.registry import SOURCES
from ddjax.data.selection import TEST_FRACTION

__all__ = [
    "DEVICE_BUDGET",
    "SOURCES",
    "TEST_FRACTION",
    "Columns",
    "DataError",
    "HostBatch",
    "MissingDataError",
    "Preprocessing",
    "Problem",
    "Split",
    "augment",
    "from_arrays",
    "gather",
    "host_batch_indices",
    "load",
    "preprocess",
]
