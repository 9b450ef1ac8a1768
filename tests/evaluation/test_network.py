"""Finite networks: the protocol's steps, one compilation, and learning digits."""

from unittest.mock import Mock

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import network, network_training
from ddjax.evaluation.network_training import PROTOCOLS, Protocol
from ddjax.models.networks import fully_connected
from ddjax.storage.cache import in_memory
from tests.evaluation.problems import (
    class_means,
    descended,
    digits,
    measured,
    of_regression,
    regression,
    some_real,
    variables_at_start,
)

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 1)
SMALL = {"architecture": "fully_connected", "settings": {"depth": 1}, "networks": 1}


def data(samples: int = 7):
    inputs = jax.random.normal(jax.random.key(1), (samples, 3))
    return inputs, jax.nn.one_hot(jnp.arange(samples) % 2, 2)


def test_every_sample_is_seen_once_an_epoch():
    whole, rest = network_training._epoch_rows(KEY, 10, 4)
    assert whole.shape == (2, 4) and rest.shape == (2,)
    rows = np.concatenate([np.ravel(whole), rest])
    assert sorted(rows.tolist()) == list(range(10))


def test_training_follows_the_protocol_step_by_step():
    inputs, targets = data(samples=7)
    student = fully_connected(outputs=2, depth=1)
    rules = Protocol(batch=4, learning_rate=0.1, weight_decay=0.01)

    def trained(**length):
        found = network_training.train(
            KEYS, inputs, targets, network=student,
            protocol=rules._replace(**length), loss="mean_squared",
        )  # fmt: skip
        assert found.statistics == {}
        return jax.tree.map(lambda leaf: leaf[0], found.params)

    def objective(params, rows):
        wrong = student.apply({"params": params}, inputs[rows]) - targets[rows]
        return jnp.mean(jnp.square(wrong))

    # Two batches an epoch.
    close = {"rtol": 1e-5, "atol": 1e-7}
    two_epochs = trained(epochs=2)
    chex.assert_trees_all_close(trained(steps=4, epochs=9), two_epochs, **close)
    start = variables_at_start(student, KEYS[0], inputs)["params"]
    chex.assert_trees_all_close(trained(steps=0), start, **close)
    # Five steps: two epochs and the first batch of the third; the rate drops after two
    # of them, wherever that is in an epoch.
    batches = []
    for key in jax.random.split(jax.random.split(KEYS[0])[1], 3):
        whole, rest = network_training._epoch_rows(jax.random.split(key)[0], 7, 4)
        batches += [*whole, rest]
    slopes = jax.jit(jax.grad(objective))
    gradients = [lambda params, rows=rows: slopes(params, rows) for rows in batches[:5]]
    wanted = descended(start, gradients, [0.1, 0.1, 0.01, 0.01, 0.01], decay=0.01)
    chex.assert_trees_all_close(trained(steps=5), wanted, **close)


class Normalised(nn.Module):
    """A linear layer behind batch normalisation."""

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        return nn.Dense(2)(norm(inputs))


def test_batch_statistics_are_neither_differentiated_nor_decayed():
    inputs, targets = data(samples=7)
    # So large a decay that a decayed statistic would be another number altogether.
    rules = Protocol(epochs=3, batch=4, learning_rate=0.1, weight_decay=0.5)
    student = Normalised()
    trained = network_training.train(
        KEYS, inputs, targets, network=student, protocol=rules, loss="squared"
    )
    variables = start = variables_at_start(student, KEYS[0], inputs)

    @jax.jit
    def train(variables, rows):
        return student.apply(variables, rows, train=True, mutable=["batch_stats"])

    for key in jax.random.split(jax.random.split(KEYS[0])[1], rules.epochs):
        order_key, _ = jax.random.split(key)
        # Batches of 4 and of 3 samples: what is left is not filled up.
        for rows in network_training._epoch_rows(order_key, 7, 4):
            for batch in rows.reshape(-1, rows.shape[-1]):
                # The statistics of the inputs do not depend on the parameters.
                _, changed = train(variables, inputs[batch])
                variables = {**variables, **changed}
    statistics = jax.tree.map(lambda leaf: leaf[0], trained.statistics)
    wanted = {"batch_stats": variables["batch_stats"]}
    chex.assert_trees_all_close(statistics, wanted, rtol=1e-5)
    kernel = trained.params["Dense_0"]["kernel"][0]
    before = start["params"]["Dense_0"]["kernel"]
    assert not np.allclose(kernel, before, atol=0.01)


