"""The tables on distilled regression of real tables."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from experiments.tables import Headline, Record, Table, below, caption, markdown

__all__ = ["DATASETS", "FOLDER", "SHARE", "TABLES", "cells", "headlines"]

FOLDER = "regression_dd/real_data"

SHARE = 0.98
"""Of the test R2 of all rows: what few rows should reach."""

DATASETS = {
    "diabetes": "diabetes",
    "california_housing": "California housing",
    "diamonds": "diamonds",
}
"""Data sets, and what tables and figures call them."""

_FEATURES = {"inputs": "linear", "fourier": "Fourier"}
_ALL = "all rows"
_METHODS = (
    *("random rows", "k-means", "leverage", "leverage, weighted", "Nyström"),
    *("exact optimum", "distilled"),
)

_Key = tuple[str, str, str, int]


def cells(found: Sequence[Record]) -> dict[_Key, list[float]]:
    """(data set, features, method, m) -> test R2, one a seed; m is 0 for all rows."""
    values: dict[_Key, list[float]] = defaultdict(list)
    for record in below(found, FOLDER):
        dataset = record["config"]["dataset"]
        for row in record["results"]["rows"]:
            count = 0 if row["method"] == _ALL else row["count"]
            values[dataset, row["features"], row["method"], count].append(row["r2"])
    return values


def real_data(found: Sequence[Record]) -> str:
    """Test R2 of every method and m."""
    values, rows = cells(found), []
    for dataset, features in _places(values):
        counts = sorted({k[3] for k in values if k[:2] == (dataset, features)} - {0})
        for count in counts:
            row = [f"{DATASETS[dataset]}, {_FEATURES[features]}, m = {count}"]
            for method in _METHODS:
                row.append(_spread(values.get((dataset, features, method, count), [])))
            row.append(_spread(values[dataset, features, _ALL, 0]))
            rows.append(row)
    header = ["test R²", *_METHODS, _ALL]
    return markdown(header, rows) + "\n\n" + caption(below(found, FOLDER))


def fewest(found: Sequence[Record]) -> str:
    """The fewest rows, of those tried, with 98 % of the test R2 of all rows."""
    values, rows = cells(found), []
    sizes = {
        (each["config"]["dataset"], row["features"]): row["count"]
        for each in below(found, FOLDER)
        for row in each["results"]["rows"]
        if row["method"] == _ALL
    }
    for dataset, features in _places(values):
        full = statistics.mean(values[dataset, features, _ALL, 0])
        row = [f"{DATASETS[dataset]}, {_FEATURES[features]}"]
        row += [f"{sizes[dataset, features]}", f"{full:.3f}"]
        for method in _METHODS:
            tried = sorted(k[3] for k in values if k[:3] == (dataset, features, method))
            enough = [
                count
                for count in tried
                if statistics.mean(values[dataset, features, method, count])
                >= SHARE * full
            ]
            missed = f"> {tried[-1]}" if tried else "-"
            row.append(str(enough[0]) if enough else missed)
        rows.append(row)
    header = ["fewest rows m", "all rows n", "their R²", *_METHODS]
    return markdown(header, rows)


def headlines(found: Sequence[Record]) -> list[Headline]:
    """Ten diamonds."""
    values, count = cells(found), 10
    distilled, random, full = (
        _spread(values["diamonds", "fourier", method, m])
        for method, m in (("distilled", count), ("random rows", count), (_ALL, 0))
    )
    what = f"diamonds, a table of prices: {count} rows"
    learner = "ridge regression on Fourier features, R²"
    return [Headline(what, learner, distilled, random, full)]


def _places(values: dict[_Key, list[float]]) -> list[tuple[str, str]]:
    there = {key[:2] for key in values}
    return [(d, f) for d in DATASETS for f in _FEATURES if (d, f) in there]


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f} (one seed)" if values else "-"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


TABLES: dict[str, Table] = {
    "regression_real_data": real_data,
    "regression_fewest_rows": fewest,
}
"""Table name -> function of all records."""
