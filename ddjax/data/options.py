"""What a user may ask of `load` and `from_arrays`, checked before anything is read."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.errors import DataError
from ddjax.data.preprocess import KINDS

__all__ = ["DEVICE_BUDGET", "Options", "check_image_size", "check_options"]

# Data sets up to this many bytes (floats, all splits) are put on device by default.
DEVICE_BUDGET = 4 * 2**30


class Options(NamedTuple):
    """How a source becomes a problem; the fields are explained at `load`."""

    classes: Sequence[int | str] | None
    validation: float
    seed: int
    preprocessing: str
    zca_ridge: float
    limit: int | None
    on_device: bool | str
    device_budget: int
    scratch: str | os.PathLike | None
    standardize_targets: bool = True


def check_options(options: Options) -> Options:
    """Returns the options when they make sense.

    Raises:
      DataError: an option that does not, with what is allowed.
    """
    held_out = options.validation
    if not isinstance(held_out, (int, float)) or not 0 < held_out < 1:
        raise DataError(
            f"validation={held_out!r}; it is the part of the training data held out, a "
            "number in (0, 1)"
        )
    if options.classes is not None and (
        isinstance(options.classes, str) or not isinstance(options.classes, Sequence)
    ):
        raise DataError(
            f"classes={options.classes!r}; give a sequence of labels or names"
        )
    if options.limit is not None and not _is_integer(options.limit, 1):
        raise DataError(f"limit={options.limit!r}; it is a positive integer or None")
    if not _is_integer(options.seed, 0) or options.seed >= 2**64:
        raise DataError(f"seed={options.seed!r}; it is an integer from 0 to 2**64 - 1")
    if options.preprocessing not in KINDS:
        raise DataError(
            f"unknown preprocessing {options.preprocessing!r}; known: "
            f"{', '.join(KINDS)}"
        )
    if not _is_number(options.zca_ridge):
        raise DataError(f"zca_ridge={options.zca_ridge!r}; it is a positive number")
    if not _is_number(options.device_budget):
        raise DataError(
            f"device_budget={options.device_budget!r}; it is a number of bytes"
        )
    if options.on_device not in (True, False, "auto", "files"):
        raise DataError(
            f"on_device={options.on_device!r}; it is True, False, 'auto' or 'files'"
        )
    if options.on_device == "files" and options.preprocessing != "none":
        raise DataError(
            f"on_device='files' with preprocessing {options.preprocessing!r}: inputs "
            "that stay in their files are as they are; choose preprocessing 'none'"
        )
    limit = None if options.limit is None else int(options.limit)
    # Integers of NumPy would not mix with Python's 64-bit ones.
    return options._replace(seed=int(options.seed), limit=limit)


def check_image_size(value: Any) -> tuple[int, int] | None:
    """Returns (height, width) of a side, of (height, width), or None.

    Raises:
      DataError: anything else.
    """
    if value is None:
        return None
    pair = (value, value) if _is_integer(value, 1) else value
    is_pair = isinstance(pair, Sequence) and len(pair) == 2
    if not is_pair or not all(_is_integer(side, 1) for side in pair):
        raise DataError(
            f"image_size={value!r}; it is a side or (height, width), at least 1"
        )
    return int(pair[0]), int(pair[1])


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating))
    return number and not isinstance(value, bool)


def _is_integer(value: Any, least: int) -> bool:
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return bool(integer and value >= least)
