"""The digits of scikit-learn: 1,797 real 8 x 8 images that need no download."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from ddjax.data.source import Source, rows_of_array

__all__ = ["read"]


def read() -> Source:
    """Reads the digits (grey levels 0 to 16) from the installed scikit-learn.

    They have no official test split; `load` cuts a fixed one.

    Returns:
      Inputs `(1797, 8, 8, 1)` uint8, ten classes, no test split.
    """
    table = _table()
    images = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int64)
    return Source(
        train=rows_of_array(images, labels=labels, where="scikit-learn's digits"),
        validation=None,
        test=None,
        class_names=tuple(str(digit) for digit in range(10)),
        unit=16.0,
        origin={"reader": "digits", "package": "scikit-learn"},
    )


def _table() -> np.ndarray:
    """A row for each image, its label last.

    Importing scikit-learn to have one file of it read takes four seconds.
    """
    package = importlib.util.find_spec("sklearn")
    places = (package and package.submodule_search_locations) or ()
    for place in places:
        file = Path(place, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    found: Any = load_digits(return_X_y=True)
    return np.column_stack(found)