def test_predictions_use_the_running_statistics():
    inputs, targets = data(samples=8)
    student = Normalised()
    trained = jax.vmap(lambda key: network_training.untrained(key, student, inputs))(
        jax.random.split(KEY, 2)
    )
    statistics = jax.tree.map(lambda leaf: leaf + 0.5, trained.statistics)
    trained = trained._replace(statistics=statistics)
    predict = network_training.predictor(student)
    together = predict(trained, inputs)
    alone = predict(trained, inputs[:1])
    assert together.shape == (8, 2, 2)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5, atol=1e-6)
    second = jax.tree.map(lambda leaf: leaf[1], trained)
    variables = {"params": second.params, **second.statistics}
    np.testing.assert_allclose(
        together[:, 1], student.apply(variables, inputs), rtol=1e-5, atol=1e-6
    )


def test_one_compilation_and_the_same_result_side_by_side():
    inputs, targets = data()
    settings = {
        "network": fully_connected(outputs=2, depth=2, width=5),
        "protocol": Protocol(epochs=3, batch=4),
        "loss": "squared",
    }
    before = network_training.train._cache_size()
    keys = jax.random.split(KEY, 3)
    first = network_training.train(keys, inputs, targets, **settings)
    other_keys = jax.random.split(jax.random.key(9), 3)
    network_training.train(other_keys, inputs + 1, targets, **settings)
    assert network_training.train._cache_size() == before + 1
    together = network_training.train(keys, inputs, targets, **settings, at_once=3)
    chex.assert_trees_all_close(first, together, rtol=1e-4, atol=1e-6)


def test_a_convnet_learns_digits():
    problem = digits()
    evaluation = network(
        settings={"depth": 1, "width": 8}, epochs=100, networks=2, loss="cross_entropy"
    )
    scores = evaluation.evaluate(KEY, class_means(problem), problem, "validation")
    assert evaluation.name == "network_convnet"
    found = scores["network_convnet/accuracy"]
    assert found.draws == 2
    assert 0.7 < found.mean <= 1.0


def test_networks_that_a_cache_keeps_serve_every_split(monkeypatch):
    problem, cache = digits((0, 1)), in_memory()
    evaluation = network(**SMALL, epochs=2)
    distilled, train = class_means(problem), Mock(wraps=network_training.train)
    monkeypatch.setattr(network_training, "train", train)
    for split in ("validation", "test"):
        kept = evaluation.evaluate(KEY, distilled, problem, split, cache)
    assert kept == evaluation.evaluate(KEY, distilled, problem, "test")
    assert train.call_count == 2
    other = distilled._replace(stored={**distilled.stored})
    other.stored["inputs"] = other.stored["inputs"] + 1
    evaluation.evaluate(KEY, other, problem, "test", cache)
    evaluation.evaluate(jax.random.key(8), distilled, problem, "test", cache)
    assert train.call_count == 4


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("scores", "auto"), ("probabilities", "auto"), ("margin", "soft_cross_entropy")],
)
def test_targets_of_every_kind_train_a_network(kind, loss):
    problem = digits((0, 1))
    evaluation = network(**SMALL, epochs=60, loss=loss)
    distilled = some_real(problem, 10, kind=kind)
    assert measured(evaluation, distilled, problem)["accuracy"] > 0.9


def test_regression_targets_give_an_error_and_no_accuracy():
    problem = regression()
    evaluation = network(**SMALL, epochs=300, learning_rate=0.05)
    scores = measured(evaluation, of_regression(problem), problem)
    assert set(scores) == {"mse"}
    assert scores["mse"] < 0.01


