"""The digits of scikit-learn: 1,797 real 8 x 8 images that need no download."""

import numpy as np

from ddjax.data.source import Source, rows_of_array

__all__ = ["read"]


def read() -> Source:
    """Reads the digits (grey levels 0 to 16) from the installed scikit-learn.

    They have no official test split; `load` cuts a fixed one.

    Returns:
      Inputs `(1797, 8, 8, 1)` uint8, ten classes, no test split.
    """
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.uint8).reshape(-1, 8, 8, 1)
    labels = np.asarray(digits, np.int64)
    return Source(
        train=rows_of_array(images, labels=labels, where="scikit-learn's digits"),
        validation=None,
        test=None,
        class_names=tuple(str(digit) for digit in range(10)),
        unit=16.0,
        origin={"reader": "digits", "package": "scikit-learn"},
    )
