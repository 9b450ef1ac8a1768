"""Tests of saving and loading."""

import functools
import json
import os
import pickle
import struct
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors_bytes

from ddjax import synthetic
from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import identity as problem_identity
from ddjax.synthetic import files
from tests.synthetic.problems import (
    NONE,
    assert_same,
    blobs,
    changed,
    distilled_set,
    table_set,
)

Error = synthetic.DistilledSetError
FORMS = ("folder", "single.safetensors")
FLOATS = (np.float16, np.float32, np.float64)


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- round trips ---------------------------------------------------------------------


SETS = {
    **{kind: lambda kind=kind: distilled_set(kind=kind) for kind in preprocess.KINDS},
    "table": table_set,
    "table in natural units": lambda: table_set(kind="none"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("made", SETS.values(), ids=SETS)
def test_round_trip_is_exact(tmp_path, form, made):
    assert synthetic.save(tmp_path / form, made()) == tmp_path / form
    assert_same(made(), synthetic.load(tmp_path / form))


@pytest.mark.parametrize("form", FORMS)
def test_jax_arrays_and_missing_parts(tmp_path, form):
    saved = distilled_set(
        inputs=jnp.arange(12.0).reshape(4, 3),
        targets=jnp.array([0.5, -0.25, -0.0, 1e-40]),
        targets_kind="margin",
        labels=None,
        class_names=None,
        preprocessing=NONE,
        certificate=None,
        provenance={},
    )
    synthetic.save(str(tmp_path / form), saved)
    assert_same(saved, synthetic.load(str(tmp_path / form)))


@pytest.mark.parametrize("form", FORMS)
def test_unusual_sets_make_the_round_trip(tmp_path, form):
    """Every dtype, extreme numbers, empty arrays and scalars, any text and nesting."""
    extreme = [[np.finfo(kind).max, np.finfo(kind).tiny / 8, -0.0] for kind in FLOATS]
    half, single, double = (
        np.array([each], kind) for each, kind in zip(extreme, FLOATS, strict=True)
    )
    anything = {
        "": [None, True, 2**70, -0.1, 5e-324, "\x00\u2028\N{PILE OF POO}", []],
        "a.b/..": {"\n": {}, "深い": {"x": [[[1.5]]]}},
    }
    saved = synthetic.DistilledSet(
        stored={
            "inputs": half,
            "targets": double,
            "more": {"rows": np.zeros((0, 2), np.float16), "deep": {"x": single[0, 1]}},
        },
        decoder=synthetic.pixels(),
        recipe={"targets_kind": "scores", "features": anything, "loss": {}},
        labels=np.array([2], np.int32),
        preprocessing=Preprocessing(
            "zca", half[0], np.ones(1), np.eye(3), np.eye(3, dtype=np.float32)
        ),
        class_names=("", "类", "a\x00"),
        provenance=anything,
        certificate={},
    )
    synthetic.save(tmp_path / form, saved)
    assert_same(saved, synthetic.load(tmp_path / form))


def test_layouts_that_are_not_plain_memory(tmp_path):
    plain = distilled_set()
    inputs = plain.stored["inputs"]
    for odd in (
        np.asfortranarray(inputs),
        inputs.astype(">f4"),
        np.repeat(inputs, 2, axis=0)[::2],
    ):
        other = changed(plain, inputs=odd)
        assert synthetic.digest(other) == synthetic.digest(plain)
        synthetic.save(tmp_path / "a", other)
        assert_same(plain, synthetic.load(tmp_path / "a"))


def test_tuples_become_lists_and_numpy_scalars_numbers(tmp_path):
    certificate = {
        "a": (1, np.float32(0.1), np.int64(3), np.bool_(True)),
        "b": np.float64(0.3),
    }
    synthetic.save(tmp_path / "a", distilled_set(certificate=certificate))
    loaded = synthetic.load(tmp_path / "a").certificate
    assert loaded == {"a": [1, float(np.float32(0.1)), 3, True], "b": 0.3}
    assert loaded["a"][3] is True


@pytest.mark.parametrize("form", FORMS)
def test_equal_sets_give_equal_bytes(tmp_path, form):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        synthetic.save(tmp_path / place / form, distilled_set(kind="zca"))

    def content(place):
        found = (p for p in (tmp_path / place).rglob("*") if p.is_file())
        return {p.name: p.read_bytes() for p in found}

    assert content("a") == content("b")


# --- digest --------------------------------------------------------------------------


def test_digest_sees_every_bit_of_the_content_and_nothing_else():
    base = distilled_set(kind="zca")
    digest = synthetic.digest(base)
    assert len(digest) == 64 and int(digest, 16) >= 0
    inputs = np.array(base.stored["inputs"])
    inputs[0, 0, 0, 0] = np.nextafter(inputs[0, 0, 0, 0], np.float32(9))
    prep = base.preprocessing
    targets = base.stored["targets"]
    others = [
        changed(base, inputs=inputs),
        base._replace(stored={"other": base.stored["inputs"], "targets": targets}),
        base._replace(stored={"a": base.stored}),
        changed(base, targets=targets.astype(np.float64)),
        changed(base, targets_kind="regression"),
        base._replace(recipe={"targets_kind": "scores"}),
        base._replace(recipe={**base.recipe, "real_ridge": 1e-6}),
        base._replace(decoder=synthetic.make("pyramid")),
        base._replace(decoder=synthetic.make("pyramid", extend_every=0.1)),
        base._replace(labels=None),
        base._replace(class_names=("a", "b", "c")),
        base._replace(preprocessing=prep._replace(std=prep.std * 2)),
        base._replace(preprocessing=prep._replace(whiten=prep.unwhiten)),
    ]
    digests = {synthetic.digest(other) for other in others}
    assert len(digests) == len(others) and digest not in digests
    assert digest == synthetic.digest(base._replace(provenance={}, certificate=None))


def test_digest_sees_units_and_names_of_regression_sets():
    base = table_set()
    prep, columns = base.targets_preprocessing, base.columns
    others = [
        base._replace(targets_preprocessing=None),
        base._replace(targets_preprocessing=prep._replace(mean=prep.mean + 1)),
        base._replace(columns=None),
        base._replace(columns=columns._replace(targets=("rent",))),
        base._replace(columns=columns._replace(units={})),
    ]
    digests = {synthetic.digest(each) for each in (base, *others)}
    assert len(digests) == 6


# --- replacing, crashing, sharing ----------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_saving_replaces_and_leaves_nothing_behind(tmp_path, form):
    path = tmp_path / "deep" / "er" / form
    for seed in (0, 1, 1, 0):
        saved = distilled_set(seed=seed)
        synthetic.save(path, saved)
        assert_same(saved, synthetic.load(path))
        assert _names(path.parent) == [form]
    if path.is_dir():
        (path / "notes.txt").write_text("kept")
        synthetic.save(path, distilled_set(seed=3))
        assert len(_names(path)) == 3 and "notes.txt" in _names(path)


def test_saving_into_an_existing_folder(tmp_path):
    (tmp_path / "report.md").write_text("kept")
    synthetic.save(tmp_path, distilled_set())
    assert_same(distilled_set(), synthetic.load(tmp_path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_a_failing_disk_leaves_the_old_set(tmp_path, monkeypatch, form, call):
    path = tmp_path / form
    synthetic.save(path, distilled_set(seed=0))
    before = _names(tmp_path)

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fails)
    if call != "rename":
        with pytest.raises(Error, match=f"{form}: cannot be written: .*No space left"):
            synthetic.save(path, distilled_set(seed=1))
        assert_same(distilled_set(seed=0), synthetic.load(path))
    elif form == "folder":
        with pytest.raises(Error, match="No space left"):
            synthetic.save(tmp_path / "another", distilled_set(seed=1))
    monkeypatch.undo()
    assert _names(tmp_path) == before
    synthetic.save(path, distilled_set(seed=1))
    assert_same(distilled_set(seed=1), synthetic.load(path))


def test_a_reader_beside_a_writer_finds_one_of_the_sets(tmp_path):
    sets = [distilled_set(seed=seed) for seed in (0, 1)]
    path = tmp_path / "folder"
    synthetic.save(path, sets[0])
    stop = threading.Event()

    def write():
        for i in range(200):
            if stop.is_set():
                return
            synthetic.save(path, sets[i % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        digests = {synthetic.digest(synthetic.load(path)) for _ in range(10)}
    finally:
        stop.set()
        writer.join()
    assert digests <= {synthetic.digest(s) for s in sets}


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "a").write_text("mine")
    (tmp_path / "c.safetensors").mkdir()
    for path in ("a", "a/b", "c.safetensors"):
        with pytest.raises(Error, match=f"{path}: cannot be written"):
            synthetic.save(tmp_path / path, distilled_set())
    assert (tmp_path / "a").read_text() == "mine"
    assert _names(tmp_path) == ["a", "c.safetensors"]


# --- what is not saved ---------------------------------------------------------------


def _nan(array):
    array = np.array(array)
    array.flat[-1] = np.nan
    return array


BASE = distilled_set()
PREP, ZCA = BASE.preprocessing, distilled_set(kind="zca").preprocessing
INPUTS, TARGETS = BASE.stored["inputs"], BASE.stored["targets"]
ZERO = np.zeros(1, np.float32)


def _stored(**more):
    """The stored arrays of `BASE` and some more."""
    return {"stored": {**BASE.stored, **more}}


def _recipe(**more):
    return {"recipe": {**BASE.recipe, **more}}


def _scaled(preprocessing=PREP, **changes):
    return {"preprocessing": preprocessing._replace(**changes)}


UNKNOWN = synthetic.pixels()._replace(name="voxels")
WITH_SETTINGS = synthetic.pixels()._replace(settings={"size": 3})
LOOP: dict = {}
LOOP["self"] = LOOP
INVALID = {
    "stored.inputs is not finite: 1 of 288 .* nan": {"inputs": _nan(INPUTS)},
    "stored.targets is not finite": {"targets": _nan(TARGETS)},
    "stored.a.b is not finite": _stored(a={"b": np.full(2, np.inf, np.float32)}),
    "preprocessing.mean is not finite": _scaled(mean=_nan(PREP.mean)),
    "stored holds no arrays": {"stored": {}},
    "stored.more holds no arrays": _stored(more={}),
    "nested deeper than 8 levels": {"stored": LOOP},
    "stored.inputs has dtype int32; allowed: float16": {
        "inputs": np.zeros((6, 2), np.int32)
    },
    "stored.inputs has dtype bfloat16": {"inputs": jnp.zeros((6, 2), jnp.bfloat16)},
    "has the name '../inputs'": _stored(**{"../inputs": ZERO}),
    "has the name '/etc/passwd'": _stored(a={"/etc/passwd": ZERO}),
    "has the name 'a.b'": _stored(**{"a.b": ZERO}),
    r"cannot decode the stored arrays \['pixels'\]": {"stored": {"pixels": INPUTS}},
    r"cannot decode the stored arrays \['inputs'\]: KeyError: 'targets'": {
        "stored": {"inputs": INPUTS}
    },
    r"expected \(m, \*shape\)": {"inputs": np.zeros(6, np.float32)},
    "holds no samples": {"inputs": np.zeros((0, 2), np.float32)},
    "unknown decoder 'voxels'; known: .*pixels": {"decoder": UNKNOWN},
    "decoder 'pixels' takes no 'size'": {"decoder": WITH_SETTINGS},
    r"targets have shape \(5, 3\); there are 6 inputs": {"targets": TARGETS[:5]},
    r"targets have shape \(6, 1, 3\)": {"targets": TARGETS[:, None]},
    r"targets have shape \(6, 0\)": {"targets": TARGETS[:, :0]},
    "targets has dtype int32": {"targets": BASE.labels},
    "unknown targets_kind 'soft'; known: scores": {"targets_kind": "soft"},
    "margin targets have 3 columns": {"targets_kind": "margin"},
    "one column for each of 3 classes": {"targets": TARGETS[:, :2]},
    "at least two classes": {
        "targets": TARGETS[:, 0],
        "class_names": None,
        "labels": None,
    },
    "recipe is {}; expected a mapping with targets_kind": {"recipe": {}},
    "recipe is None": {"recipe": None},
    "unknown key 'rigde'; known: targets_kind, .*ridge": _recipe(rigde={}),
    "recipe.real_ridge is True; expected a number": _recipe(real_ridge=True),
    "recipe.ridge is 0.1; expected a mapping": _recipe(ridge=0.1),
    "recipe.ridge has the keys .'strength'.; expected": _recipe(
        ridge={"strength": 1.0}
    ),
    "convention 'trace'; known: absolute, relative, per_sample": _recipe(
        ridge={"strength": 1.0, "convention": "trace"}
    ),
    "recipe.features.kind is a builtin_function_or_method": _recipe(
        features={"kind": len}
    ),
    "labels have dtype int64": {"labels": np.zeros(6, np.int64)},
    r"shape \(5,\); expected int32": {"labels": np.zeros(5, np.int32)},
    r"label 3 is outside \[0, 3\)": {"labels": np.full(6, 3, np.int32)},
    "labels but no class_names": {"class_names": None},
    "class_names is": {"class_names": ["a", "b", "c"]},
    r"class_names is \(1, 2, 3\)": {"class_names": (1, 2, 3)},
    "unknown preprocessing 'pca'; known: none": _scaled(kind="pca"),
    r"mean has shape \(5,\), which does not broadcast": _scaled(mean=np.zeros(5)),
    r"std has shape \(2, 4, 4, 3\), which does not broadcast": _scaled(
        std=np.ones((2, 4, 4, 3))
    ),
    "std is not positive": _scaled(std=np.zeros(3)),
    "'standardize' has a whiten matrix": _scaled(ZCA, kind="standardize"),
    "'zca' has no unwhiten matrix": _scaled(ZCA, unwhiten=None),
    r"whiten has shape \(2, 2\); expected \(48, 48\)": _scaled(ZCA, whiten=np.eye(2)),
    "provenance.config.loss is a builtin_function_or_method": {
        "provenance": {"config": {"loss": len}}
    },
    r"provenance.seeds\[1\] is nan, which JSON does not have": {
        "provenance": {"seeds": [0, float("nan")]}
    },
    "certificate.radius is inf": {"certificate": {"radius": np.inf}},
    "provenance has the key 3, which is not a string": {"provenance": {3: 4}},
    "the document has a wrong type of provenance": {"provenance": ["kip"]},
    "certificate.a is a ndarray": {"certificate": {"a": np.zeros(2)}},
    "recursion": {"provenance": LOOP},
}
TABLE = table_set()


def _named(**changes):
    return {"columns": TABLE.columns._replace(**changes)}


def _of_targets(**changes):
    prep = TABLE.targets_preprocessing._replace(**changes)
    return {"targets_preprocessing": prep}


INVALID_TABLES = {
    "columns name 2 inputs; inputs have shape": _named(inputs=("a", "b")),
    "columns name 2 targets; there are 1": _named(targets=("a", "b")),
    "the name 'price' twice": _named(inputs=("price", "b", "c")),
    "columns hold 3, which is no name": _named(inputs=("a", 3, "c")),
    "a unit of 'volume', which is no column": _named(units={"volume": "l"}),
    "targets_preprocessing.std is not positive": _of_targets(std=np.zeros(1)),
    r"targets_preprocessing.mean has shape \(2,\)": _of_targets(mean=np.ones(2)),
    "unknown targets_preprocessing 'log'": _of_targets(kind="log"),
    "no targets_preprocessing and no columns": {"targets_kind": "representation"},
}


@pytest.mark.parametrize(
    ("base", "message", "changes"),
    [(BASE, *case) for case in INVALID.items()]
    + [(TABLE, *case) for case in INVALID_TABLES.items()],
)
def test_invalid_sets_are_not_saved(tmp_path, base, message, changes):
    with pytest.raises(Error, match=message) as caught:
        synthetic.save(tmp_path / "a", changed(base, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: cannot be saved: ")
    assert _names(tmp_path) == []


# --- what is not loaded --------------------------------------------------------------


def _saved(tmp_path):
    folder = synthetic.save(tmp_path / "set", BASE)
    (tensors,) = folder.glob("tensors-*")
    return folder, tensors


def _edit(folder, change):
    file = folder / files.DOCUMENT
    document = json.loads(file.read_text())
    document = change(document) or document
    file.write_text(json.dumps(document))


def _set(*keys, value):
    def change(document):
        *above, last = keys
        functools.reduce(dict.__getitem__, above, document)[last] = value

    return change


def _delete(*keys):
    def change(document):
        *above, last = keys
        del functools.reduce(dict.__getitem__, above, document)[last]

    return change


def _shape(name, value):
    return _set("arrays", name, "shape", value=value)


def _declare(name, shape):
    return _set("arrays", name, value={"dtype": "float32", "shape": shape})


WRONG_JSON = {
    "schema_version is 4, newer than 3, .* upgrade ddjax": _set(
        "schema_version", value=4
    ),
    "schema_version is True": _set("schema_version", value=True),
    "schema_version is 0": _set("schema_version", value=0),
    "schema_version is '1'": _set("schema_version", value="1"),
    "schema_version is None": _delete("schema_version"),
    "format is 'x', not 'ddjax distilled set'": _set("format", value="x"),
    "format is None": lambda document: {"hello": 1},
    "unknown keys: 'extra', 'other'": lambda document: {
        **document,
        "other": 1,
        "extra": 2,
    },
    "lacks keys: 'provenance', 'recipe'": lambda document: {
        k: v for k, v in document.items() if k not in ("provenance", "recipe")
    },
    "holds a list, not an object": lambda document: [document],
    "wrong type of digest: 5": _set("digest", value=5),
    "wrong type of arrays": _set("arrays", value=[]),
    "wrong type of provenance: None": _set("provenance", value=None),
    "wrong type of class_names": _set("class_names", value={"a": 1}),
    "class_names holds 1, which is not a string": _set("class_names", value=["a", 1]),
    "wrong type of certificate": _set("certificate", value="good"),
    "decoder has unknown keys: 'code'": _set("decoder", "code", value="import os"),
    "decoder lacks keys: 'settings'": _delete("decoder", "settings"),
    "wrong type of name": _set("decoder", "name", value=["pixels"]),
    "unknown decoder 'voxels'": _set("decoder", "name", value="voxels"),
    "decoder 'pixels' takes no 'a'; it takes: no settings": _set(
        "decoder", "settings", value={"a": 1}
    ),
    "extend_every": _set(
        "decoder", value={"name": "pyramid", "settings": {"extend_every": [1]}}
    ),
    "wrong type of recipe": _set("recipe", value=[]),
    "lacks keys: 'decoder', 'recipe'": lambda document: {
        **{k: v for k, v in document.items() if k not in ("decoder", "recipe")},
    },
    "has unknown keys: 'parameterization', 'targets_kind'": lambda document: {
        **document,
        "parameterization": document["decoder"],
        "targets_kind": "scores",
    },
    "preprocessing lacks keys: 'kind'": _set("preprocessing", value={}),
    "unknown array 'extra'": _declare("extra", [1]),
    r"stored array has the name '\.\./\.\./x'": _declare("stored.../../x", [1]),
    r"stored array has the name 'a\.\.b'": _declare("stored.a..b", [1]),
    "stored array a.a.a.a.a.a.a.a.a is nested deeper": _declare(
        "stored" + 9 * ".a", [1]
    ),
    "'stored.inputs' is also the beginning of 'stored.inputs.a.b'": _declare(
        "stored.inputs.a.b", [1]
    ),
    "unknown array 'targets'": _declare("targets", [6, 3]),
    "array stored.targets is described by 3": _set("arrays", "stored.targets", value=3),
    "array stored.targets lacks keys: 'shape'": _delete(
        "arrays", "stored.targets", "shape"
    ),
    r"array stored.targets has the shape \[-1\]": _shape("stored.targets", [-1]),
    r"array stored.targets has the shape \[6, 3.0\]": _shape(
        "stored.targets", [6, 3.0]
    ),
    r"array labels has the shape \[True\]": _shape("labels", [True]),
    "array 'preprocessing.std' is missing": _delete("arrays", "preprocessing.std"),
    "the file holds the arrays": _delete("arrays", "labels"),
    r"targets has dtype float32 and shape \[6, 3\], the JSON declares": _shape(
        "stored.targets", [3, 6]
    ),
    "stored.inputs has dtype float32": _set(
        "arrays", "stored.inputs", "dtype", value="float64"
    ),
    "one column for each of 2 classes": _set("class_names", value=["a", "b"]),
    "it was changed or damaged": _set("class_names", value=["a", "b", "d"]),
    "saved with 00: it was changed": _set("digest", value="00"),
    "names the tensor file '../tensors-0123456789abcdef.safetensors'": _set(
        "tensors", value="../tensors-0123456789abcdef.safetensors"
    ),
    "names the tensor file '/etc/passwd'": _set("tensors", value="/etc/passwd"),
    "names the tensor file None": _delete("tensors"),
    r"names the tensor file \['a'\]": _set("tensors", value=["a"]),
    "there is no such file": _set(
        "tensors", value="tensors-0123456789abcdef.safetensors"
    ),
}


WRONG_TABLES = {
    "targets_preprocessing lacks keys: 'kind'": _set("targets_preprocessing", value={}),
    "wrong type of targets_preprocessing": _set("targets_preprocessing", value=1),
    "columns lacks keys: 'units'": _set("columns", value={"inputs": [], "targets": []}),
    "columns hold 1, which is no name": _set("columns", "inputs", value=[1, "b", "c"]),
    r"columns hold \['a'\], which is no name": _set(
        "columns", "inputs", value=[["a"], "b", "c"]
    ),
    "it was changed or damaged": _set("targets_preprocessing", value=None),
}


@pytest.mark.parametrize(
    ("base", "message", "change"),
    [(BASE, *case) for case in WRONG_JSON.items()]
    + [(TABLE, *case) for case in WRONG_TABLES.items()],
)
def test_wrong_documents(tmp_path, base, message, change):
    folder = synthetic.save(tmp_path / "set", base)
    _edit(folder, change)
    with pytest.raises(Error, match=message) as caught:
        synthetic.load(folder)
    assert str(folder) in str(caught.value)


WRONG_TEXT = {
    "not JSON": b"{",
    "not JSON: Expecting value": b"",
    "not UTF-8": b"\xff\xfe{}",
    "has the key 'a' twice": b'{"a": 1, "a": 2}',
    "the number NaN, which is not finite": b'{"a": NaN}',
    "the number -Infinity": b'{"a": -Infinity}',
    "the number 1e999": b'{"a": 1e999}',
    "nested too deeply": b"[" * 100_000,
    "4300 digits": b"1" * 5000,
    "holds a int, not an object": b"3",
}


@pytest.mark.parametrize("message", WRONG_TEXT)
def test_wrong_text(tmp_path, message):
    folder, _ = _saved(tmp_path)
    (folder / files.DOCUMENT).write_bytes(WRONG_TEXT[message])
    with pytest.raises(Error, match=message) as caught:
        synthetic.load(folder)
    assert str(folder / files.DOCUMENT) in str(caught.value)


def test_a_document_of_absurd_size(tmp_path):
    folder, _ = _saved(tmp_path)
    os.truncate(folder / files.DOCUMENT, 2**40)  # sparse: takes no room
    with pytest.raises(Error, match="larger than"):
        synthetic.load(folder)


def test_missing_files(tmp_path):
    with pytest.raises(Error, match="no such file or folder"):
        synthetic.load(tmp_path / "nothing")
    with pytest.raises(Error, match=r"there is no distilled.json in this folder"):
        synthetic.load(tmp_path)
    synthetic.save(tmp_path / "run" / "distilled", distilled_set())
    with pytest.raises(Error, match=r"run: there is no distilled.json .*run/distilled"):
        synthetic.load(tmp_path / "run")
    folder, tensors = _saved(tmp_path)
    tensors.unlink()
    with pytest.raises(Error, match=f"{tensors.name}: there is no such file"):
        synthetic.load(folder)
    single = tmp_path / "pipe.safetensors"
    for pipe, path in ((tensors, folder), (single, single)):
        os.mkfifo(pipe)
        with pytest.raises(Error, match="there is no such file"):
            synthetic.load(path)


def test_sets_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    folder, tensors = _saved(tmp_path)
    single, torch = tmp_path / "a.safetensors", tmp_path / "a.pt"
    for written, path in ((single, single), (torch, torch), (tensors, folder)):
        written.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(Error, match="not a valid safetensors file"):
            synthetic.load(path)
    assert not (tmp_path / "boom").exists()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damage_is_always_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    synthetic.save(path, distilled_set())
    good = path.read_bytes()
    where = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(good[:where])
    else:
        bad = bytearray(good)
        bad[where] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(bytes(bad))
    try:
        loaded = synthetic.load(path)
    except Error as error:
        assert str(path) in str(error)
    else:
        # Flips that are left: within the provenance, which no digest covers.
        assert synthetic.digest(loaded) == synthetic.digest(distilled_set())


def _crafted(header: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _one_tensor(shape, end):
    """Of float32, in a file that holds 64 bytes of data."""
    return _crafted({"targets": _tensor("F32", shape, 0, end)}, bytes(64))


HUGE = 2**50
CRAFTED = {
    "a terabyte that is not there": _one_tensor([HUGE], 4 * HUGE),
    "offsets that do not fit the shape": _one_tensor([HUGE], 64),
    "a shape that overflows": _one_tensor([2**62, 2**62], 64),
    "a negative size": _one_tensor([-4], 64),
    "a header longer than the file": _crafted({}, length=2**62),
    "bytes that nobody owns": _one_tensor([4], 16),
    "overlapping tensors": _crafted(
        {
            "targets": _tensor("F32", [8], 0, 32),
            "labels": _tensor("I32", [8], 16, 48),
        },
        bytes(48),
    ),
    "seven bytes": b"1234567",
    "no bytes": b"",
}


@pytest.mark.parametrize("what", CRAFTED)
@pytest.mark.parametrize("form", ["folder", "single"])
def test_crafted_headers(tmp_path, what, form):
    folder, tensors = _saved(tmp_path)
    path = folder if form == "folder" else tensors
    tensors.write_bytes(CRAFTED[what])
    with pytest.raises(Error, match=f"{tensors.name}: not a valid safetensors file"):
        synthetic.load(path)


ARRAYS = {f"stored.{name}": array for name, array in BASE.stored.items()} | {
    "labels": BASE.labels,
    "preprocessing.mean": PREP.mean,
    "preprocessing.std": PREP.std,
}
WRONG_ARRAYS = {
    r"the file holds the arrays \['evil'\]": {"evil": np.zeros(3, np.float32)},
    "labels has dtype I64; allowed: F16": {**ARRAYS, "labels": np.zeros(6, np.int64)},
    "stored.inputs is not finite: 1 of 288": {**ARRAYS, "stored.inputs": _nan(INPUTS)},
    "it was changed or damaged": {**ARRAYS, "stored.targets": TARGETS + 1},
}


@pytest.mark.parametrize("message", WRONG_ARRAYS)
def test_arrays_that_do_not_belong(tmp_path, message):
    folder, tensors = _saved(tmp_path)
    tensors.write_bytes(safetensors_bytes(WRONG_ARRAYS[message]))
    with pytest.raises(Error, match=message):
        synthetic.load(folder)
    with pytest.raises(Error, match=r"metadata has the keys \[\], not \['ddjax'\]"):
        synthetic.load(tensors)


def test_provenance_is_json_and_repeats(tmp_path):
    given = {"method": "kip", "settings": {"ridge": 0.1}, "seeds": {"run": 3}}
    one, two = (synthetic.provenance(blobs(), **given) for _ in range(2))
    assert one == two and "config" not in one
    synthetic.save(tmp_path / "a", distilled_set(provenance=one))
    loaded = synthetic.load(tmp_path / "a").provenance
    assert loaded["data"]["fingerprint"] == "0" * 64
    assert loaded["data"]["identity"] == problem_identity(blobs())
    assert loaded["versions"]["jax"] == jax.__version__
    assert {key: loaded[key] for key in given} == given
    configured = synthetic.provenance(blobs(), **given, config={"a": 1})
    assert configured["config"] == {"a": 1}
