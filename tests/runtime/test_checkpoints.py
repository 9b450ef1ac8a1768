"""Checkpoints: exact, checked, and the newest sound one wins."""

import logging
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax.runtime.checkpoints import CheckpointStore
from ddjax.storage import CannotWrite


class _State(NamedTuple):
    stored: dict
    optimizer: object
    key: jax.Array
    nothing: None = None


def _state(value: float) -> _State:
    stored = {
        "x": jnp.full((2, 3), value),
        "empty": jnp.zeros((0, 4)),
        "flag": jnp.asarray(True),
        "half": jnp.asarray([value], jnp.bfloat16),
    }
    optimizer = optax.adam(1e-3).init({"x": stored["x"]})
    return _State(stored, optimizer, jax.random.key(int(value)))


def _assert_equal(one, other):
    def same(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    jax.tree.map(same, one, other)


@pytest.fixture
def store(tmp_path):
    """Checkpoints of steps 1, 2 and 3, the newest two of which are kept."""
    made = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3):
        made.save(step, _state(step), {"best": 1 / 3, "nan": float("nan"), "no": None})
    made.wait()
    yield made
    made.close()


def test_round_trip(store, tmp_path):
    assert store.steps() == [2, 3]
    assert store.latest() == tmp_path / "checkpoints" / "3"
    found = store.restore(_state(0))
    assert (
        found.step == 3 and found.facts["best"] == 1 / 3 and found.facts["no"] is None
    )
    _assert_equal(found.tree, _state(3))
    store.save(3, _state(7), {})
    store.wait()
    _assert_equal(store.restore(_state(0)).tree, _state(7))


def test_save_copies_before_it_returns(tmp_path):
    """The next chunk overwrites donated buffers while the thread still writes."""
    store = CheckpointStore(tmp_path, keep=1)
    state = jnp.arange(100_000, dtype=jnp.float32)
    expected = np.array(state)
    store.save(1, {"x": state}, {})
    overwrite = jax.jit(lambda x: -x, donate_argnums=0)
    for _ in range(3):
        state = overwrite(state)
    store.wait()
    found = store.restore({"x": jnp.zeros(100_000)})
    np.testing.assert_array_equal(np.asarray(found.tree["x"]), expected)
    store.close()


def _flip_a_byte(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    largest = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)


def _truncate(folder):
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size > 10:
            file.write_bytes(file.read_bytes()[:10])


def _change_a_fact(folder):
    for file in (folder / "facts").iterdir():
        file.write_text(file.read_text().replace("0.3333", "0.4333"))


def _remove_arrays(folder):
    for file in (folder / "arrays").rglob("*"):
        if file.is_file():
            file.unlink()


@pytest.mark.parametrize(
    "damage", [_flip_a_byte, _truncate, _change_a_fact, _remove_arrays]
)
def test_damaged_newest_falls_back(store, tmp_path, damage):
    damage(tmp_path / "checkpoints" / "3")
    with pytest.warns(UserWarning, match=r"checkpoints/3 is damaged .*damaged/checkpo"):
        found = store.restore(_state(0))
    assert found.step == 2
    _assert_equal(found.tree, _state(2))
    # The step can be saved again.
    store.save(3, _state(3), {})
    store.wait()
    assert store.steps() == [2, 3] and store.restore(_state(0)).step == 3


def test_unfinished_folders(tmp_path):
    (tmp_path / "c" / "5").mkdir(parents=True)
    (tmp_path / "c" / "6.orbax-checkpoint-tmp").mkdir()
    store = CheckpointStore(tmp_path / "c", keep=1)
    with pytest.warns(UserWarning, match="c/5 is damaged"):
        assert store.restore(_state(0)) is None
    for step in (5, 6):
        store.save(step, _state(step), {})
    assert store.restore(_state(0)).step == 6
    store.close()


def test_other_state_is_an_error(store):
    other = _state(0)._replace(stored={"x": jnp.zeros((2, 4)), "y": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"does not fit this run's state: \.stored"):
        store.restore(other)
    assert store.steps() == [2, 3]


def test_a_full_disk_is_one_error(store, tmp_path, monkeypatch, caplog):
    """Orbax's threads logged up to eighteen tracebacks besides."""
    words = "RESOURCE_EXHAUSTED: Failed writing: No space left on device"

    def fails(*_, **__):
        raise ValueError(words)

    with monkeypatch.context() as patched:
        patched.setattr(store._manager, "save", fails)
        with pytest.raises(CannotWrite, match="checkpoints cannot be written: No spac"):
            store.save(4, _state(4), {})
    for name in ("absl", "asyncio"):
        try:
            fails()
        except ValueError:
            logging.getLogger(name).exception("a thread failed")
        logging.getLogger(name).error("another matter")
    assert [record.message for record in caplog.records] == ["another matter"] * 2
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CannotWrite, match=r"takes up to 1.0 MiB.*has 0.0 MiB left"):
        store.save(4, _state(4), {})
    assert store.steps() == [2, 3]
