"""Expert trajectories: the steps written out, kept, shared, and gone on with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddjax.data.feed import Batches, rows_of_step
from ddjax.methods import experts
from ddjax.methods.experts import ExpertTraining
from ddjax.models import networks
from ddjax.storage.cache import in_memory

NETWORK = {"architecture": "fully_connected", "settings": {"depth": 2, "width": 4}}
TRAINING = ExpertTraining(
    experts=2, epochs=3, learning_rate=0.2, momentum=0.5, batch_size=100
)


def test_a_trajectory_is_that_of_the_written_out_steps(three_classes):
    found = experts.trajectories(three_classes, TRAINING, **NETWORK)
    real, expert = three_classes.train, 1
    network = networks.make("fully_connected", outputs=3, depth=2, width=4)
    key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), expert))
    params, _ = networks.started(key, network, real.inputs[:1])
    velocity = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def gradient(params, inputs, labels):
        def loss(params):
            outputs = jax.nn.log_softmax(network.apply({"params": params}, inputs))
            return -jnp.mean(outputs[jnp.arange(len(labels)), labels])

        return jax.grad(loss)(params)

    seed = int(np.random.SeedSequence((0, expert)).generate_state(1)[0])
    np.testing.assert_array_equal(found[expert, 0], ravel_pytree(params)[0])
    number = len(real.inputs) // 100
    for epoch in range(3):
        for step in range(number):
            rows = rows_of_step(
                Batches(real, 100), seed=seed, step=epoch * number + step
            )
            slopes = gradient(params, real.inputs[rows], real.labels[rows])
            velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, slopes)
            params = jax.tree.map(lambda p, v: p - 0.2 * v, params, velocity)
        np.testing.assert_allclose(
            found[expert, epoch + 1], ravel_pytree(params)[0], rtol=1e-4, atol=1e-5
        )
    assert found.shape == (2, 4, 64 * 4 + 4 + 4 * 3 + 3)
    back = experts.unraveler(network, real.inputs)(jnp.asarray(found[expert, -1]))
    assert jax.tree.structure(back) == jax.tree.structure(params)


def test_wherever_the_data_lie_experts_are_the_same(three_classes, monkeypatch):
    train = three_classes.train
    on_host = three_classes._replace(
        train=train._replace(inputs=np.asarray(train.inputs))
    )
    here = experts.trajectories(three_classes, TRAINING, **NETWORK)
    # One batch on its way at a time.
    monkeypatch.setattr(experts, "_BLOCK_BYTES", 1)
    there = experts.trajectories(on_host, TRAINING, **NETWORK)
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)


def test_a_killed_build_goes_on_after_the_last_finished_expert(
    three_classes, tmp_path, monkeypatch, capfd
):
    arguments = {**NETWORK, "directory": tmp_path}
    whole = experts.trajectories(three_classes, TRAINING, **NETWORK)
    epochs, epoch = [], experts._epoch

    def watched(*given):
        if len(epochs) == 4:
            raise KeyboardInterrupt
        epochs.append(given)
        return epoch(*given)

    monkeypatch.setattr(experts, "_epoch", watched)
    with pytest.raises(KeyboardInterrupt):
        experts.trajectories(three_classes, TRAINING, **arguments)
    # Killed in the second expert's second epoch: that expert is trained again.
    epochs.clear()
    found = experts.trajectories(three_classes, TRAINING, **arguments)
    assert len(epochs) == 3
    np.testing.assert_array_equal(found, whole)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert "experts (0.0 MiB)" in capfd.readouterr().err
    # Whoever names the directory finds them, and others train their own.
    experts.trajectories(three_classes, TRAINING, **arguments)
    assert len(epochs) == 3
    one = TRAINING._replace(experts=1, epochs=1)
    experts.trajectories(three_classes, one, **arguments)
    assert len(epochs) == 4 and len(list(tmp_path.iterdir())) >= 2


def test_without_a_directory_the_cache_keeps_them(three_classes, monkeypatch):
    one, cache = TRAINING._replace(experts=1, epochs=1), in_memory()
    first = experts.trajectories(three_classes, one, **NETWORK, cache=cache)
    monkeypatch.setattr(experts, "_epoch", None)
    again = experts.trajectories(three_classes, one, **NETWORK, cache=cache)
    np.testing.assert_array_equal(first, again)


def test_all_that_makes_an_expert_is_known(three_classes):
    def known(problem=three_classes, training=TRAINING, augment=None, **network):
        return experts.about(
            problem, training, augment=augment, **{**NETWORK, **network}
        )

    settings = {"architecture": "convnet", "settings": {"depth": 1, "width": 4}}
    others = [
        known(three_classes._replace(fingerprint="other")),
        known(training=TRAINING._replace(seed=1)),
        known(training=TRAINING._replace(momentum=0.0)),
        known(settings={"depth": 2, "width": 5}),
        known(**settings),
        known(**settings, augment="dsa"),
    ]
    texts = {str(each) for each in (known(), *others)}
    assert len(texts) == len(others) + 1
    assert known() == known()


def test_predictions_are_probabilities_of_the_trained_expert(three_classes):
    training = TRAINING._replace(experts=1, epochs=5)
    found = experts.trajectories(three_classes, training, **NETWORK)
    rows = experts.predictions(three_classes, training, found[0, -1], **NETWORK)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-5)
    labels = np.asarray(three_classes.train.labels)
    assert np.mean(rows.argmax(axis=1) == labels) > 0.8


def test_a_diverging_expert_is_named(three_classes):
    wild = TRAINING._replace(learning_rate=1e30)
    with pytest.raises(ValueError, match="expert 0 diverged in epoch 1; .* is 1e.30"):
        experts.trajectories(three_classes, wild, **NETWORK)
