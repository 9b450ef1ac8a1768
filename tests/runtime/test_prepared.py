"""Prepared results: computed once, checked when read."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.runtime.prepared import on_disk


def _result():
    return {
        "weights": jnp.arange(6, dtype=jnp.float32).reshape(2, 3).T,
        "norm": jnp.float32(2.5),
        "labels": np.arange(3, dtype=np.int32),
        "half": jnp.ones((2,), jnp.bfloat16),
        "empty": np.zeros((0, 2), np.float32),
    }


def _must_not_compute():
    raise AssertionError("computed although it was stored")


def _assert_equal(found):
    expected = _result()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(array))


def test_computed_once(tmp_path):
    remember = on_disk(tmp_path / "prepared")
    _assert_equal(remember("reference", _result))
    _assert_equal(on_disk(tmp_path / "prepared")("reference", _must_not_compute))
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == [
        "reference.safetensors"
    ]


@pytest.mark.parametrize("how", ["cut", "flip", "empty"])
def test_damaged_is_computed_anew(tmp_path, how):
    on_disk(tmp_path)("reference", _result)
    path = tmp_path / "reference.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"cut": content[:-3], "flip": content, "empty": b""}[how])
    left = tmp_path / ".reference.safetensors.saving-0123456789abcdef"
    left.write_bytes(b"of a killed writer")
    with pytest.warns(UserWarning, match="reference.safetensors .*computing it anew"):
        _assert_equal(on_disk(tmp_path)("reference", _result))
    _assert_equal(on_disk(tmp_path)("reference", _must_not_compute))
    assert not left.exists()


def test_a_failed_computation_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError):
        on_disk(tmp_path / "p")("reference", _must_not_compute)
    assert not (tmp_path / "p").exists()


def test_nested(tmp_path):
    remember = on_disk(tmp_path)

    def outer():
        inner = remember("inner", _result)
        return {"sum": jnp.sum(inner["weights"])}

    assert float(remember("outer", outer)["sum"]) == 15.0
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["inner", "outer"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden"])
def test_bad_name(tmp_path, name):
    with pytest.raises(ValueError, match="prepared result"):
        on_disk(tmp_path)(name, _result)
