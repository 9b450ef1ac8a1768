"""Caches: the right result is found, no other one is, and damage is noticed."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.storage.cache import Cache, in_memory, no_cache, on_disk
from tests.storage.waiting import held_until_waited_for

SETTINGS = {"data": "0f1e", "ridge": 1e-3, "sizes": (3, 4), "names": {"a": None}}


def _result():
    return {
        "weights": jnp.arange(6, dtype=jnp.float32).reshape(2, 3).T,
        "norm": jnp.float32(2.5),
        "labels": np.arange(3, dtype=np.int32),
        "half": jnp.ones((2,), jnp.bfloat16),
        "double": np.linspace(0, 1, 5),
        "key": jax.random.key_data(jax.random.key(7)),
        "empty": np.zeros((0, 2), np.float32),
    }


def _must_not_compute():
    raise AssertionError("computed although it was kept")


def _assert_equal(found):
    chex.assert_trees_all_equal(dict(found), _result(), strict=True)


def _file(folder):
    (path,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    return path


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    return in_memory() if request.param == "memory" else on_disk(tmp_path / "cache")


def test_all_are_caches(cache):
    assert isinstance(cache, Cache) and isinstance(no_cache, Cache)


def test_computed_once(cache):
    _assert_equal(cache("reference", SETTINGS, _result))
    _assert_equal(cache("reference", SETTINGS, _must_not_compute))


def test_no_cache_computes_every_time():
    calls = []
    for _ in range(2):
        _assert_equal(no_cache("reference", {}, lambda: calls.append(1) or _result()))
    assert len(calls) == 2


def test_another_process_finds_it(tmp_path):
    on_disk(tmp_path / "cache")("reference", SETTINGS, _result)
    _assert_equal(on_disk(tmp_path / "cache")("reference", SETTINGS, _must_not_compute))
    name = _file(tmp_path / "cache").name
    assert name.startswith("reference-") and name.endswith(".safetensors")


def test_order_and_tuples_make_no_difference(cache):
    cache("reference", SETTINGS, _result)
    same = {"names": {"a": None}, "sizes": [3, 4], "ridge": 0.001, "data": "0f1e"}
    _assert_equal(cache("reference", same, _must_not_compute))


@pytest.mark.parametrize(
    "change",
    [
        {"ridge": 10.0},
        {"data": "1f1e"},
        {"sizes": (4, 3)},
        {"names": {"a": 0}},
        {"more": None},
    ],
)
def test_a_result_of_other_dependencies_is_not_used(cache, change):
    """Results were once known by their names alone, and a stale one was used."""
    cache("reference", SETTINGS, _result)
    other = {"norm": np.asarray(3.0, np.float32)}
    found = cache("reference", SETTINGS | change, lambda: other)
    assert found.keys() == {"norm"} and float(found["norm"]) == 3.0
    _assert_equal(cache("reference", SETTINGS, _must_not_compute))
    assert cache("another", SETTINGS, lambda: other).keys() == {"norm"}


def test_numbers_that_are_not_finite_are_dependencies_as_others(cache):
    for value in (math.nan, math.inf, -math.inf):
        found = cache("reference", {"x": value}, lambda v=value: {"v": np.asarray(v)})
        np.testing.assert_array_equal(found["v"], value)
    for value in (math.nan, math.inf, -math.inf):
        found = cache("reference", {"x": value}, _must_not_compute)
        np.testing.assert_array_equal(found["v"], value)


def test_double_precision_is_kept(cache):
    with jax.enable_x64(True):
        made = {"x": jnp.linspace(0.0, 1.0, 7) / 3}
        cache("reference", {}, lambda: made)
        found = cache("reference", {}, _must_not_compute)
    assert found["x"].dtype == np.float64
    np.testing.assert_array_equal(np.asarray(found["x"]), np.asarray(made["x"]))


def test_what_a_caller_does_to_the_mapping_stays_with_the_caller(cache):
    made = _result()
    cache("reference", {}, lambda: made)["weights"] = np.zeros(1)
    made.clear()
    cache("reference", {}, _must_not_compute).clear()
    _assert_equal(cache("reference", {}, _must_not_compute))


@pytest.mark.parametrize("how", ["cut", "flip", "empty"])
def test_damaged_is_computed_anew(tmp_path, how):
    on_disk(tmp_path)("reference", SETTINGS, _result)
    path = _file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"cut": content[:-3], "flip": content, "empty": b""}[how])
    left = tmp_path / f".{path.name}.saving-0123456789abcdef"
    left.write_bytes(b"of a killed writer")
    with pytest.warns(UserWarning, match="reference-.*safetensors .*computing it anew"):
        _assert_equal(on_disk(tmp_path)("reference", SETTINGS, _result))
    _assert_equal(on_disk(tmp_path)("reference", SETTINGS, _must_not_compute))
    assert not left.exists()


def test_a_failed_computation_leaves_nothing(cache, tmp_path):
    with pytest.raises(AssertionError):
        cache("reference", {}, _must_not_compute)
    assert not (tmp_path / "cache").exists()
    _assert_equal(cache("reference", {}, _result))


def test_nested(tmp_path):
    cache = on_disk(tmp_path)

    def outer():
        inner = cache("inner", {}, _result)
        return {"sum": jnp.sum(jnp.asarray(inner["weights"]))}

    assert float(cache("outer", {}, outer)["sum"]) == 15.0
    names = sorted(path.name.split("-")[0] for path in tmp_path.glob("*.safe*"))
    assert names == ["inner", "outer"]


def test_two_that_share_a_folder_do_not_sweep_away_each_other(tmp_path, monkeypatch):
    cache = on_disk(tmp_path)
    cache("first", {}, _result)
    (said,), found = held_until_waited_for(
        monkeypatch, tmp_path, lambda: cache("second", {}, _result)
    )
    assert "in use by process" in said and found.keys() == _result().keys()


def test_what_is_too_large_for_the_disk_is_computed_each_time(tmp_path):
    size = sum(np.asarray(array).nbytes for array in _result().values())
    calls = []
    for limit, expected in ((size - 1, 2), (size, 3)):
        for _ in range(2):
            on_disk(tmp_path / "cache", limit=limit)(
                "reference", {}, lambda: calls.append(1) or _result()
            )
        assert len(calls) == expected
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 1


def test_memory_drops_what_was_not_asked_for_longest():
    cache = in_memory(limit=80)  # two arrays of five doubles
    calls = []

    def ask(number):
        cache("x", {"n": number}, lambda: calls.append(number) or _five(number))

    def _five(number):
        return {"x": np.full(5, float(number))}

    for number in (0, 1, 0, 2, 0, 2, 1):
        ask(number)
    assert calls == [0, 1, 2, 1]
    # What is over the limit by itself is not kept, and drops nothing.
    cache("large", {}, lambda: {"x": np.zeros(100)})
    cache("x", {"n": 1}, _must_not_compute)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "-x", "a b"])
def test_names_that_are_refused(cache, name):
    with pytest.raises(ValueError, match=r"is not made of \[A-Za-z0-9_\.=-\]"):
        cache(name, {}, _result)


@pytest.mark.parametrize(
    "value", [np.float32(1), np.arange(2), {1, 2}, object(), {"a": b"x"}]
)
def test_dependencies_that_are_refused(cache, value):
    with pytest.raises(ValueError, match="'reference' depends on is not JSON-able"):
        cache("reference", {"value": value}, _result)