def test_augmentation_is_applied_to_the_training_batches():
    inputs, targets = data()
    settings = {
        "network": fully_connected(outputs=2, depth=1),
        "protocol": Protocol(epochs=2),
        "loss": "squared",
    }
    erased = network_training.train(
        KEYS, inputs, targets, **settings, augment=lambda key, rows: 0.0 * rows
    )
    plain = network_training.train(KEYS, 0.0 * inputs, targets, **settings)
    chex.assert_trees_all_close(erased, plain, rtol=1e-5, atol=1e-7)
    setting, problem = ["flip", {"name": "noise", "std": 0.1}], digits((0, 1))
    evaluation = network(**SMALL, epochs=2, augment=setting)
    assert 0.0 <= measured(evaluation, class_means(problem), problem)["accuracy"] <= 1.0
    assert evaluation.settings["augment"] == setting


def test_one_learning_rate_a_step():
    """Full-batch gradient descent, written out; another array is the same program."""
    inputs, targets = data(samples=7)
    student = fully_connected(outputs=2, depth=1)
    rates = jnp.asarray([0.5, 0.1, 0.3])

    def trained(rates):
        return network_training.train(
            KEYS, inputs, targets, network=student,
            protocol=network_training.INNER._replace(steps=3), loss="cross_entropy",
            learning_rates=rates,
        ).params  # fmt: skip

    def loss(params):
        outputs = student.apply({"params": params}, inputs)
        return jnp.mean(network_training.LOSSES["cross_entropy"](targets, outputs))

    start = variables_at_start(student, KEYS[0], inputs)["params"]
    wanted = descended(start, 3 * [jax.jit(jax.grad(loss))], rates, momentum=0.0)
    before = network_training.train._cache_size()
    found = jax.tree.map(lambda leaf: leaf[0], trained(rates))
    chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-6)
    trained(2 * rates)
    assert network_training.train._cache_size() == before + 1


def test_a_learning_rate_in_place_of_the_protocols():
    inputs, targets = data(samples=7)
    settings = {"network": fully_connected(outputs=2, depth=1), "loss": "squared"}
    rules, rate = Protocol(epochs=4, batch=4), jnp.asarray(0.03)
    given = network_training.train(
        KEYS, inputs, targets, **settings, protocol=rules, learning_rates=rate
    )
    rules = rules._replace(learning_rate=0.03)
    usual = network_training.train(KEYS, inputs, targets, **settings, protocol=rules)
    chex.assert_trees_all_close(given, usual, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "inner", "message"),
    [
        ({"protocol": "inner"}, None, "inner.step_sizes; .* holds: nothing"),
        (
            {"protocol": "inner"},
            {"learning_rate": 0.1},
            "protocol 'inner' needs .* inner.step_sizes; .* holds: learning_rate",
        ),
        (
            {"learning_rate": "learned"},
            {"step_sizes": [0.1]},
            "learning_rate 'learned' needs .* inner.learning_rate; .*: step_sizes",
        ),
    ],
)
def test_a_recipe_without_what_is_asked_for(settings, inner, message):
    problem = digits((0, 1))
    distilled = class_means(problem, recipe={} if inner is None else {"inner": inner})
    with pytest.raises(ValueError, match=message):
        network(**settings).evaluate(KEY, distilled, problem, "test")


def test_the_learning_rate_of_the_recipe():
    """A cache tells sets of other rates apart, though their pairs are the same."""
    problem, cache = digits((0, 1)), in_memory()
    learner = {**SMALL, "epochs": 20}

    def scores(inner, rate, *given):
        distilled = class_means(problem, recipe={"inner": inner})
        judge = network(**learner, learning_rate=rate)
        return judge.evaluate(KEY, distilled, problem, "validation", *given)

    found = [scores({"learning_rate": r}, "learned", cache) for r in (0.002, 0.0001)]
    assert found == [scores({}, rate) for rate in (0.002, 0.0001)]
    assert found[0] != found[1]


def test_published_protocols():
    assert PROTOCOLS["dc"] == Protocol(
        epochs=300,
        batch=256,
        learning_rate=0.01,
        drop_after=0.5,
        drop_factor=0.1,
        momentum=0.9,
        weight_decay=5e-4,
    )
    assert PROTOCOLS["dc_long"] == PROTOCOLS["dc"]._replace(epochs=1000)


def test_unknown_sizes_are_named():
    problem = digits((0, 1))
    evaluation = network(settings={"widht": 3})
    with pytest.raises(ValueError, match="'convnet': .*widht"):
        evaluation.evaluate(KEY, class_means(problem), problem, "test")
