"""New rows of a table: encoded as the table was, and refused where they cannot be."""

import csv
from pathlib import Path

import numpy as np
import pytest

from ddjax import data
from ddjax.data import preprocess
from ddjax.data.table_rows import encoded_rows

COLOURS = ("blue", "green", "red")
SIZES = ("small", "large")


def _cells(count: int) -> dict[str, list]:
    rng = np.random.default_rng(0)
    return {
        "colour": [COLOURS[i % 3] for i in range(count)],
        "size": [SIZES[i % 2] for i in range(count)],
        "weight": np.round(rng.uniform(1.0, 9.0, count), 3).tolist(),
        "price": np.round(rng.uniform(10.0, 99.0, count), 3).tolist(),
    }


def _written(path: Path, cells: dict[str, list]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    return path


@pytest.fixture(scope="module", params=["one_hot", "ordinal"])
def table(request, tmp_path_factory):
    """The folder of a file, its cells, and the problem that was read from it."""
    folder, cells = tmp_path_factory.mktemp("table"), _cells(60)
    _written(folder / "cars.csv", cells)
    orders = {"size": SIZES}
    if request.param == "ordinal":
        orders["colour"] = COLOURS
    options = {"target": "price", "text": request.param, "orders": orders}
    problem = data.load(
        "table:cars.csv", directory=folder, table=options, preprocessing="none"
    )
    return folder, cells, problem


def _encoded(problem, given):
    return encoded_rows(given, problem.columns, problem.source["text"])


def test_rows_are_encoded_as_the_tables_own(table):
    folder, cells, problem = table
    found = _encoded(problem, cells)
    splits = (problem.train, problem.validation, problem.test)
    real = np.concatenate([np.asarray(split.inputs) for split in splits])
    real = preprocess.invert(problem.preprocessing, real)
    order = [np.lexsort(np.round(rows, 3).T) for rows in (found, real)]
    np.testing.assert_allclose(found[order[0]], real[order[1]], rtol=1e-6)
    np.testing.assert_array_equal(found, _encoded(problem, folder / "cars.csv"))
    as_text = {name: list(map(str, each)) for name, each in cells.items()}
    np.testing.assert_array_equal(found, _encoded(problem, as_text))
    # Another order of columns, no target, few rows: a value that none of them has.
    few = {name: cells[name][:2] for name in ("weight", "size", "colour")}
    np.testing.assert_array_equal(_encoded(problem, few), found[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": None}, "there is no column 'colour'; the set was made of .*weight"),
        ({"colour": ["pink", "red"]}, "row 1: column 'colour' has 'pink' there; the "),
        ({"colour": ["red", None]}, "row 2: column 'colour' is missing there"),
        ({"colour": [1, 2]}, "row 1: column 'colour' has '1' there; the set knows"),
        ({"weight": ["1.5", "5 kg"]}, "row 2: column 'weight' has '5 kg' there; .*num"),
        ({"weight": [1.0, float("nan")]}, "row 2: column 'weight' is missing"),
        ({"weight": ["", "1"]}, "row 1: column 'weight' is missing"),
        ({"weight": [1.0, np.inf]}, "row 2: column 'weight' is infinite there"),
        ({"weight": [1.0]}, "different numbers of rows: .*'weight': 1"),
        ({"weight": [[1.0], [2.0]]}, r"column 'weight' has shape \(2, 1\)"),
        ({name: [] for name in ("colour", "size", "weight")}, "no rows"),
    ],
)
def test_what_the_set_does_not_know_is_refused(table, change, message):
    given = {
        "colour": ["red", "blue"],
        "size": ["small", "large"],
        "weight": [1.0, 2.0],
    }
    given = {key: each for key, each in (given | change).items() if each is not None}
    with pytest.raises(data.DataError, match=message):
        _encoded(table[2], given)


def test_a_line_of_the_file_is_named(table, tmp_path):
    cells = _cells(4)
    cells["size"][2] = "huge"
    path = _written(tmp_path / "new.csv", cells)
    with pytest.raises(data.DataError, match=r"new.csv: line 4: column 'size' has"):
        _encoded(table[2], path)
    with pytest.raises(data.MissingDataError, match="no such file"):
        _encoded(table[2], str(tmp_path / "none.csv"))
