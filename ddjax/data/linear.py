r"""The synthetic problem on which distilled regression is studied.

.. math::
    y = x^\top \theta^* + \sigma\epsilon, \qquad
    x, \theta^* \sim \mathcal{N}(0, I_{100}), \quad \epsilon \sim \mathcal{N}(0, 1),
    \quad \sigma = 0.1 .

Source: "Toward Dataset Distillation for Regression Problems", A.7: 1000 rows split 80
to 20 (the size of the noise is not given there). Its "{d, m, n} = {1000, 100, 99}"
contradicts n > d and m << n; n = 1000, d = 100 (and m = 99) is how we read it.
"""

import numpy as np

from ddjax.data.errors import DataError
from ddjax.data.source import Source, rows_of_array

__all__ = ["read"]

_SIZES = {"train": 800, "test": 200, "validation": 200}
_INPUTS, _NOISE = 100, 0.1


def read(argument: str = "") -> Source:
    """Draws the rows.

    Args:
      argument: the seed of the draw, a number >= 0; 0 where it is empty.

    Returns:
      800 training rows, 200 for testing, and 200 more for validation.

    Raises:
      DataError: an argument that is no such number.
    """
    if not (argument or "0").isdecimal():
        raise DataError(f"linear:SEED takes a number >= 0, got {argument!r}")
    seed = int(argument or "0")
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal(_INPUTS)
    rows = {}
    for part, count in _SIZES.items():
        inputs = generator.standard_normal((count, _INPUTS))
        noise = _NOISE * generator.standard_normal(count)
        targets = (inputs @ weights + noise)[:, None].astype(np.float32)
        rows[part] = rows_of_array(
            inputs.astype(np.float32), targets=targets, where=f"linear:{seed}, {part}"
        )
    return Source(
        **rows,
        class_names=None,
        unit=1.0,
        origin={"reader": "linear", "seed": seed},
    )
