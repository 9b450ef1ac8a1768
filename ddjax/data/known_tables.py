"""Tables that are known by name, with their columns, units and orders."""

from pathlib import Path
from typing import Any

import numpy as np

from ddjax.data import tabular
from ddjax.data.columns import Columns
from ddjax.data.errors import MissingDataError
from ddjax.data.source import Source, rows_of_array

__all__ = ["read_california_housing", "read_diabetes", "read_diamonds"]


def read_diabetes() -> Source:
    """Disease progression of 442 patients, of the installed scikit-learn.

    Ten inputs in natural units. Source: Efron, Hastie, Johnstone and Tibshirani, "Least
    angle regression" (Annals of Statistics, 2004).
    """
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes(scaled=False)
    inputs = np.asarray(found.data, np.float64)
    targets = np.asarray(found.target, np.float64)[:, None]
    units = {"age": "years", "bmi": "kg/m2", "bp": "mmHg"}
    return Source(
        train=rows_of_array(inputs, targets=targets, where="scikit-learn's diabetes"),
        validation=None,
        test=None,
        class_names=None,
        unit=1.0,
        origin={"reader": "diabetes", "package": "scikit-learn"},
        columns=Columns(tuple(found.feature_names), ("progression",), units),
    )


def read_california_housing(folder: Path, **options: Any) -> Source:
    """Median house value of 20 640 districts: `folder/california_housing.csv`.

    Eight numeric inputs and the text column `ocean_proximity`. The 207 rows without
    `total_bedrooms` are dropped. Source: Pace and Barry, "Sparse spatial
    autoregressions" (1997), in the form of Géron's handbook.

    Args:
      folder: where the file is.
      **options: of `tabular.read`, in place of these.
    """
    return _known(
        folder / "california_housing.csv",
        "housing.csv of github.com/ageron/handson-ml2 (datasets/housing)",
        {
            "target": "median_house_value",
            "units": {
                "longitude": "degrees",
                "latitude": "degrees",
                "housing_median_age": "years",
                "median_income": "10000 USD",
                "median_house_value": "USD",
            },
            "orders": {
                "ocean_proximity": (
                    *("<1H OCEAN", "INLAND", "ISLAND"),
                    *("NEAR BAY", "NEAR OCEAN"),
                )
            },
            "missing": "drop",
            **options,
        },
    )


def read_diamonds(folder: Path, **options: Any) -> Source:
    """Price of 53 940 round-cut diamonds: `folder/diamonds.csv` of ggplot2.

    Six numeric inputs, and cut, color and clarity as ordinals, from worst to best;
    `text="one_hot"` makes columns of 0 and 1 of them.

    Args:
      folder: where the file is.
      **options: of `tabular.read`, in place of these.
    """
    return _known(
        folder / "diamonds.csv",
        "data-raw/diamonds.csv of github.com/tidyverse/ggplot2",
        {
            "target": "price",
            "units": {
                **{"price": "USD", "carat": "0.2 g", "depth": "%", "table": "%"},
                **{"x": "mm", "y": "mm", "z": "mm"},
            },
            "text": "ordinal",
            "orders": {
                "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
                "color": tuple("JIHGFED"),
                "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
            },
            **options,
        },
    )


def _known(path: Path, page: str, options: dict[str, Any]) -> Source:
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file. Get {page} and put it there")
    return tabular.read(path, **options)
