"""Tables: what is read, what is refused and what the message says."""

import csv
import inspect
import os
import sys

import numpy as np
import pytest

from ddjax import data
from ddjax.data import DataError, MissingDataError, preprocess, tabular

PLAIN = "area,age,price\n" + "".join(f"{i},{i * i % 7},{3 * i}.5\n" for i in range(12))


@pytest.fixture
def write(tmp_path):
    def to_file(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def everything(source):
    count = np.arange(source.train.count)
    return source.train.read(count), source.train.targets


def test_columns_become_inputs_and_targets(write):
    source = tabular.read(write(PLAIN), target="price", units={"price": "EUR"})
    inputs, targets = everything(source)
    np.testing.assert_array_equal(inputs[:3], [[0, 0], [1, 1], [2, 4]])
    np.testing.assert_array_equal(targets[:3], [[0.5], [3.5], [6.5]])
    assert source.columns == data.Columns(("area", "age"), ("price",), {"price": "EUR"})
    assert source.origin["rows"] == 12 and source.origin["dropped"] == 0


def test_several_targets_and_chosen_inputs(write):
    source = tabular.read(write(PLAIN), target=("price", "area"), inputs=("age",))
    assert source.columns.inputs == ("age",)
    assert source.columns.targets == ("price", "area")
    assert source.train.targets.shape == (12, 2)


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects(write, sign, end):
    text = "\ufeff" + PLAIN.replace(",", sign).replace("\n", end)
    inputs, _ = everything(tabular.read(write(text), target="price"))
    np.testing.assert_array_equal(inputs[2], [2, 4])


def test_blank_lines_quotes_and_spaces(write):
    text = '\n"the area", age ,"pri,ce"\n\n 1 ,2,"3"\n\n2,3,4\n   \n'
    inputs, targets = everything(tabular.read(write(text), target="pri,ce"))
    np.testing.assert_array_equal(inputs, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(targets, [[3], [4]])


def test_any_table_written_by_the_csv_module_is_read(tmp_path):
    names = ['a "b", c', "é;|x", "0x1", "=1+2", "y"]
    rows = 10.0 ** np.linspace(-300, 38, 40).reshape(8, 5)
    rows[::2] *= -np.pi
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows.tolist())
    source = tabular.read(tmp_path / "a.csv", target="y", delimiter=",")
    np.testing.assert_array_equal(np.hstack(everything(source)), rows)
    assert source.columns.inputs == tuple(names[:4])


TEXT = "size,colour,price\n1,red,1\n2,blue,2\n3,red,4\n4,green,3\n5,red,5\n"


def test_text_becomes_columns_of_zero_and_one(write):
    source = tabular.read(write(TEXT), target="price", units={"colour": "name"})
    inputs, _ = everything(source)
    names = ("size", "colour=blue", "colour=green", "colour=red")
    assert source.columns.inputs == names and source.columns.units == {}
    np.testing.assert_array_equal(inputs[1], [2, 1, 0, 0])
    np.testing.assert_array_equal(inputs[:, 1:].sum(axis=1), 1)
    assert source.origin["text"] == {"colour": ["blue", "green", "red"]}


def test_text_becomes_positions_in_an_order(write):
    order = {"colour": ("red", "green", "blue", "black")}
    path = write(TEXT)
    source = tabular.read(path, target="price", text="ordinal", orders=order)
    np.testing.assert_array_equal(everything(source)[0][:, 1], [0, 2, 0, 1, 0])
    source = tabular.read(path, target="price", orders=order)
    assert source.columns.inputs[1:] == tuple(f"colour={c}" for c in order["colour"])
    assert not everything(source)[0][:, 4].any()


def test_numbers_named_in_orders_are_text(write):
    text = "grade,price\n1,1\n2,2\nA,3\n"
    orders = {"grade": ("A", "1", "2")}
    source = tabular.read(write(text), target="price", text="ordinal", orders=orders)
    np.testing.assert_array_equal(everything(source)[0], [[1], [2], [0]])


@pytest.mark.filterwarnings("ignore:.* rows are fewer than")
def test_rows_with_missing_cells_are_dropped_if_one_says_so(write):
    text = (
        "a,b,c,y\n1,2,u,3\n,2,v,3\n3,NA,v,1\n4,nan,v,2\n5,1, Null,2\n6,2,v,NaN\n"
        "7,8,u,9\n8,8,u,9\n"
    )
    source = tabular.read(write(text), target="y", missing="drop")
    inputs, targets = everything(source)
    np.testing.assert_array_equal(inputs, [[1, 2, 1], [7, 8, 1], [8, 8, 1]])
    np.testing.assert_array_equal(targets, [[3], [9], [9]])
    assert source.origin["dropped"] == 5 and source.columns.inputs[2] == "c=u"


def test_fewer_rows_than_columns_warn(write):
    names = ",".join(f"x{i}" for i in range(30))
    rows = np.random.default_rng(0).normal(size=(10, 30)).tolist()
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    path = write(f"{names}\n{lines}")
    with pytest.warns(UserWarning, match="10 rows are fewer than the 29 input columns"):
        problem = data.load(f"table:{path}", table={"target": "x7"})
    assert problem.train.inputs.shape == (7, 29)


def test_a_table_is_split_preprocessed_and_fingerprinted(write):
    path = write(PLAIN)
    table = {"target": "price", "units": {"price": "EUR"}}
    problem = data.load("table:table.csv", directory=path.parent, table=table)
    sizes = [len(s.inputs) for s in (problem.train, problem.validation, problem.test)]
    assert sizes == [9, 1, 2]
    assert problem.columns.units == {"price": "EUR"}
    natural = preprocess.invert(
        problem.targets_preprocessing, np.asarray(problem.train.targets)
    )
    assert set(np.round(natural[:, 0], 3)) <= {3 * i + 0.5 for i in range(12)}
    again = data.load("table:table.csv", directory=path.parent, table=table)
    assert again.fingerprint == problem.fingerprint
    other_seed = data.load(
        "table:table.csv", directory=path.parent, table=table, seed=1
    )
    np.testing.assert_allclose(
        *(
            preprocess.invert(p.targets_preprocessing, np.asarray(p.test.targets))
            for p in (problem, other_seed)
        )
    )
    write(PLAIN.replace("age", "height"))
    renamed = data.load("table:table.csv", directory=path.parent, table=table)
    assert renamed.fingerprint not in (problem.fingerprint, other_seed.fingerprint)


BAD = {
    "empty file": ("", "empty; a header of column names is expected"),
    "header alone": ("a,y\n", "no rows below the header"),
    "numbers first": ("1,2\n3,4\n", r"first line holds numbers \(1,2\), not"),
    "no name": ("a,,y\n1,2,3\n", "column 2 has no name"),
    "same names": ("a,y,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
    "ragged": ("a,y\n1,2\n1,2,3\n", "line 3: 3 cells; the header has 2 names"),
    "short": ("a,y\n1,2\n\n1\n", "line 4: 1 cells; the header has 2 names"),
    "latin": (b"a,y\n1,2\n\xe9,3\n", "line 3: not UTF-8 text .byte 0xe9.*iconv"),
    "quotes": ('a,y\n1,2\n"3,4\n5,6\n', "not valid CSV: unexpected end of data"),
    "absent": (
        "a,price\n1,2\n",
        "did you mean 'price'.* a, price",
        {"target": "prise"},
    ),
    "no target": ("a,y\n1,2\n", "target is empty", {"target": ()}),
    "twice": ("a,y\n1,2\n", "target has 'y' twice", {"target": ("y", "y")}),
    "both": ("a,y\n1,2\n", "both a target and an input", {"inputs": ("a", "y")}),
    "alone": ("y\n1\n2\n", "no column is left to predict from"),
    "inputs": ("a,y\n1,2\n", "give a sequence of column names", {"inputs": "a"}),
    "units": ("a,y\n1,2\n", "units: there is no column 'b'", {"units": {"b": "m"}}),
    "mixed": ("a,y\n1,2\n2,3\nx,4\n", "line 4: column 'a' has 'x' there and a num"),
    "underscore": ("a,y\n1,2\n1_0,3\n", "line 3: column 'a' has '1_0'"),
    "infinite": ("a,y\n1,2\ninf,3\n", "line 3: column 'a' is infinite there"),
    "large": ("a,y\n1,2\n-1e308,3\n", "line 3: column 'a' is -1e.308 .*larger unit"),
    "large target": ("a,y\n1,2\n3,1e39\n", "line 3: column 'y' is 1e.39"),
    "text target": ("a,y\n1,u\n2,v\n", "target 'y' is text .such as 'u'."),
    "constant": ("a,y\n1,2\n2,2\n", "target 'y' is 2 in every row"),
    "missing": (
        "a,y\n1,2\n,3\n2,\n",
        "line 3: column 'a' is missing there, and 2 of 3",
    ),
    "no row left": (
        "a,b,y\n1,,2\n2,,3\n,4,1\n",
        "every row misses a cell, most of them 'b'",
        {"missing": "drop"},
    ),
    "empty column": ("a,b,y\n1,,2\n2,,3\n", "column 'b' is empty; leave it out"),
    "refused": ("a,y\nu,2\nv,3\n", "line 2: column 'a' is text", {"text": "refuse"}),
    "no order": ("a,y\nu,2\nv,3\n", "needs the order .*'u', 'v'", {"text": "ordinal"}),
    "not in order": (
        "a,y\nu,2\nw,3\n",
        "line 3: column 'a' has 'w', which is not in its order: u, v",
        {"orders": {"a": ("u", "v")}},
    ),
    "names": (
        "a,y\n" + "".join(f"n{i},{i}\n" for i in range(70)),
        "column 'a' is text of 70 different values, more than 64",
    ),
    "clash": ("a,a=u,y\nu,1,2\nv,2,3\n", "would make a second 'a=u'"),
    "text option": ("a,y\n1,2\n", "text='hash'; known: one_hot", {"text": "hash"}),
    "missing option": ("a,y\n1,2\n", "known: refuse, drop", {"missing": "guess"}),
    "delimiter": ("a,y\n1,2\n", "it is one character", {"delimiter": "::"}),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_file_and_what_to_do(write, case):
    content, message, *options = BAD[case]
    path = write(content)
    with pytest.raises(DataError, match=message) as caught:
        tabular.read(path, **{"target": "y", **dict(*options)})
    if "known" not in message and case not in ("no target", "inputs", "delimiter"):
        assert str(caught.value).startswith(str(path))


DISGUISES = {
    "a date or a time": (
        *("2020-01-31", "31.12.2020", "1/2/20", "3 Jan 2020", "12:30"),
        "2020-01-31T12:30:00Z",
    ),
    "a percentage": ("5%", "-0.5 %"),
    "an amount of money": ("$5", "-$1,234.50", "5 €"),
    "a number with a comma": ("0,5", "1,234.5", "1.234,5"),
    "a number with signs between": ("1_000", "1 000", "1'000"),
    "a negative number": ("−5", "(5)"),
    "a fraction": ("1/2",),
    "an error of a spreadsheet": ("#DIV/0!",),
}


@pytest.mark.parametrize("what", DISGUISES)
def test_numbers_and_dates_as_text_are_refused(write, what):
    for cell in DISGUISES[what]:
        for other in ("7", "text"):
            path = write(f'a,y\n{other},1\n"{cell}",2\n')
            with pytest.raises(DataError) as caught:
                tabular.read(path, target="y")
            message = str(caught.value)
            assert message.startswith(f"{path}: line 3: column 'a' has {cell!r} there,")
            assert what in message and "orders={'a': [...]}" in message
        # Whoever says that they are categories is believed.
        path = write(f'a,y\ntext,1\n"{cell}",2\ntext,3\n')
        orders = {"a": ("text", cell)}
        assert tabular.read(path, target="y", orders=orders).train.count == 3


def test_a_unit_in_every_cell_is_refused(write):
    with pytest.raises(
        DataError, match="line 2: column 'a' has '5 kg'.*units={'a': 'kg"
    ):
        tabular.read(write("a,y\n5 kg,1\n7kg,2\n"), target="y")


@pytest.mark.filterwarnings("ignore:.* rows are fewer than")
@pytest.mark.parametrize(
    "cells",
    [
        *(("<1H OCEAN", "INLAND"), ("VS1", "SI2"), ("18-25", "65+"), ("1st", "2nd")),
        *(("room 1", "room 2"), ("0-5%", "5-10%"), ("1.2.3", "v1"), ("May", "Mary")),
    ],
)
def test_names_with_digits_are_text(write, cells):
    path = write(f"a,y\n{cells[0]},1\n{cells[1]},2\n")
    assert len(tabular.read(path, target="y").columns.inputs) == 2


OTHER_FILES = {
    b"PK\x03\x04": "Excel file .* export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "old Excel file .* export it",
    b"\x1f\x8b\x08": "gzip.*gunzip",
    b"\xff\xfea\0": "UTF-16 text.*iconv -f UTF-16",
    b"<!DOCTYPE html>": "an HTML page",
}


@pytest.mark.parametrize("start", OTHER_FILES)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_files_of_other_kinds_get_their_own_advice(write, start, name):
    path = write(start + bytes(range(256)), name)
    with pytest.raises(DataError, match=OTHER_FILES[start]) as caught:
        tabular.read(path, target="y")
    assert "Latin" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ("y", "table='y'; give keywords"),
        ({"target": 1}, "target=1; it is the name of a column"),
        ({"target": "y", "inputs": "a"}, "inputs='a'; it is a sequence of names"),
        ({"target": "y", "units": ["m"]}, r"units=\['m'\]; it is a mapping"),
        ({"target": "y", "orders": {"a": "xyz"}}, "to sequences of values"),
        ({"target": "y", "delimiter": 3}, "delimiter=3; it is one character"),
    ],
)
def test_options_of_the_wrong_type_are_named(options, message):
    unchecked = inspect.unwrap(tabular.check_options)
    with pytest.raises(DataError, match=message):
        unchecked(options)


def test_what_load_says_of_tables(write, tmp_path):
    write(PLAIN)
    write("a,price\n1,1\n2,2\n3,3\n", "few.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    table = {"table": {"target": "price"}}
    for name, options, message in (
        ("table:none.csv", table, "none.csv: no such file"),
        ("table:pipe.csv", table, "pipe.csv: a pipe, .* not a file"),
        ("table:../" + tmp_path.name, table, "a folder, not a file"),
        ("table:few.csv", table, "few.csv: 1 sample is left for training"),
        ("table:table.csv", {}, "needs the column to predict"),
        (
            "table:table.csv",
            {"table": {"targt": "price"}},
            r"takes no 'targt' \(did you mean 'target'\?\); it takes: t",
        ),
        ("table:table.csv", {**table, "classes": (0, 1)}, "has no classes"),
        ("digits", table, "table is only for table, california_housing"),
        ("california_housing", {}, "california_housing.csv: .* Get .*github.com"),
        ("diamonds", {}, "diamonds.csv: .* Get .*github.com"),
    ):
        missing = any(words in message for words in ("no such", "not a file", "Get"))
        kind = MissingDataError if missing else DataError
        with pytest.raises(kind, match=message):
            data.load(name, directory=tmp_path, **options)


def test_diabetes_is_always_there():
    problem = data.load("diabetes")
    sizes = [len(s.inputs) for s in (problem.train, problem.validation, problem.test)]
    assert sizes == [319, 35, 88] and problem.classes == 0
    natural = preprocess.invert(problem.preprocessing, np.asarray(problem.test.inputs))
    assert 18 < natural[:, problem.columns.inputs.index("age")].min() < 30
    assert problem.columns.targets == ("progression",)


@pytest.mark.filterwarnings("ignore:.* rows are fewer than")
def test_known_tables_take_options(tmp_path):
    folder = tmp_path / "tabular"
    folder.mkdir()
    rows = "".join(
        f'{i / 10},"Ideal","{"DEJ"[i % 3]}","VS1",60,55,{100 * i},1,2,3\n'
        for i in range(12)
    )
    header = '"carat","cut","color","clarity","depth","table","price","x","y","z"\n'
    (folder / "diamonds.csv").write_text(header + rows)
    problem = data.load("diamonds", directory=tmp_path)
    assert len(problem.columns.inputs) == 9 and problem.columns.units["price"] == "USD"
    wide = data.load("diamonds", directory=folder, table={"text": "one_hot"})
    assert len(wide.columns.inputs) == 6 + 5 + 7 + 8
    assert wide.source["text"]["color"] == list("JIHGFED")


@pytest.mark.filterwarnings("ignore:.* rows are fewer than")
def test_parquet_gives_what_csv_gives(write, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "whole": pa.array([1, None, 3, 4, 5], pa.int32()),
        "real": pa.array([0.5, 1.5, float("nan"), 2.5, 3.5]),
        "flag": pa.array([True, False, True, None, False]),
        "text": pa.array(["u", " v", "u", "v", "v"]),
        "named": pa.array(["p", "q", "p", "NA", "q"]).dictionary_encode(),
        "y": pa.array([1.0, 2.0, 3.0, 4.0, 5.0], pa.float32()),
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    text = (
        "whole,real,flag,text,named,y\n1,0.5,1,u,p,1\n,1.5,0,v,q,2\n3,nan,1,u,p,3\n"
        "4,2.5,,v,NA,4\n5,3.5,0,v,q,5\n"
    )
    for path in (tmp_path / "a.parquet", write(text)):
        whole = tabular.read(path, target="y", inputs=("text",))
        inputs, targets = everything(whole)
        np.testing.assert_array_equal(inputs[:, 0], [1, 0, 1, 0, 0])
        np.testing.assert_array_equal(targets[:, 0], [1, 2, 3, 4, 5])
        complete = tabular.read(path, target="y", missing="drop")
        rows = [[1, 0.5, 1, 1, 0, 1, 0], [5, 3.5, 0, 0, 1, 0, 1]]
        np.testing.assert_array_equal(everything(complete)[0], rows)
        assert complete.columns.inputs[3:5] == ("text=u", "text=v")


def test_parquet_errors(write, tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    with pytest.raises(DataError, match="not a Parquet file, or a broken one"):
        tabular.read(write("hello", "a.parquet"), target="y")
    named = tmp_path / "c.parquet"
    whole = pa.table({"name": ["text", "u"], "y": [1, 2]})
    parquet.write_table(whole, named, compression="none", use_dictionary=False)
    content = named.read_bytes()
    for good, message in (
        (b"name", r"a column's name is not UTF-8 text \(b'n.me'\).*rename"),
        (b"text", r"column 'name' holds b't.xt', which is not UTF-8"),
    ):
        named.write_bytes(content.replace(good, good[:1] + b"\xff" + good[2:]))
        message = message.replace(".", ".*", 1)
        with pytest.raises(DataError, match=message) as caught:
            tabular.read(named, target="y")
        assert str(caught.value).startswith(str(named))
    # What its first bytes call Parquet is Parquet.
    named.rename(tmp_path / "c.data")
    (tmp_path / "c.data").write_bytes(content)
    assert tabular.read(tmp_path / "c.data", target="y").train.count == 2
    path, lists = tmp_path / "b.parquet", pa.array([[1], [2]])
    for a, y, message in (
        (lists, pa.array([1, 2]), "'a' is of type list.*expected numbers or te"),
        (pa.array([1, None]), [1, 2], "row 2: column 'a' is missing there"),
        (pa.array([], pa.int8()), lists[:0], "no rows"),
    ):
        parquet.write_table(pa.table({"a": a, "y": y}), path)
        with pytest.raises(DataError, match=message):
            tabular.read(path, target="y")
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'ddjax\[tabular\]'"):
        tabular.read(path, target="y")


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name, rows, columns", [("california_housing", 20433, 13), ("diamonds", 53940, 9)]
)
def test_the_real_tables(name, rows, columns):
    problem = data.load(name)
    assert sum(problem.source["counts"].values()) == problem.source["rows"] == rows
    assert problem.train.inputs.shape[1] == columns
