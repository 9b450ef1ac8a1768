"""MTT and DATM against the student's steps written out; the window of starts."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddjax import methods
from ddjax.data.feed import Batches
from ddjax.methods import experts, trajectory_matching
from ddjax.methods.trajectory_matching import Starts, latest_start
from ddjax.models import networks
from tests.methods.runs import distilled, drawn, in_double, prepared, progress, run

# The name in the package is that of the factory.
DATM = importlib.import_module("ddjax.methods.datm")
SMALL = {
    "architecture": "fully_connected",
    "settings": {"depth": 2, "width": 4},
    "student_steps": 2,
    "expert_epochs": 1,
    "step_size": 0.2,
    "augment": None,
    "experts": {"experts": 2, "epochs": 4, "batch_size": 100, "learning_rate": 0.3},
}
PLAIN = {
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "rates": {"targets": 0.01, "log_step_size": 0.25},
    "settings": {"momentum": 0.0},
}
METHODS = {
    "mtt": functools.partial(methods.mtt, max_start=0),
    "datm": functools.partial(
        methods.datm, min_start=2, first_max_start=2, max_start=2
    ),
}


def written_out(learned, start, target, rows, network, unravel):
    inputs, targets = (learned["stored"][name] for name in ("inputs", "targets"))
    params = unravel(start)
    for chosen in rows:

        def loss(params, chosen=chosen):
            outputs = network.apply({"params": params}, inputs[chosen])
            return -jnp.mean(
                jnp.sum(targets[chosen] * jax.nn.log_softmax(outputs), axis=1)
            )

        slopes = jax.grad(loss)(params)
        size = jnp.exp(learned["log_step_size"])
        params = jax.tree.map(lambda p, g, size=size: p - size * g, params, slopes)
    gap = ravel_pytree(params)[0] - target
    return jnp.sum(gap**2) / jnp.sum((start - target) ** 2)


@pytest.mark.parametrize(("name", "batch"), [("datm", 2), ("mtt", None)])
def test_a_step_follows_the_gradient_of_the_written_out_steps(
    three_classes, name, batch
):
    with jax.enable_x64(True):
        method = METHODS[name](**SMALL, student_batch=batch, descent=PLAIN)
        data, state = prepared(method, in_double(three_classes))
        seen, key = drawn(data), jax.random.key(3)
        after, metrics = jax.jit(method.step)(state, seen, key, progress())

        count = len(state.learned["stored"]["inputs"])
        rows = [jnp.arange(count)] * 2
        if batch is not None:
            _, student_key = jax.random.split(key)
            rows_key, _ = jax.random.split(student_key)
            rows = trajectory_matching.rows_of_steps(
                rows_key, count=count, batch_size=batch, steps=2
            )
        network = networks.make("fully_connected", outputs=3, depth=2, width=4)
        unravel = experts.unraveler(network, three_classes.train.inputs)
        # One start is possible: the first of the epochs that are kept.
        (along,) = jnp.asarray(seen.experts.inputs)
        assert len(along) == 2 and along.dtype == jnp.float64
        loss = functools.partial(
            written_out, rows=rows, network=network, unravel=unravel
        )
        value, slopes = jax.jit(jax.value_and_grad(loss))(state.learned, *along)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-10)
        moved = jax.tree.map(lambda new, old: old - new, after.learned, state.learned)
        np.testing.assert_allclose(
            moved["stored"]["inputs"], slopes["stored"]["inputs"], rtol=1e-7, atol=1e-12
        )
        np.testing.assert_allclose(
            moved["log_step_size"], 0.25 * slopes["log_step_size"], rtol=1e-8
        )
        targets = state.learned["stored"]["targets"]
        if name == "mtt":
            assert set(np.unique(targets)) == {0.0, 1.0}
            assert not moved["stored"]["targets"].any()
        else:
            wanted = targets - 0.01 * slopes["stored"]["targets"]
            inside = wanted + (1 - wanted.sum(axis=1, keepdims=True)) / 3
            assert inside.min() > 0
            np.testing.assert_allclose(
                after.learned["stored"]["targets"], inside, rtol=1e-9
            )


def test_the_window_grows_with_the_run():
    def latest(starts, steps=10):
        return [int(latest_start(starts, progress(at, steps))) for at in range(steps)]

    assert latest(Starts(0, 2, 2, 1.0)) == [2] * 10
    assert latest(Starts(1, 1, 5, 1.0)) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert latest(Starts(0, 0, 4, 0.5)) == [0, 1, 2, 3, 4, 4, 4, 4, 4, 4]


def test_experts_that_do_not_fit_stay_on_disk(three_classes, monkeypatch, tmp_path):
    method = methods.mtt(**SMALL, max_start=1, experts_directory=str(tmp_path))
    here, _ = prepared(method, three_classes)
    monkeypatch.setattr(trajectory_matching, "DEVICE_BYTES", 0)
    there, _ = prepared(method, three_classes)
    assert isinstance(there.experts.split.inputs, np.memmap)
    np.testing.assert_array_equal(here.experts.split.inputs, there.experts.split.inputs)


def test_students_start_inside_the_window_and_with_an_experts_labels(three_classes):
    method = methods.datm(
        **SMALL, per_class=2, min_start=1, first_max_start=1, max_start=3
    )
    assert method.follows_length
    data, start, state, metrics = run(method, three_classes, steps=60)
    epochs = np.asarray(metrics["start_epoch"])
    assert set(epochs[:20]) == {1.0} and set(epochs[20:40]) == {1.0, 2.0}
    assert set(epochs[40:]) == {1.0, 2.0, 3.0}
    assert isinstance(data.experts, Batches) and data.experts.batch_size == 1
    assert data.experts.split.inputs.shape[:2] == (2, 4)
    stored, labels = start.learned["stored"], np.asarray(start.labels)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(stored["targets"].sum(axis=1), 1.0, rtol=1e-5)
    # Experts of four epochs get some of every class right, and those are taken.
    assert np.argmax(stored["targets"], axis=1).tolist() == labels.tolist()
    assert float(np.max(stored["targets"])) < 1.0
    made = distilled(method, three_classes, data, state)
    rate = float(np.exp(state.learned["log_step_size"]))
    assert made.recipe["inner"]["learning_rate"] == pytest.approx(rate)
    assert np.abs(made.stored["targets"] - stored["targets"]).max() > 0


def test_a_class_that_no_expert_gets_right_starts_from_all(three_classes):
    labels = np.asarray(three_classes.train.labels)
    guess = np.eye(3)[np.where(labels == 2, 0, labels)]
    data = trajectory_matching.TrajectoryData(three_classes.train, {}, guess)
    rows = DATM._chosen(
        jax.random.key(0),
        three_classes,
        data,
        per_class=2,
        initialization="balanced",
    )
    assert labels[rows].tolist() == [0, 0, 1, 1, 2, 2]


def test_batches_of_the_set():
    rows = trajectory_matching.rows_of_steps(
        jax.random.key(0), count=7, batch_size=3, steps=5
    )
    assert rows.shape == (5, 3)
    # No sample twice in the two batches of an order.
    for order in (rows[:2], rows[2:4]):
        assert len(set(np.ravel(order).tolist())) == 6


def test_an_expert_that_stood_still_gives_no_nan():
    still = jnp.zeros(3)
    value = trajectory_matching.normalized_distance(still, still, still)
    assert float(value) == 0.0
