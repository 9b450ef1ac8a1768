"""Rows in shards: any shape and dtype, resumed, checked, and refused where wrong."""

import hashlib
import json
import shutil
import warnings

import numpy as np
import pytest

from ddjax.storage import exclusive
from ddjax.storage.shards import NotEnoughSpace, filling, sharded_rows
from tests.storage.waiting import held_until_waited_for

KEY = {"what": "tests", "sizes": (1, 2)}


def values(rows, *, shape=(3,), dtype="float32"):
    """Each row by itself, the same however rows are cut into shards."""
    made = [np.random.default_rng(row).uniform(0, 9, shape) for row in rows]
    return np.asarray(made).astype(dtype)


def build(directory, *, count=21, shape=(3,), dtype="float32", key=KEY, **settings):
    """The rows, and the shards that were computed for them."""
    described = sharded_rows(
        directory,
        key,
        shape=(count, *shape),
        dtype=dtype,
        **{"shard_rows": 8} | settings,
    )
    computed = []
    with filling(described) as pending:
        for shard in pending:
            places = described.rows(shard)
            computed.append(shard)
            described.write(shard, values(places, shape=shape, dtype=dtype))
    return described, described.open(), computed


@pytest.mark.parametrize("count", [1, 8, 21])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3,), "float32"), ((2, 2), "float64"), ((), "int32"), ((4,), "uint8")],
)
def test_rows_are_what_was_written(tmp_path, count, shape, dtype):
    settings = {"count": count, "shape": shape, "dtype": dtype}
    described, found, computed = build(tmp_path, **settings)
    assert computed == list(range(-(-count // 8)))
    expected = values(range(count), shape=shape, dtype=dtype)
    assert found.dtype == expected.dtype and not found.flags.writeable
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.load(described.folder / "rows.npy"), expected)
    assert described.nbytes == expected.nbytes
    _, again, computed = build(tmp_path, **settings)
    assert not computed
    np.testing.assert_array_equal(again, expected)


def test_other_keys_and_shards_are_other_rows(tmp_path):
    build(tmp_path)
    assert not build(tmp_path, key={"sizes": [1, 2], "what": "tests"})[2]
    for number, other in enumerate(
        [{"key": {**KEY, "seed": 1}}, {"key": {}}, {"shard_rows": 4}]
    ):
        assert build(tmp_path, **other)[2]
        assert len(list(tmp_path.iterdir())) == number + 2


def test_the_same_key_with_another_shape_is_computed_anew(tmp_path):
    """The key should say it; where it does not, the header of the file does."""
    build(tmp_path)
    with pytest.warns(UserWarning, match="of other rows; computing everything anew"):
        _, found, computed = build(tmp_path, shape=(4,))
    assert computed == [0, 1, 2]
    np.testing.assert_array_equal(found, values(range(21), shape=(4,)))


def test_what_is_interrupted_goes_on(tmp_path):
    described = sharded_rows(tmp_path, KEY, shape=(21, 3), shard_rows=8)
    with pytest.raises(KeyboardInterrupt), filling(described) as pending:
        assert pending == [0, 1, 2]
        # In any order.
        described.write(2, values(described.rows(2)))
        raise KeyboardInterrupt
    _, found, computed = build(tmp_path)
    assert computed == [0, 1]
    np.testing.assert_array_equal(found, values(range(21)))


def test_damaged_shards_are_pending(tmp_path):
    described, found, _ = build(tmp_path)
    content = bytearray((described.folder / "rows.npy").read_bytes())
    content[128 + 12 * 9] ^= 1
    (described.folder / "rows.npy").write_bytes(content[:-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert described.pending(warn=False) == [1, 2]
    with pytest.warns(UserWarning) as told:
        _, found, computed = build(tmp_path)
    for rows, warning in zip(("8 to 15", "16 to 20"), told, strict=True):
        assert f"rows {rows} are not what was written" in str(warning.message)
    assert computed == [1, 2]
    np.testing.assert_array_equal(found, values(range(21)))


def nan_with_a_checksum_that_fits(path, manifest):
    rows = np.load(path)
    rows[3, 2] = np.nan
    np.save(path, rows)
    manifest["shards"]["0"] = hashlib.sha256(rows[:8].tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("damage", "warning", "anew"),
    [
        (nan_with_a_checksum_that_fits, ["rows 0 to 7 are not what was written"], [0]),
        (lambda _, manifest: manifest["key"].clear(), ["of other rows"], [0, 1, 2]),
        (lambda path, _: path.unlink(), [], [0, 1, 2]),
    ],
)
def test_other_files_are_not_taken_for_the_rows(tmp_path, damage, warning, anew):
    described, _, _ = build(tmp_path)
    path = described.folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    damage(described.folder / "rows.npy", manifest)
    path.write_text(json.dumps(manifest))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, found, computed = build(tmp_path)
    assert computed == anew
    for words, each in zip(warning, told, strict=True):
        assert words in str(each.message)
    np.testing.assert_array_equal(found, values(range(21)))


def test_an_open_map_outlives_a_rebuild(tmp_path):
    described, found, _ = build(tmp_path)
    before = np.array(found)
    (described.folder / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match="computing everything anew"):
        with filling(described) as pending:
            described.write(pending[0], values(described.rows(0)) + 1)
    np.testing.assert_array_equal(found, before)


def test_one_process_fills_and_anyone_reads(tmp_path, monkeypatch):
    described, _, _ = build(tmp_path)
    with exclusive(described.folder):
        assert not build(tmp_path)[2]
    manifest = json.loads((described.folder / "manifest.json").read_bytes())
    del manifest["shards"]["1"]
    (described.folder / "manifest.json").write_text(json.dumps(manifest))
    (said,), (_, found, computed) = held_until_waited_for(
        monkeypatch, described.folder, lambda: build(tmp_path)
    )
    assert str(described.folder) in said and computed == [1]
    np.testing.assert_array_equal(found, values(range(21)))


def test_too_little_space_is_noticed_before_anything_is_computed(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=21 * 12 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NotEnoughSpace, match=r"rows.npy takes .* MiB for 21 rows, and"):
        build(tmp_path)


def test_values_that_do_not_belong_are_refused(tmp_path):
    described = sharded_rows(tmp_path, KEY, shape=(21, 3), shard_rows=8)
    wrong = np.zeros((8, 3), np.float32)
    wrong[5, 1] = np.nan
    with filling(described) as pending:
        with pytest.raises(ValueError, match=r"shard 2 has shape \(5, 3\).*\(8, 3\)"):
            described.write(2, np.zeros((8, 3), np.float32))
        with pytest.raises(ValueError, match="dtype float32, got .* float64"):
            described.write(0, np.zeros((8, 3)))
        with pytest.raises(
            ValueError, match="row 13 holds numbers that are not finite"
        ):
            described.write(1, wrong)
        assert described.pending() == pending


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard_rows": 0}, "shard_rows=0"),
        ({"shape": (0, 3)}, r"shape=\(0, 3\)"),
        ({"shape": ()}, r"shape=\(\)"),
        ({"dtype": "object"}, "dtype='object'"),
        ({"key": {"x": object()}}, "not JSON-able"),
        ({"key": {"x": float("nan")}}, "not JSON-able"),
    ],
)
def test_mistakes_are_named(tmp_path, settings, message):
    settings = {"key": KEY, "shape": (4, 3)} | settings
    with pytest.raises(ValueError, match=message):
        sharded_rows(tmp_path, settings.pop("key"), **settings)
